"""SR and result.json of a series; the end of every case, also of those that failed."""

from __future__ import annotations

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from anomap.output import as_error
from anomap.pipeline import write_report
from deploy_app.case import Case


class WriteReportOperator(Operator):
    """Port ``overlaid``: writes the report, and records the series in the books of the run."""

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("overlaid")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Take a case and close it."""
        self.close(op_input.receive("overlaid"))

    def close(self, case: Case) -> None:
        """Write the report of a case or its refusal; what concerns the whole run goes to `Case.halt`."""
        if case.error is not None:
            self._refuse(case, case.error)
            return
        try:
            content = write_report(
                case.analysis(), case.folder, case.study.config, case.segmentation, list(case.entries)
            )
        except Exception as error:
            self._refuse(case, error)
        else:
            case.study.record(case.name, content)

    def _refuse(self, case: Case, error: Exception) -> None:
        try:
            case.study.refuse(case.series, case.name, error)
        except Exception as fatal:
            case.halt.error = as_error(fatal)
