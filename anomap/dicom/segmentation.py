"""SEG BINARY: the unusual regions, one segment each, on the pixels of the source images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset

from anomap.dicom.codes import ARTIFICIAL_INTELLIGENCE, R1_REGION, SPATIAL_CONCEPT
from anomap.dicom.derived import (
    COMPARED,
    Traced,
    algorithm_name,
    algorithm_version,
    derived_uid,
    equipment,
    finish,
    identity,
    silent,
    sources,
)
from anomap.types import AnomalyResult, ImageSeries, Region, UInt16

SERIES_OFFSET = 2
_FIRST = CIELabColor(62.0, 62.0, 46.0)  # the region with the highest residual: red; the others amber, as in the preview
_OTHERS = CIELabColor(82.0, 14.0, 56.0)


class ContentLabel(NamedTuple):
    """Content Label, Content Description, and what the series holds (see `finish`)."""

    code: str
    description: str
    series: str


def build_segmentation(series: ImageSeries, result: AnomalyResult) -> Dataset | None:
    """The regions as a Segmentation object.

    Args:
        series: With DICOM headers; CT, or one radiograph without Frame of Reference.
        result: Its regions; segment n is `Region.label` n.

    Returns:
        The object. None when there is no region (an empty SEG is not allowed, and the report says so), and of a CT
        without Frame of Reference, which the object must share.

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    if not result.regions or (series.modality == "CT" and not series.frame_of_reference):
        return None
    segments = [_segment(region, series, result) for region in result.regions]
    label = ContentLabel("ANOMAP_REGIONS", "Unusual regions; not a diagnosis", "anomap regions")
    return binary_segmentation(series, result, result.labels, segments, label, "seg", SERIES_OFFSET)


def binary_segmentation(
    series: ImageSeries,
    result: Traced,
    labels: UInt16,
    segments: Sequence[SegmentDescription],
    label: ContentLabel,
    what: str,
    offset: int,
    contribution: str = COMPARED,
) -> Dataset:
    """A SEG BINARY on the pixels of the source images.

    Args:
        series: With DICOM headers; CT with Frame of Reference, or one radiograph without.
        result: Whose provenance names the object.
        labels: ``(K, R, C)``, n where segment n is, 0 elsewhere; not all 0.
        segments: Numbered from 1.
        label: How the object calls itself.
        what: Names the object, see `identity`.
        offset: Of the series number, see `identity`.
        contribution: See `finish`.

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    with silent():
        dataset: Dataset = Segmentation(
            source_images=sources(series),
            pixel_array=labels.astype(np.uint8 if len(segments) < 256 else np.uint16),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            **identity(series, result, what, offset),
            content_label=label.code,
            content_description=label.description,
            **equipment(result),
        )
        if not series.frame_of_reference:
            _drop_empty_measures(dataset)
    return finish(dataset, series, result, label.series, contribution)


def tracking_uid(series: ImageSeries, result: AnomalyResult, region: Region) -> str:
    """The UID by which report and segmentation mean the same region."""
    return derived_uid(series, result, f"region/{region.label}")


def tracking_id(region: Region) -> str:
    """The name by which people do."""
    return f"anomap-R{region.label}"


def _segment(region: Region, series: ImageSeries, result: AnomalyResult) -> SegmentDescription:
    return SegmentDescription(
        segment_number=region.label,
        segment_label=f"Unusual region {region.label}",
        segmented_property_category=SPATIAL_CONCEPT,  # a place in the image: neither anatomy nor morphology
        segmented_property_type=R1_REGION,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm_name(result), version=algorithm_version(result), family=ARTIFICIAL_INTELLIGENCE
        ),
        tracking_uid=tracking_uid(series, result, region),
        tracking_id=tracking_id(region),
        display_color=_FIRST if region.label == 1 else _OTHERS,
    )


def _drop_empty_measures(dataset: Dataset) -> None:
    """Highdicom refuses to read back its own Pixel Measures of an image without Frame of Reference."""
    for group in dataset.SharedFunctionalGroupsSequence:
        if "PixelMeasuresSequence" in group:
            del group.PixelMeasuresSequence
