"""Regions on the source grid: where, how large, in which order, for every orientation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anomap.regions import Layer, find_regions


def layer(values, threshold=10.0, spread=1.0, score="wd_patch", spill=0.0):
    return Layer(score=score, values=np.asarray(values, np.float32), threshold=threshold, spread=spread, spill=spill)


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    """Axial: k along z, rows along y, columns along x."""
    result = np.zeros((4, 4))
    result[2, 0], result[1, 1], result[0, 2], result[3, 3] = *spacing, 1.0
    result[:3, 3] = origin
    return result


def heights(regions):
    return [region.peaks["wd_patch"] for region in regions]


def find(wd, threshold=10.0, is_volume=True, min_area_px=1.0, *, others=(), residual=None, matrix=None, **more):
    layers = (layer(wd, threshold), *others)
    residual = np.zeros(np.shape(wd)) if residual is None else residual
    matrix = affine() if matrix is None else matrix
    return find_regions(layers, np.float32(residual), matrix, is_volume=is_volume, min_area_px=min_area_px, **more)


def test_nothing_above_the_threshold_is_no_region():
    wd = np.full((2, 8, 8), 10.0)  # the threshold itself isn't above it
    wd[0, 2] = np.nan
    labels, regions = find(wd)
    assert regions == ()
    assert labels.dtype == np.uint16
    assert labels.shape == wd.shape
    assert not labels.any()


def test_a_region_is_measured_in_millimetres():
    wd = np.zeros((4, 20, 30))
    wd[1:3, 5:9, 10:16] = 20
    wd[2, 6, 12] = 50
    residual = np.full(wd.shape, 99.0)
    residual[1:3, 5:9, 10:16] = -3.0
    labels, (region,) = find(wd, residual=residual, matrix=affine((5.0, 2.0, 3.0)))
    assert region.label == 1
    assert region.frame == 2
    assert region.bbox == (1, 5, 10, 2, 8, 15)
    assert region.area_mm2 == pytest.approx(24 * 6)
    assert region.volume_ml == pytest.approx(48 * 30 / 1000)
    assert (region.score, region.peaks) == ("wd_patch", {"wd_patch": 50})
    assert region.mean_mse == pytest.approx(9.0)
    assert region.p_value == 1.0
    np.testing.assert_array_equal(labels > 0, wd > 10)


def test_slices_connect_in_a_volume_only():
    wd = np.zeros((2, 10, 10))
    wd[0, 2:5, 2:5] = 20
    wd[1, 5:8, 5:8] = 30  # touches the first one at a corner
    assert len(find(wd)[1]) == 1
    labels, regions = find(wd, is_volume=False)
    assert [region.frame for region in regions] == [1, 0]
    assert all(region.volume_ml is None for region in regions)
    assert labels[1, 6, 6] == 1
    assert labels[0, 3, 3] == 2


def test_the_highest_come_first_and_the_rest_is_dropped():
    wd = np.zeros((1, 9, 60))
    for n, height in enumerate([30, 80, 20, 50, 90, 40]):
        wd[0, 2:5, 10 * n + 1 : 10 * n + 5] = height
    labels, regions = find(wd, max_regions=4)
    assert heights(regions) == [90, 80, 50, 40]
    assert [region.label for region in regions] == [1, 2, 3, 4]
    assert sorted(np.unique(labels)) == [0, 1, 2, 3, 4]
    for region in regions:
        assert wd[labels == region.label].max() == region.peaks["wd_patch"]


def test_specks_are_dropped():
    wd = np.zeros((2, 64, 64))
    wd[0, 3:5, 3:5] = 90
    wd[1, 20:26, 20:26] = 20
    assert heights(find(wd, min_area_px=16)[1]) == [20]
    assert heights(find(wd, min_area_px=None)[1]) == [90, 20]  # 64 * 64 / 1024 = 4 pixels
    wider = np.zeros((2, 128, 128))
    wider[:, :64, :64] = wd
    assert heights(find(wider, min_area_px=None)[1]) == [20]  # now 16


def test_unscored_pixels_do_not_count_for_the_smallest_area():
    wd = np.full((1, 128, 128), np.nan)
    wd[0, :64, :64] = 0
    wd[0, 3:5, 3:5] = 90
    assert len(find(wd, min_area_px=None)[1]) == 1


def test_a_region_is_what_exceeds_the_threshold_of_any_layer():
    wd, places = np.zeros((1, 8, 30)), np.full((1, 8, 30), np.nan)
    places[0, :, :28] = 1.0
    wd[0, 2:5, 2:6] = 20
    places[0, 2:5, 5:9] = 5.0  # overlaps the first: one region
    places[0, 2:5, 20:24] = 9.5
    wd[0, 2:5, 27:30] = 11  # where no place is known
    labels, regions = find(wd, others=[layer(places, 4.0, 0.5, "feature_patch")])
    assert [region.bbox[2] for region in regions] == [20, 2, 27]
    assert [region.score for region in regions] == ["feature_patch", "wd_patch", "wd_patch"]
    assert [region.peaks for region in regions] == [
        {"wd_patch": 0.0, "feature_patch": 9.5},
        {"wd_patch": 20.0, "feature_patch": 5.0},
        {"wd_patch": 11.0, "feature_patch": 1.0},
    ]
    np.testing.assert_array_equal(labels > 0, (wd > 10) | (places > 4))


def test_layers_are_compared_by_how_many_spreads_they_exceed_their_thresholds():
    wd, places = np.zeros((1, 8, 12)), np.zeros((1, 8, 12))
    wd[0, 2:5, 2:6] = 16.0
    places[0, 2:5, 2:6] = 1.4
    wd[0, 3, 3], places[0, 4, 5] = 19.0, 1.6
    for spread, leading in ((0.05, "feature_patch"), (0.1, "wd_patch")):  # 12 or 6 spreads, against 9
        (region,) = find(wd, others=[layer(places, 1.0, spread, "feature_patch")])[1]
        assert region.score == leading
        assert region.peaks == pytest.approx({"wd_patch": 19.0, "feature_patch": 1.6})


def test_spill_around_what_is_odd_is_left_out():
    wd, places = np.zeros((3, 8, 24)), np.zeros((3, 8, 24))
    places[1, 1:6, 2:8] = 2.9
    places[1, 3, 4:6] = 5.0
    places[0, 3, 4:6] = 2.9  # the slice beside it
    places[1, 1:4, 20:23] = 2.9  # nothing higher is connected with this
    places[2, :, 12], places[2, 0, 12] = np.nan, 1.5
    shown = layer(places, 1.0, score="feature_patch", spill=0.5)
    _, regions = find(wd, others=[shown])
    assert [region.bbox for region in regions] == [(1, 3, 4, 1, 3, 5), (1, 1, 20, 1, 3, 22), (2, 0, 12, 2, 0, 12)]
    wd[1, 1:3, 2:8] = 11.0  # windows have no spill: what they show stays, and holds together
    (first, *_) = find(wd, others=[shown])[1]
    assert first.bbox == (1, 1, 2, 1, 3, 7)
    assert np.count_nonzero(find(wd, others=[shown])[0] == 1) == 14


def test_what_is_left_of_a_region_may_be_two():
    places = np.full((1, 5, 20), 2.0)
    places[0, 1:3, 2:5], places[0, 1:3, 14:18] = 7.0, 6.0
    _, regions = find(np.zeros(places.shape), others=[layer(places, 1.0, score="feature_patch", spill=0.5)])
    assert [region.peaks["feature_patch"] for region in regions] == [7.0, 6.0]


def test_a_map_that_ends_within_a_region_has_the_peak_of_what_is_there():
    wd, places = np.full((1, 8, 12), np.nan), np.full((1, 8, 12), np.nan)
    places[0, 2:5, 2:6] = 3.0
    (region,) = find(wd, others=[layer(places, 1.0, 1.0, "feature_patch")])[1]
    assert region.peaks == {"feature_patch": 3.0}


@settings(deadline=None, max_examples=40)
@given(
    window=st.integers(4, 9),
    row=st.integers(14, 35),
    col=st.integers(14, 45),
    side=st.integers(1, 3),
    level=st.floats(0.2, 0.8),
    seed=st.integers(0, 99),
)
def test_the_centre_of_a_compact_anomaly_is_found_within_half_a_pixel(window, row, col, side, level, seed):
    """The map of windows is a plateau around the anomaly, on uneven ground."""
    anomaly = np.zeros((50, 60))
    anomaly[row : row + side, col : col + side] = 100.0
    wd = ndimage.uniform_filter1d(ndimage.uniform_filter1d(anomaly, window, 0), window, 1) * window**2
    if window % 2 == 0:
        wd = (wd + np.roll(wd, -1, 0) + np.roll(wd, -1, 1) + np.roll(wd, -1, (0, 1))) / 4  # centred on the pixel
    ground = np.random.default_rng(seed).normal(0, 0.02 * wd.max(), wd.shape)
    _, regions = find((wd + ground)[None], threshold=level * wd.max(), is_volume=False, min_area_px=4)
    centre = np.array([row, col]) + (side - 1) / 2
    found = np.array(regions[0].centroid_lps_mm)[[1, 0]]  # rows along y, columns along x
    assert np.abs(found - centre).max() < 0.5


@settings(deadline=None, max_examples=40)
@given(
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-300.0, 300.0)] * 3),
)
def test_every_orientation_gives_the_same_place_and_size(angles, signs, spacing, origin):
    wd = np.zeros((6, 20, 24))
    wd[2:5, 6:11, 8:15] = 40.0  # symmetric about (3, 8, 11)
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = rotation @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag(np.array(signs) * spacing)
    matrix[:3, 3] = origin
    _, (region,) = find(wd, matrix=matrix)
    np.testing.assert_allclose(region.centroid_lps_mm, (matrix @ [3, 8, 11, 1])[:3], atol=1e-9)
    assert region.area_mm2 == pytest.approx(35 * spacing[1] * spacing[2])
    assert region.volume_ml == pytest.approx(105 * np.prod(spacing) / 1000)


def test_thousands_of_specks_are_no_burden():
    wd = np.random.default_rng(0).random((20, 128, 128)) * 20
    labels, regions = find(wd, threshold=18.5, is_volume=False, max_regions=7)
    assert len(regions) == 7
    assert labels.max() == 7
