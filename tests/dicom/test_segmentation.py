"""SEG: valid, readable by dcmqi and highdicom, and in the right place whatever the orientation."""

from __future__ import annotations

from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest

from anomap.dicom.phantom import NEEDLE_HU
from anomap.dicom.segmentation import build_segmentation, tracking_uid
from tests.dicom.tools import ORIENTATIONS, analysed, centroid, complaints, made_of, needle_phantom, saved, segments

BOXES = ((0, 10, 20, 1, 15, 30), (2, 40, 50, 2, 44, 52))


def test_a_segmentation_of_ct_is_valid_and_dcmqi_gives_the_labels_back(ct, tmp_path):
    analysis = analysed(ct, *BOXES)
    path = saved(build_segmentation(analysis.series, analysis.result), tmp_path / "seg.dcm")
    assert complaints(path) == []
    read = np.zeros(analysis.series.pixels.shape, int)
    for values, affine in segments(path, tmp_path / "read"):
        where = np.argwhere(values)
        points = (affine @ np.c_[where, np.ones(len(where))].T).T
        index = np.rint(np.linalg.solve(analysis.series.affine, points.T)[:3]).astype(int)
        read[tuple(index)] = values[tuple(where.T)]
    np.testing.assert_array_equal(read, analysis.result.labels)


def test_a_segmentation_of_a_radiograph_is_valid_and_highdicom_reads_it(radiograph, tmp_path):
    analysis = analysed(radiograph, (0, 10, 20, 0, 30, 40))
    path = saved(build_segmentation(analysis.series, analysis.result), tmp_path / "seg.dcm")
    assert complaints(path) == []
    seg = highdicom.seg.segread(path)
    assert "FrameOfReferenceUID" not in seg
    pixels = seg.get_pixels_by_source_instance([analysis.series.frame_ids[0]], combine_segments=True)
    np.testing.assert_array_equal(pixels, analysis.result.labels)


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_needle_stays_where_it_is(orientation, reverse, tmp_path):
    series, geometry, truth = needle_phantom(tmp_path / "ct", orientation, reverse=reverse)
    where = np.argwhere(series.pixels > NEEDLE_HU - 300)
    box = (*where.min(axis=0).tolist(), *where.max(axis=0).tolist())
    analysis = made_of(series, box)
    path = saved(build_segmentation(series, analysis.result), tmp_path / "seg.dcm")
    ((values, affine),) = segments(path, tmp_path / "read")
    off = np.linalg.solve(geometry[:3, :3], centroid(values, affine) - truth)
    assert np.abs(off).max() < 0.5, f"{off} voxels off"


def test_segments_are_places_and_share_tracking_with_the_report(ct):
    analysis = analysed(ct, *BOXES)
    seg = build_segmentation(analysis.series, analysis.result)
    assert [int(item.SegmentNumber) for item in seg.SegmentSequence] == [1, 2]
    for item, region in zip(seg.SegmentSequence, analysis.result.regions, strict=True):
        assert item.TrackingUID == tracking_uid(analysis.series, analysis.result, region)
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "ANM-R1"
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Spatial and Relational Concept"
    assert "NOT A DIAGNOSIS" in seg.SeriesDescription


def test_without_a_region_there_is_no_segmentation(ct):
    analysis = analysed(ct)
    assert build_segmentation(analysis.series, analysis.result) is None


def test_a_ct_without_frame_of_reference_gets_no_overlay_and_says_so(ct, tmp_path):
    for path in ct.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(tmp_path / path.name)
    analysis = analysed(tmp_path, *BOXES)
    assert build_segmentation(analysis.series, analysis.result) is None
    assert any("Frame of Reference" in warning for warning in analysis.series.warnings)


def test_the_same_result_gives_the_same_bytes_and_another_one_other_uids(ct, tmp_path):
    analysis = analysed(ct, *BOXES)
    one = saved(build_segmentation(analysis.series, analysis.result), tmp_path / "1.dcm").read_bytes()
    two = saved(build_segmentation(analysis.series, analysis.result), tmp_path / "2.dcm").read_bytes()
    assert one == two
    other = replace(analysis.result, provenance={**analysis.result.provenance, "bundle_sha256": "ef" * 32})
    assert (
        build_segmentation(analysis.series, other).SOPInstanceUID != pydicom.dcmread(tmp_path / "1.dcm").SOPInstanceUID
    )
