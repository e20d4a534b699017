"""Parametric Map: the absolute residual of a CT in HU, voxel by voxel, as 32-bit floats."""

from __future__ import annotations

import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from anomap.dicom.codes import BODY_PARTS, HU, Q3_ABS_RESIDUAL, WHOLE_BODY
from anomap.dicom.derived import body_part, equipment, finish, identity, silent, sources
from anomap.types import AnomalyResult, ImageSeries, ScoreMap

SERIES_OFFSET = 3


def build_parametric_map(series: ImageSeries, score_map: ScoreMap, result: AnomalyResult) -> Dataset | None:
    """The residual's magnitude as a Parametric Map on the source voxels; 0 where nothing was compared.

    Args:
        series: A CT with DICOM headers.
        score_map: Its map "residual".
        result: For identity and provenance.

    Returns:
        The object, or None without Frame of Reference, which the object must have.

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    if not series.frame_of_reference:
        return None
    values = np.abs(score_map.maps["residual"])
    np.nan_to_num(values, copy=False, nan=0.0)
    top = max(float(values.max()), 1.0)
    with silent():
        dataset: Dataset = ParametricMap(
            source_images=sources(series),
            pixel_array=values,
            **identity(series, result, "pm", SERIES_OFFSET),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label="ABS_RESIDUAL",
                    lut_explanation="Magnitude of image minus reconstruction",
                    unit=HU,
                    value_range=(0.0, top),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=Q3_ABS_RESIDUAL,
                )
            ],
            window_center=top / 2,
            window_width=top,
            content_label="ANOMAP_RESIDUAL",
            content_description="Magnitude of image minus reconstruction; not a diagnosis",
            **equipment(result),
        )
        sort_ascending(dataset)
        _state_anatomy(dataset, series)
    return finish(dataset, series, result, "anomap residual in HU")


def sort_ascending(dataset: Dataset) -> None:
    """Put the frames in ascending order along the slice normal, in place.

    highdicom writes them from the top down, and dcmqi's ``paramap2itkimage``, hence 3D Slicer, takes the stored
    order for ascending whatever the positions say: the map would appear head to foot.

    Args:
        dataset: A multi-frame object with float pixels and one dimension of positions.
    """
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    heights = [normal @ np.array(g.PlanePositionSequence[0].ImagePositionPatient, float) for g in groups]
    order = np.argsort(heights, kind="stable")
    pixels = np.frombuffer(dataset.FloatPixelData, np.uint8).reshape(len(groups), -1)
    dataset.FloatPixelData = b"".join(pixels[k].data for k in order)  # a series of 300 slices is 315 MB a copy
    dataset.PerFrameFunctionalGroupsSequence = Items([groups[k] for k in order])
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]


def _state_anatomy(dataset: Dataset, series: ImageSeries) -> None:
    """Frame Anatomy, without which ``paramap2itkimage`` (dcmqi 1.5.7) crashes."""
    region = BODY_PARTS.get(body_part(series), WHOLE_BODY)
    item = Dataset()
    item.FrameLaterality = "U"
    item.AnatomicRegionSequence = [CodedConcept.from_code(region)]
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [item]
