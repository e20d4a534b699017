"""Which former reports a new one takes the place of."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from anomap.dicom.derived import derived_uid
from anomap.types import AnomalyResult, ImageSeries


def predecessors(series: ImageSeries, result: AnomalyResult, reports: Sequence[Dataset]) -> list[Dataset]:
    """Those of some former reports that a report on `series` takes the place of: on no other images than its own."""
    images, own = set(series.frame_ids), derived_uid(series, result, "sr")
    return [
        report
        for report in reports
        if str(report.SOPInstanceUID) != own and (evidence := _evidence(report)) and evidence <= images
    ]


def _evidence(report: Dataset) -> set[str]:
    """UIDs of the images that a report of ours is about."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in report.get(keyword, [])
        for referenced in study.ReferencedSeriesSequence
        for item in referenced.ReferencedSOPSequence
        if item.ReferencedSOPClassUID != SegmentationStorage
    }
