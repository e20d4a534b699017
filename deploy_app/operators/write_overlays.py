"""SEG, Parametric Map, Secondary Capture and preview."""

from __future__ import annotations

from dataclasses import replace

from anomap.output import writing
from anomap.pipeline import write_overlays
from deploy_app.case import Case
from deploy_app.operators.stage import StageOperator


class WriteOverlaysOperator(StageOperator):
    """Port ``scored`` to ``overlaid``: writes the pictures into the series' folder; the report refers to them."""

    takes, gives, stage = "scored", "overlaid", "overlays"

    def advance(self, case: Case) -> Case:
        """Fill in `Case.segmentation` and `Case.entries`."""
        analysis = case.analysis()
        with writing():
            case.folder.mkdir()
        segmentation, entries = write_overlays(analysis, case.folder, case.study.config)
        return replace(case, segmentation=segmentation, entries=tuple(entries))
