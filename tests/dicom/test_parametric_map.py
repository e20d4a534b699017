"""Parametric Map: valid, and the residual in HU comes back through dcmqi in place, slice by slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomap.dicom.parametric_map import build_parametric_map
from anomap.dicom.phantom import write_ct_phantom
from tests.dicom.tools import (
    ORIENTATIONS,
    analysed,
    centroid,
    complaints,
    made_of,
    needle_phantom,
    parametric_map,
    saved,
)


def test_a_map_is_valid_and_dcmqi_gives_the_values_back(tmp_path):
    write_ct_phantom(tmp_path / "ct", slices=4, rows=64, columns=80)
    analysis = analysed(tmp_path / "ct")
    residual = analysis.score_map.maps["residual"]
    residual[1, :5] = np.nan  # not compared
    path = saved(build_parametric_map(analysis.series, analysis.score_map, analysis.result), tmp_path / "pm.dcm")
    assert complaints(path) == []
    values, affine = parametric_map(path, tmp_path / "read")
    np.testing.assert_allclose(affine, analysis.series.affine, atol=1e-4)
    np.testing.assert_array_equal(values, np.nan_to_num(np.abs(residual)))


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_needle_stays_where_it_is(orientation, reverse, tmp_path):
    series, geometry, truth = needle_phantom(tmp_path / "ct", orientation, reverse=reverse)
    analysis = made_of(series)
    residual = np.where(series.pixels > 900, -series.pixels, 0).astype(np.float32)
    scores = replace(analysis.score_map, maps={**analysis.score_map.maps, "residual": residual})
    path = saved(build_parametric_map(series, scores, analysis.result), tmp_path / "pm.dcm")
    values, affine = parametric_map(path, tmp_path / "read")
    off = np.linalg.solve(geometry[:3, :3], centroid(values, affine) - truth)
    assert np.abs(off).max() < 0.5, f"{off} voxels off"


def test_frames_ascend_along_the_slice_normal(tmp_path):
    write_ct_phantom(tmp_path / "ct", slices=3, rows=64, columns=64, reverse=True)
    analysis = analysed(tmp_path / "ct")
    dataset = build_parametric_map(analysis.series, analysis.score_map, analysis.result)
    groups = dataset.PerFrameFunctionalGroupsSequence
    heights = [float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups]
    assert heights == sorted(heights)
    assert [group.FrameContentSequence[0].DimensionIndexValues for group in groups] == [1, 2, 3]


def test_there_is_no_map_without_a_frame_of_reference(tmp_path):
    write_ct_phantom(tmp_path / "ct", slices=3, rows=64, columns=64)
    analysis = analysed(tmp_path / "ct")
    series = replace(analysis.series, frame_of_reference="")
    assert build_parametric_map(series, analysis.score_map, analysis.result) is None
