"""Read the input; choose model and cohort for every series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.deploy.conditions import BooleanCondition
from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from anomap.gate.site import cohort_for
from anomap.output import as_error
from anomap.pipeline import projection_config
from anomap.study import StudyRun
from anomap.types import ImageSeries
from deploy_app.case import Case, Halt


class LoadSelectOperator(Operator):
    """Emits one case a tick on port ``selected`` until the study is through.

    Args:
        fragment: The application.
        study: Books of the run; its configuration names the model.
        source: Folder, zip or single DICOM file.
        halt: Set when nothing can be read; the run ends when another operator sets it.
        name: As always, keyword arguments of `Operator`.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, study: StudyRun, source: Path, halt: Halt, **kwargs: Any
    ) -> None:
        self.study, self.source, self.halt = study, source, halt
        self._cases: Iterator[Case] | None = None
        # Without a condition of its own a source never stops ticking.
        self._more = BooleanCondition(fragment, name="more_series", enable_tick=True)
        super().__init__(fragment, self._more, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output("selected")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Emit the next case, or none any more."""
        self._cases = self._cases or self._read()
        case = next(self._cases, None) if self.halt.error is None else None
        if case is None:
            self._more.disable_tick()
        else:
            op_output.emit(case, "selected")

    def _read(self) -> Iterator[Case]:
        try:
            study = self.study.read(self.source)
        except Exception as error:
            self.halt.error = as_error(error)
            return
        for number, series in enumerate(study.series, 1):
            yield self._select(number, len(study.series), series)

    def _select(self, number: int, total: int, series: ImageSeries) -> Case:
        name = self.study.announce(number, total, series)
        case = Case(name=name, series=series, study=self.study, halt=self.halt)
        try:
            bundle, choice = self.study.choose(series, name)
            config = self.study.config
            cohort = cohort_for(config.cohort, bundle, projection_config(config))  # one that doesn't fit costs no time
        except Exception as error:
            return replace(case, error=error)
        return replace(case, bundle=bundle, choice=choice, cohort=cohort)
