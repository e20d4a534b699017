"""The quality gate as an operator for any application, and the fork behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from anomap.config import AnalyzeConfig
from anomap.console import plain_lines
from anomap.gate.policy import Policy
from anomap.gate.run import GateVerdict, gate


class QualityGateOperator(Operator):
    """Emits one `GateVerdict` on port ``verdict``: what `anomap gate` says of the same study, failures included.

    Report, preview and ``result.json`` are published before it is emitted. There is no shadow mode here: an
    application that wants one connects its next step without a fork.

    Args:
        fragment: The application.
        source: Folder, zip or single DICOM file.
        output: Folder to publish as; must be empty or missing.
        models: Folder of bundles.
        config: How to analyse; names the site's cohort, without which nothing passes.
        policy: What to check and when to raise an alarm.
        name: As always, keyword arguments of `Operator`.

    Attributes:
        verdict: What was emitted last; before that, one that has not passed.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        source: Path,
        output: Path,
        models: Path,
        config: AnalyzeConfig,
        policy: Policy,
        **kwargs: Any,
    ) -> None:
        self.source, self.output, self.models, self.config, self.policy = source, output, models, config, policy
        self.verdict = GateVerdict()
        # Without a condition of its own a source never stops ticking.
        super().__init__(fragment, CountCondition(fragment, 1), *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output("verdict")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Judge the study."""
        listener = plain_lines(sys.stderr)
        self.verdict = gate(self.source, self.output, self.models, self.config, self.policy, listener=listener)
        op_output.emit(self.verdict, "verdict")


def fork(fragment: Fragment, gate: QualityGateOperator, passed: Operator, withheld: Operator) -> None:
    """Connect port ``verdict`` of both operators to the gate's, so that only one of them ever gets it.

    Both must *require* the port: an operator whose input is optional ticks without it. There are two branches because
    Holoscan 4.6 ends with a segmentation fault when a gate with dynamic flows chooses none.

    Args:
        fragment: The application, in its `compose`.
        gate: The gate.
        passed: Runs after PASS, and only then.
        withheld: Runs after everything else.
    """
    for branch in (passed, withheld):
        fragment.add_flow(gate, branch, {("verdict", "verdict")})
    fragment.set_dynamic_flows(gate, lambda _: gate.add_dynamic_flow(passed if gate.verdict.passed else withheld))
