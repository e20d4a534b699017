"""Scores of prepared images: units, regions, windows, maps on the source grid, and the paper's own defects."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from anomap.calibration import calibrate
from anomap.errors import AnomapError
from anomap.scoring import SCORES, SERIES_SCORES, ScoreConfig, body_by_corners, quantise, score, window_area_px
from anomap.types import ImageSeries, Prepared, PreprocessSpec, Reconstruction

SIDE = 32
CT = PreprocessSpec(kind="ct", size=SIDE, window_width_hu=350.0)
XRAY = PreprocessSpec(kind="radiograph", size=SIDE)
SHAPE = (2, 40, 50)


def prepared(images, spec=CT, valid=None, body=None, to_source=None, frame=None):
    images = np.asarray(images, np.float32).reshape(-1, 1, spec.size, spec.size)
    n = len(images)
    valid = np.ones(images.shape, bool) if valid is None else np.broadcast_to(valid, images.shape).copy()
    body = valid if body is None else np.broadcast_to(body, images.shape).copy()
    to_source = np.eye(3) if to_source is None else to_source
    return Prepared(
        images=images,
        valid=valid,
        body=body,
        frame=np.arange(n) if frame is None else np.asarray(frame, np.int64),
        frame_ids=tuple(f"frame {i}" for i in range(n)),
        to_source=np.broadcast_to(to_source, (n, 3, 3)).astype(np.float64),
        gain=np.full(n, 175.0),
        offset=np.full(n, 50.0),
        spec=spec,
    )


def fitted(images):
    images = np.asarray(images, np.float32)
    images = images.reshape(-1, 1, *images.shape[-2:])
    n = len(images)
    return Reconstruction(
        images=images,
        w=np.zeros((n, 4), np.float32),
        loss=np.zeros(n),
        prior_distance=np.arange(n) + 0.5,
        feature_residual=np.arange(n) + 0.25,
        feature_distance=np.arange(n) + 0.75,
        feature_map=np.arange(64 * n, dtype=np.float32).reshape(n, 8, 8),
        steps=1,
        converged=np.ones(n, bool),
        seeds=np.arange(n),
    )


def noise(seed=0, n=2, side=SIDE, amplitude=0.9):
    return np.random.default_rng(seed).uniform(-amplitude, amplitude, (n, 1, side, side)).astype(np.float32)


def config(window=8, **more):
    return ScoreConfig(window=window, **more)


# ---- grey levels and units


def test_grey_levels_are_rounded_to_the_nearest():
    x = np.array([-1, -1 + 0.99 / 255, -1 + 1.01 / 255, 0, 1, 1.2, -7], np.float32)
    np.testing.assert_array_equal(quantise(x, 256), [0, 0, 1, 128, 255, 255, 0])  # the middle, 127.5, is 128
    halves = -1 + np.arange(1, 512, 2) / 256
    np.testing.assert_array_equal(quantise(halves.astype(np.float32), 257), np.arange(1, 257))
    np.testing.assert_array_equal(quantise(np.array([-1, 0, 1]), 3), [0, 1, 2])
    step = np.linspace(-1, 1, 4096)
    np.testing.assert_array_equal(quantise(step.astype(np.float32), 4096), np.arange(4096))


def test_every_score_of_the_registry_is_given():
    found = score(prepared(noise()), fitted(noise(1)), SHAPE, config())
    assert set(found.per_image) == set(SCORES) - set(SERIES_SCORES)
    assert found.unit == "HU"
    assert score(prepared(noise(), XRAY), fitted(noise(1)), SHAPE, config()).unit == "grey level"
    assert SCORES["mse_body"].unit.format(unit=found.unit) == "HU²"
    np.testing.assert_array_equal(found.per_image["w_distance"], [0.5, 1.5])
    np.testing.assert_array_equal(found.per_image["feature_residual"], [0.25, 1.25])
    np.testing.assert_array_equal(found.per_image["feature_distance"], [0.75, 1.75])
    assert all(entry.direction == "higher" for entry in SCORES.values())


@pytest.mark.parametrize("missing", [{"feature_distance"}, {"feature_distance", "feature_residual"}])
def test_a_model_that_knows_no_features_has_fewer_scores(missing):
    fit = replace(fitted(noise(1)), **dict.fromkeys(missing, np.full(2, np.nan)))
    assert set(score(prepared(noise()), fit, SHAPE, config()).per_image) == set(SCORES) - set(SERIES_SCORES) - missing


@pytest.mark.parametrize(
    ("spec", "levels", "width"), [(CT, 4096, 350), (CT, 256, 350), (XRAY, 256, 255), (XRAY, 512, 255)]
)
def test_scores_are_in_physical_units_and_equal_scipy(spec, levels, width):
    images, model = noise(), noise(1)
    body = np.random.default_rng(2).random((SIDE, SIDE)) < 0.9
    found = score(prepared(images, spec, body=body), fitted(model), SHAPE, config(levels=levels)).per_image
    for n in range(2):
        a, b = (quantise(x[n, 0], levels) * (width / (levels - 1)) for x in (images, model))
        assert found["wd_full"][n] == pytest.approx(wasserstein_distance(a.ravel(), b.ravel()))
        assert found["wd_body"][n] == pytest.approx(wasserstein_distance(a[body], b[body]))
        assert found["mse_full"][n] == pytest.approx(((a - b) ** 2).mean())
        assert found["mse_body"][n] == pytest.approx(((a - b) ** 2)[body].mean())
        cuts = [np.s_[r : r + 8, c : c + 8] for r in range(25) for c in range(25)]
        assert found["wd_patch"][n] == pytest.approx(
            max(wasserstein_distance(a[c].ravel(), b[c].ravel()) for c in cuts)
        )
        assert found["mse_patch"][n] == pytest.approx(max(((a - b) ** 2)[c].mean() for c in cuts))


def test_a_batch_equals_one_by_one():
    images, model = noise(n=3), noise(1, n=3)
    together = score(prepared(images), fitted(model), (3, 40, 50), config())
    for n in range(3):
        alone = score(prepared(images[n], frame=[0]), fitted(model[n]), (1, 40, 50), config())
        for name in SCORES:
            if name == "w_distance" or name.startswith(("feature_", "neighbour_")):
                continue
            assert alone.per_image[name][0] == together.per_image[name][n]
        np.testing.assert_array_equal(alone.maps["wd"][0], together.maps["wd"][n])


# ---- the highest window


def with_square(row, col, side=4, value=0.5):
    image = np.zeros((SIDE, SIDE), np.float32)
    image[row : row + side, col : col + side] = value
    return image


def test_the_top_place_is_the_highest_of_the_feature_map_and_its_map_shows_it():
    images = noise(n=2)
    fit = fitted(images)
    places = np.zeros((2, 8, 8), np.float32)
    places[0, 2, 5], places[1, 7, 0] = 3.0, 4.0
    found = score(prepared(images, frame=[0, 1]), replace(fit, feature_map=places), (2, 40, 50), config())
    q = SIDE // 8
    assert found.top_place.tolist() == [[2 * q, 5 * q, 3 * q, 6 * q], [7 * q, 0, 8 * q, q]]
    assert found.per_image["feature_patch"].tolist() == [3.0, 4.0]
    assert np.nanmax(found.maps["place"][0]) == pytest.approx(3.0)
    assert np.nanmax(found.maps["place"][1]) == pytest.approx(4.0)
    unknown = replace(fit, feature_map=np.full((2, 1, 1), np.nan, np.float32))
    found = score(prepared(images, frame=[0, 1]), unknown, (2, 40, 50), config())
    assert found.top_place is None
    assert np.isnan(found.maps["place"]).all()


def test_the_top_change_is_the_place_least_like_its_neighbours():
    images = noise(n=2)
    beside = np.zeros((2, 8, 8), np.float32)
    beside[0, 2, 5], beside[1, 7, 0] = 3.0, 4.0
    found = score(prepared(images, frame=[0, 1]), fitted(images), (2, 40, 50), config(), beside)
    q = SIDE // 8
    assert found.top_change.tolist() == [[2 * q, 5 * q, 3 * q, 6 * q], [7 * q, 0, 8 * q, q]]
    assert found.per_image["neighbour_patch"].tolist() == [3.0, 4.0]
    assert found.per_image["neighbour_distance"].tolist() == [3 / 64, 4 / 64]
    assert set(found.per_image) == set(SCORES)
    assert score(prepared(images, frame=[0, 1]), fitted(images), (2, 40, 50), config()).top_change is None


def test_the_top_window_holds_the_anomaly():
    image = with_square(10, 20) + noise(n=1, amplitude=0.02)[0, 0]
    found = score(prepared(image), fitted(np.zeros((SIDE, SIDE))), SHAPE, config())
    row0, col0, row1, col1 = found.top_window[0]
    assert (row1 - row0, col1 - col0) == (8, 8)
    assert row0 <= 10
    assert row1 >= 14
    assert col0 <= 20
    assert col1 >= 24


def test_ct_looks_for_the_highest_window_in_the_body():
    image = with_square(2, 2, value=0.9) + with_square(20, 20, value=0.3)  # a brighter table
    body = np.zeros((SIDE, SIDE), bool)
    body[14:30, 14:30] = True
    model = fitted(np.zeros((SIDE, SIDE)))
    ct = score(prepared(image, body=body), model, SHAPE, config())
    xray = score(prepared(image, XRAY, body=body), model, SHAPE, config())
    assert ct.top_window[0, 0] >= 14 - 4  # windows half filled by the body
    assert xray.top_window[0, 0] <= 2
    assert ct.per_image["wd_patch"][0] < ct.maps["wd"][0, 4, 4]  # the map shows both
    body[:] = False
    body[0, 0] = True  # too little for any window
    assert score(prepared(image, body=body), model, SHAPE, config()).top_window[0, 0] <= 2


def test_windows_over_padding_are_not_scored():
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, 20:] = False
    image = with_square(5, 20, side=10, value=-1.0)  # padding differs a lot
    image[25, 3] = 0.1
    found = score(prepared(image, valid=valid), fitted(np.zeros((SIDE, SIDE))), SHAPE, config())
    assert found.top_window[0, 3] <= 20
    assert found.per_image["wd_full"][0] == pytest.approx(found.per_image["wd_patch"][0] * 64 / 640)
    with pytest.raises(AnomapError, match="E113"):
        score(prepared(image, valid=valid), fitted(np.zeros((SIDE, SIDE))), SHAPE, config(window=21))


# ---- maps on the source grid


@pytest.mark.parametrize("window", [7, 8])
def test_a_map_holds_the_score_of_the_window_centred_there(window):
    images, model = noise(n=1), noise(1, n=1)
    found = score(prepared(images), fitted(model), (1, SIDE, SIDE), config(window))
    a, b = (quantise(x[0, 0], 256) * (350 / 255) for x in (images, model))
    for row, col in [(10, 10), (15, 21), (22, 9)]:
        first = row - window // 2, col - window // 2
        offsets = [(0, 0)] if window % 2 else [(0, 0), (0, 1), (1, 0), (1, 1)]  # centres around the pixel
        cuts = [np.s_[first[0] + i : first[0] + i + window, first[1] + j : first[1] + j + window] for i, j in offsets]
        expected = np.mean([wasserstein_distance(a[c].ravel(), b[c].ravel()) for c in cuts])
        assert found.maps["wd"][0, row, col] == pytest.approx(expected, rel=1e-5)
        assert found.maps["mse"][0, row, col] == pytest.approx(
            np.mean([((a - b) ** 2)[c].mean() for c in cuts]), rel=1e-5
        )
    residual = (images - model)[0, 0] * 175.0
    np.testing.assert_allclose(found.maps["residual"][0], residual, rtol=1e-4, atol=1e-3)
    assert np.isfinite(found.maps["wd"]).all()
    assert found.maps["wd"][0, 0, 0] == pytest.approx(found.maps["wd"][0, 1, 1])  # borders take the nearest window


@pytest.mark.parametrize("window", [7, 8])
def test_flipped_images_give_flipped_maps(window):
    images, model = noise(n=1), noise(1, n=1)
    plain = score(prepared(images), fitted(model), (1, SIDE, SIDE), config(window))
    flipped = score(prepared(images[..., ::-1]), fitted(model[..., ::-1]), (1, SIDE, SIDE), config(window))
    for name in ("wd", "mse", "residual"):
        np.testing.assert_allclose(flipped.maps[name], plain.maps[name][..., ::-1], rtol=1e-5)
    for name in plain.per_image:
        np.testing.assert_allclose(flipped.per_image[name], plain.per_image[name])


def test_frames_without_an_image_and_pixels_without_the_model_are_not_scored():
    shift = np.array([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]])
    found = score(prepared(noise(n=1), to_source=shift, frame=[2]), fitted(noise(1, n=1)), (3, 48, 48), config())
    for dense in found.maps.values():
        assert dense.dtype == np.float32
        assert np.isnan(dense[:2]).all()
        inside = np.zeros((48, 48), bool)
        inside[5 : 5 + SIDE, 7 : 7 + SIDE] = True
        np.testing.assert_array_equal(np.isfinite(dense[2]), inside)


def test_maps_end_where_the_image_ends():
    valid = np.zeros((SIDE, SIDE), bool)
    valid[4:28, 6:26] = True
    found = score(prepared(noise(n=1), valid=valid), fitted(noise(1, n=1)), (1, SIDE, SIDE), config())
    for dense in found.maps.values():
        np.testing.assert_array_equal(np.isfinite(dense[0]), valid)


def test_the_area_of_a_window_is_given_in_source_pixels():
    zoom = np.diag([3.0, 2.0, 1.0])
    assert window_area_px(prepared(noise(), to_source=zoom), config()) == pytest.approx(6 * 64)


@pytest.mark.parametrize("window", [7, 8])
@pytest.mark.parametrize("row_direction", [1.0, -1.0])
def test_an_anomaly_is_found_at_its_place_in_the_patient(window, row_direction):
    """Model grid to source grid to LPS millimetres, with the half pixel of even windows."""
    to_source = np.array([[3.1, 0, 4.3], [0, 2.3, -1.7], [0, 0, 1]])
    image = with_square(12, 17, side=3) + noise(n=1, amplitude=0.05)[0, 0]
    source_shape = (1, 110, 80)
    item = prepared(image, XRAY, to_source=to_source)
    found = score(item, fitted(np.zeros((SIDE, SIDE))), source_shape, config(window))
    affine = np.array([[0, 0, 0.7, -20], [0, row_direction * 0.5, 0, 33], [1, 0, 0, 5], [0, 0, 0, 1.0]])
    series = ImageSeries(
        pixels=np.zeros(source_shape, np.float32),
        unit="1",
        affine=affine,
        modality="DX",
        frame_ids=("a",),
        valid=np.ones(source_shape, bool),
    )
    result = calibrate(series, found, None, {}, min_area_px=window_area_px(item, config(window)) / 4)
    row, col, _ = to_source @ [13, 18, 1]
    expected = affine @ [0, row, col, 1]
    error = (np.array(result.regions[0].centroid_lps_mm) - expected[:3]) / [0.7, 0.5, 1]
    assert np.abs(error).max() < 0.5  # source pixels


# ---- refusals


def test_an_image_without_body_is_refused():
    with pytest.raises(AnomapError, match="E114"):
        score(prepared(noise(), body=False), fitted(noise(1)), SHAPE, config())


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(AnomapError, match="E501"):
        score(prepared(noise()), fitted(noise(1, n=3)), SHAPE, config())
    with pytest.raises(AnomapError, match="E200"):
        score(prepared(noise()), fitted(noise(1)), SHAPE, config(window=33))
    with pytest.raises(AnomapError, match="E302"):
        ScoreConfig(window=0)
    with pytest.raises(AnomapError, match="E302"):
        ScoreConfig(window=8, levels=1)


# ---- parity with the paper's script


def paper_script(image, model, patch):
    """The patch loop of eval_recon.py in our words: 8-bit images, last row and column of windows left out."""
    best, place = 0.0, (0, 0)
    for row in range(image.shape[0] - patch):
        for col in range(image.shape[1] - patch):
            cut = np.s_[row : row + patch, col : col + patch]
            value = wasserstein_distance(image[cut].ravel(), model[cut].ravel())
            if value > best:
                best, place = value, (row, col)
    return best, place


def test_compat_equals_the_loop_of_the_paper():
    images, model = noise(n=1), noise(1, n=1)
    item = prepared(images, XRAY)
    found = score(item, fitted(model), (1, SIDE, SIDE), config(levels=4096, compat=True))
    eight_bit = np.clip(model[0, 0] * 127.5 + 128, 0, 255).astype(np.uint8)  # truncated, as the projector saves it
    best, place = paper_script(quantise(images[0, 0], 256), eight_bit.astype(int), 8)
    assert found.per_image["wd_patch"][0] == pytest.approx(best, abs=1e-9)
    assert tuple(found.top_window[0, :2]) == place


def test_compat_never_looks_at_the_last_windows():
    image = np.zeros((SIDE, SIDE), np.float32)
    image[-1] = 0.5
    model = np.full((SIDE, SIDE), -1 / 255, np.float32)  # truncates to 127; the image's zero rounds to 128
    clean = score(prepared(image, XRAY), fitted(image), (1, SIDE, SIDE), config())
    assert clean.per_image["wd_patch"][0] == 0
    fixed = score(prepared(image, XRAY), fitted(model), (1, SIDE, SIDE), config())
    paper = score(prepared(image, XRAY), fitted(model), (1, SIDE, SIDE), config(compat=True))
    assert fixed.top_window[0, 2] == SIDE
    assert paper.top_window[0].tolist() == [0, 0, 8, 8]
    assert paper.per_image["wd_patch"][0] == 1
    assert fixed.per_image["wd_patch"][0] > 8


def test_compat_counts_padding_too():
    valid = np.zeros((SIDE, SIDE), bool)
    valid[:16] = True
    image = np.where(valid, 0, 0.5).astype(np.float32)
    flat = fitted(np.zeros((SIDE, SIDE)))
    assert score(prepared(image, XRAY, valid=valid), flat, (1, SIDE, SIDE), config()).per_image["wd_full"][0] == 0
    paper = score(prepared(image, XRAY, valid=valid), flat, (1, SIDE, SIDE), config(compat=True))
    assert paper.per_image["wd_full"][0] == pytest.approx((191 - 128) / 2)


def test_the_body_of_the_paper_vanishes_when_it_touches_a_corner():
    image = np.zeros((SIDE, SIDE), int)
    image[8:24, 8:24] = 100
    image[14:18, 14:18] = 0  # a hole belongs to the body
    image[2, 2] = 50  # a smaller area doesn't
    expected = np.zeros((SIDE, SIDE), bool)
    expected[8:24, 8:24] = True
    np.testing.assert_array_equal(body_by_corners(image), expected)
    assert not body_by_corners(np.full((SIDE, SIDE), 9)).any()
    assert not body_by_corners(np.zeros((SIDE, SIDE), int)).any()
    with pytest.raises(AnomapError, match="E114"):
        score(prepared(np.zeros((SIDE, SIDE))), fitted(np.zeros((SIDE, SIDE))), SHAPE, config(compat=True))


def test_compat_takes_the_body_of_the_paper_for_ct():
    image = np.full((SIDE, SIDE), -1.0)
    image[8:24, 8:24] = 0.0
    model = np.full((SIDE, SIDE), -1.0)
    found = score(prepared(image), fitted(model), SHAPE, config(compat=True))
    assert found.per_image["wd_body"][0] == pytest.approx(128 * 350 / 255)
