"""The anomaly report: a Comprehensive 3D SR with template TID 1500, "Imaging Measurement Report".

    Imaging Measurement Report                              PRELIMINARY, COMPLETE, UNVERIFIED
      Device observer, Procedure reported, Image Library
      Imaging Measurements
        anomap series         worst scores of all images, p-value, gate             TID 1501
        anomap image 1..3     scores of the worst images                            TID 1501
        anomap body 1..3      the same inside the body                              TID 1501
        anomap window 1..3    the worst window of each, with its outline            TID 1410
        anomap place 1..3     the oddest place of each, where the model knows any   TID 1410
        anomap-R1..10         regions by reference to the segmentation              TID 1410, over slices TID 1411
        anomap-P1..10         their outlines, for viewers that draw no segmentation TID 1410

There is a report also when nothing was found: no report must mean that nothing was run. Scores of all images
stand in ``result.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from anomap.calibration import worst_first
from anomap.dicom import codes
from anomap.dicom.derived import (
    MANUFACTURER,
    algorithm_name,
    algorithm_version,
    body_part,
    derived_uid,
    device_uid,
    equipment,
    finish,
    identity,
    plain,
    silent,
    sources,
)
from anomap.dicom.image_library import described, forget
from anomap.dicom.predecessors import predecessors
from anomap.dicom.segmentation import tracking_id, tracking_uid
from anomap.preprocessing.geometry import box_to_source
from anomap.scoring import WITHOUT_PROJECTION
from anomap.types import AnomalyResult, ImageSeries, Int64, Prepared, Region, ScoreMap, Verdict

SERIES_OFFSET = 1
MAX_IMAGES = 3  # with groups of their own; 300 slices would hide the finding
SIGNIFICANT = 0.05  # a single score's p-value at which it is called abnormally high, in a series that doesn't pass

# scores of a whole image
_WHOLE = ("mse_full", "wd_full", "w_distance", "feature_residual", "feature_distance", "neighbour_distance")
_GATE = {Verdict.PASS: codes.G2_PASS, Verdict.REJECT: codes.G4_REJECT}  # all others: ANM-G3, review
_QUALITY = {
    Verdict.PASS: codes.USABLE,
    Verdict.REVIEW: codes.USABLE_BELOW_STANDARD,
    Verdict.REJECT: codes.UNUSABLE,
}


def build_report(
    series: ImageSeries,
    prepared: Prepared,
    score_map: ScoreMap,
    result: AnomalyResult,
    segmentation: Dataset | None = None,
    previous: Sequence[Dataset] = (),
) -> Dataset:
    """The report of one series.

    Args:
        series: With DICOM headers.
        prepared: Model images; their way back places the windows.
        score_map: Scores of its images.
        result: p-values, regions, verdict, provenance.
        segmentation: From `anomap.dicom.segmentation.build_segmentation`; the regions refer to it.
        previous: Former reports; those on some of the same images become Predecessor Documents (PS3.3 C.17.2.3).

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    with silent():
        headers = sources(series)
        writer = _Writer(series, headers, prepared, score_map, result)
        groups: list[Any] = [writer.whole_series()]
        for rank, n in enumerate(worst_first(result, score_map)[:MAX_IMAGES], 1):
            groups += writer.image(rank, n)
        for region in result.regions:
            if segmentation is not None:
                groups.append(writer.segment(region, segmentation))
            groups.append(writer.outline(region))
        observer = sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(result),
            name=algorithm_name(result),
            manufacturer_name=MANUFACTURER,
            model_name=algorithm_name(result),
        )
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(
                observer_device_context=sr.ObserverContext(
                    observer_type=codes.DEVICE, observer_identifying_attributes=observer
                )
            ),
            procedure_reported=codes.CT_PROCEDURE if series.modality == "CT" else codes.IMAGING_PROCEDURE,
            imaging_measurements=groups,
            title=codes.REPORT,
            language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(codes.ENGLISH),
            referenced_images=[described(header) for header in headers],
        )
        report: Dataset = sr.Comprehensive3DSR(
            evidence=[*headers, *([segmentation] if segmentation is not None else [])],
            content=content,
            **identity(series, result, "sr", SERIES_OFFSET),
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=predecessors(series, result, previous) or None,
            **equipment(result),
        )
        for header in headers:
            forget(report.ContentSequence, header)
        _mend(report.ContentSequence)
    return finish(report, series, result, "anomap report")


@dataclass(frozen=True, slots=True)
class _Writer:
    """Measurement groups of one report."""

    series: ImageSeries
    headers: list[Dataset]
    prepared: Prepared
    score_map: ScoreMap
    result: AnomalyResult

    def whole_series(self) -> Any:
        result = self.result
        names = [name for name in (*_WHOLE, "combined") if name in result.summary]
        many = len(self.score_map.frame) > 1
        measurements = [
            self._score(name, result.summary[name], _worst_rank(result, name), codes.MAXIMUM if many else None)
            for name in names
        ]
        if result.cohort_size:
            measurements.append(sr.Measurement(name=codes.P_VALUE, value=result.p_value, unit=codes.NO_UNITS))
        evaluations = [sr.QualitativeEvaluation(codes.G1_GATE, _GATE.get(result.verdict, codes.G3_REVIEW))]
        if result.verdict in _QUALITY:  # nothing is said of quality where nothing could be decided
            evaluations.append(sr.QualitativeEvaluation(codes.QUALITY_ASSESSMENT, _QUALITY[result.verdict]))
        return sr.MeasurementsAndQualitativeEvaluations(
            **self._common("anomap series", codes.FINDING_IMAGE_REGION),
            algorithm_id=self._algorithm(),
            measurements=measurements,
            qualitative_evaluations=evaluations,
            source_images=[_measured(self.headers[int(frame)]) for frame in self.score_map.frame],
        )

    def image(self, rank: int, n: int) -> list[Any]:
        """Groups of one image: whole, body, worst window, oddest places."""
        header = self.headers[int(self.score_map.frame[n])]
        groups: list[Any] = []
        for place, names in (
            ("image", _WHOLE),
            ("body", ("mse_body", "wd_body")),
        ):
            measurements = self._scores(names, n)
            if measurements:
                groups.append(
                    sr.MeasurementsAndQualitativeEvaluations(
                        **self._common(f"anomap {place} {rank}", codes.FINDING_IMAGE_REGION),
                        measurements=measurements,
                        source_images=[_measured(header)],
                    )
                )
        groups.append(self._box("window", rank, n, self.score_map.top_window, ("mse_patch", "wd_patch")))
        for what, boxes, name in (
            ("place", self.score_map.top_place, "feature_patch"),
            ("change", self.score_map.top_change, "neighbour_patch"),
        ):
            if boxes is not None:
                groups.append(self._box(what, rank, n, boxes, (name,), codes.M2_METHOD))
        return groups

    def _box(
        self, what: str, rank: int, n: int, boxes: Int64, names: tuple[str, ...], method: Code = codes.M1_METHOD
    ) -> Any:
        """The outline of a box ``(N, 4)`` on the model grid, with scores."""
        box = box_to_source(self.prepared.to_source[n], boxes[n])
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **self._common(f"anomap {what} {rank}", codes.FINDING_IMAGE_REGION, method=method),
            referenced_region=_outline(box, self.headers[int(self.score_map.frame[n])]),
            measurements=self._scores(names, n),
        )

    def segment(self, region: Region, segmentation: Dataset) -> Any:
        """A region by its segment."""
        common = self._common(tracking_id(region), codes.R1_REGION, tracking_uid(self.series, self.result, region))
        if region.volume_ml is not None and region.bbox[0] != region.bbox[3]:
            frames = [self.headers[k] for k in range(region.bbox[0], region.bbox[3] + 1)]
            shown = [h for k, h in enumerate(frames, region.bbox[0]) if (self.result.labels[k] == region.label).any()]
            return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                **common,
                referenced_segment=sr.ReferencedSegment(
                    segmentation.SOPClassUID,
                    segmentation.SOPInstanceUID,
                    region.label,
                    source_images=[_segmented(header) for header in shown],
                ),
                measurements=[*self._of_region(region), sr.Measurement(codes.VOLUME, region.volume_ml, codes.ML)],
            )
        header = self.headers[region.frame]
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **common,
            referenced_segment=sr.ReferencedSegmentationFrame(
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                frame_of_segment(segmentation, region.label, str(header.SOPInstanceUID)),
                region.label,
                _segmented(header),
            ),
            measurements=self._of_region(region),
        )

    def outline(self, region: Region) -> Any:
        """A region by the box around it on the image where it is highest."""
        inside = np.argwhere(self.result.labels[region.frame] == region.label)
        (row0, col0), (row1, col1) = inside.min(axis=0), inside.max(axis=0) + 1
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **self._common(f"anomap-P{region.label}", codes.R1_REGION),
            referenced_region=_outline((row0, col0, row1, col1), self.headers[region.frame]),
            measurements=self._of_region(region),
        )

    def _common(
        self, name: str, finding: Code, uid: str | None = None, method: Code = codes.M1_METHOD
    ) -> dict[str, Any]:
        site = codes.BODY_PARTS.get(body_part(self.series))
        return {
            "tracking_identifier": sr.TrackingIdentifier(uid or derived_uid(self.series, self.result, name), name),
            "finding_type": finding,
            "method": method,
            "finding_sites": [sr.FindingSite(site)] if site is not None else None,
        }

    def _algorithm(self) -> Any:
        """TID 4019: what made the scores, with which settings, compared with what."""
        provenance, result = self.result.provenance, self.result
        settings = (
            f"projection preset {provenance.get('preset', '')}; configuration sha256 "
            f"{str(provenance.get('config_sha256', ''))[:12]}; seeds derived from SOP Instance UIDs"
        )
        if result.cohort_size:
            reference = f"reference cohort {provenance.get('cohort_id', '')}: {self._population()}"
        else:
            reference = "no reference cohort"
        look = [f"quick look at one image in {result.every}"] if result.every > 1 else []
        return sr.AlgorithmIdentification(
            name=algorithm_name(result),
            version=algorithm_version(result),
            parameters=[plain(settings), plain(reference), *look],
            family=codes.ARTIFICIAL_INTELLIGENCE,
            manufacturer=MANUFACTURER,
        )

    def _population(self) -> str:
        return plain(f"{self.result.cohort_description} (n = {self.result.cohort_size})")

    def _scores(self, names: Iterable[str], n: int) -> list[Any]:
        per_image, result = self.score_map.per_image, self.result
        return [
            self._score(name, float(per_image[name][n]), _rank(result, name, n)) for name in names if name in per_image
        ]

    def _score(self, name: str, value: float, rank: tuple[float, float] | None, derivation: Code | None = None) -> Any:
        """A score with its place in the cohort, where there is one."""
        properties = None
        if rank is not None:
            p, share = rank
            ranking = sr.NumContentItem(
                name=codes.PERCENTILE_RANKING,
                value=round(share, 3),
                unit=codes.PERCENT,
                relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES,
            )
            card = f"model card of {self.result.provenance.get('bundle_name', '')}"
            properties = sr.MeasurementProperties(
                normality=self._normality(p),
                measurement_statistical_properties=sr.MeasurementStatisticalProperties(
                    [ranking], description=self._population(), authority=plain(card)
                ),
            )
        return sr.Measurement(
            name=codes.SCORE_CONCEPTS[name],
            value=value,
            unit=codes.score_unit(name, self.score_map.unit),
            derivation=derivation,
            method=codes.M2_METHOD if name in WITHOUT_PROJECTION else None,
            properties=properties,
        )

    def _normality(self, p: float) -> Code:
        if self.result.verdict is Verdict.PASS:
            return codes.NORMAL
        if self.result.verdict in (Verdict.REVIEW, Verdict.REJECT):
            return codes.ABNORMALLY_HIGH if p <= SIGNIFICANT else codes.NORMAL
        return codes.UNDETERMINED

    def _of_region(self, region: Region) -> list[Any]:
        # The affine of a radiograph without spacing counts pixels.
        area = codes.MM2 if self.series.has_physical_spacing else codes.PIXELS
        found = [
            *(self._score(name, peak, None, codes.MAXIMUM) for name, peak in region.peaks.items()),
            self._score("mse_patch", region.mean_mse, None, codes.MEAN),
            sr.Measurement(codes.AREA, region.area_mm2, area),
        ]
        if self.result.cohort_size:
            # over the whole series where that is known: many regions share one chance of an alarm
            p = region.p_value if region.p_series is None else region.p_series
            found.append(sr.Measurement(codes.P_VALUE, p, codes.NO_UNITS))
        return found


def frame_of_segment(segmentation: Dataset, segment: int, source_uid: str) -> int:
    """Number of the SEG's frame that shows a segment on a source image.

    Raises:
        LookupError: When there is none.
    """
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(segmentation.PerFrameFunctionalGroupsSequence, 1):
        # highdicom puts the segment of a SEG with one segment among the shared groups
        identified = group if "SegmentIdentificationSequence" in group else shared
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        if (
            int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == segment
            and str(source.ReferencedSOPInstanceUID) == source_uid
        ):
            return number
    raise LookupError(f"no frame shows segment {segment} on that image")


def _rank(result: AnomalyResult, name: str, n: int) -> tuple[float, float] | None:
    """p-value and percentile of an image's score, None without a cohort."""
    if name not in result.p_by_score:
        return None
    return float(result.p_by_score[name][n]), float(result.percentile_by_score[name][n])


def _worst_rank(result: AnomalyResult, name: str) -> tuple[float, float] | None:
    """The same of the worst image."""
    if name not in result.p_by_score:
        return None
    return float(result.p_by_score[name].min()), float(result.percentile_by_score[name].max())


def _outline(box: Sequence[float] | np.ndarray, header: Dataset) -> Any:
    """A closed rectangle as SCOORD: (column, row) from the outer corner of the first pixel (PS3.3 C.18.6.1)."""
    row0, col0, row1, col1 = (float(value) for value in box)
    row0, row1 = (min(max(value, 0.0), float(header.Rows)) for value in (row0, row1))
    col0, col1 = (min(max(value, 0.0), float(header.Columns)) for value in (col0, col1))
    corners = np.array([[col0, row0], [col1, row0], [col1, row1], [col0, row1], [col0, row0]])
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=corners,
        source_image=sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID),
    )


def _measured(header: Dataset) -> Any:
    return sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)


def _segmented(header: Dataset) -> Any:
    return sr.SourceImageForSegmentation(header.SOPClassUID, header.SOPInstanceUID)


def _mend(items: Iterable[Dataset]) -> None:
    """What highdicom 0.28.2 writes against the standard, in place, through the whole tree."""
    for item in items:
        concept: Mapping[int, Any] | Any = item.get("ConceptNameCodeSequence")
        if concept and concept[0].get("CodeValue") == codes.MEASUREMENT_METHOD.value:
            item.RelationshipType = "HAS CONCEPT MOD"  # TID 1501 row 4; written as CONTAINS
        for reference in item.get("ReferencedSOPSequence", []):
            if "ReferencedFrameNumber" in reference and "ReferencedSegmentNumber" in reference:
                del reference.ReferencedSegmentNumber  # one or the other (PS3.3 table 10-3)
        _mend(item.get("ContentSequence", []))
