"""Source pixels to model input."""

from __future__ import annotations

from dataclasses import replace

from anomap.preprocessing import prepare
from deploy_app.case import Case
from deploy_app.operators.stage import StageOperator


class PrepareOperator(StageOperator):
    """Port ``selected`` to ``prepared``: intensity window or grey-scale pipeline, body mask, model grid."""

    takes, gives, stage = "selected", "prepared", "prepare"

    def advance(self, case: Case) -> Case:
        """Fill in `Case.prepared`."""
        case.need("bundle")
        return replace(case, prepared=prepare(case.series, case.bundle.spec))  # type: ignore[union-attr]
