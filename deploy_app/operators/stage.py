"""What the operators in the middle share: one case in, the same case with more in it out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from deploy_app.case import Case


class StageOperator(Operator):
    """Base of the middle operators: ports, clock, and failures that stay with their series.

    A case that failed before is handed on untouched, so that every series reaches the report.
    """

    takes: ClassVar[str]  # name of the input port
    gives: ClassVar[str]  # ... and of the output port
    stage: ClassVar[str]  # as in result.json, run.seconds

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input(self.takes)
        spec.output(self.gives)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Take a case, advance it, give it on."""
        op_output.emit(self.tried(op_input.receive(self.takes)), self.gives)

    def tried(self, case: Case) -> Case:
        """The case after this stage, or with the reason why there is none."""
        if case.error is not None:
            return case
        start = time.perf_counter()
        try:
            case.study.stage(self.stage, 0, 1)
            advanced = self.advance(case)
            case.study.stage(self.stage, 1, 1)
        except Exception as error:
            return replace(case, error=error)
        case.seconds.setdefault(self.stage, round(time.perf_counter() - start, 4))
        return advanced

    def advance(self, case: Case) -> Case:
        """The work of the stage.

        Raises:
            AnomapError: What the stage raises.
        """
        raise NotImplementedError
