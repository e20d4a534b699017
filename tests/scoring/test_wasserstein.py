"""Wasserstein distances against scipy's, window by window, and against values known by thought (method.md 1.7)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from anomap.errors import AnomapError
from anomap.scoring.wasserstein import wasserstein, window_wasserstein


def windows_wd_reference(image, other, window):
    """The paper's loop: one call of scipy per window, ``(H, W)`` each."""
    rows, columns = (size - window + 1 for size in image.shape)
    result = np.empty((rows, columns))
    for row in range(rows):
        for col in range(columns):
            cut = np.s_[row : row + window, col : col + window]
            result[row, col] = wasserstein_distance(image[cut].reshape(-1), other[cut].reshape(-1))
    return result


def images(seed, shape, levels, noise):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, shape)
    return image, np.clip(image + rng.integers(-noise, noise + 1, shape), 0, levels - 1)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(5, 14),
    columns=st.integers(5, 14),
    levels=st.sampled_from([2, 3, 16, 255, 256, 257, 4096]),
    noise=st.integers(0, 4096),
    data=st.data(),
)
def test_every_window_equals_scipy(seed, rows, columns, levels, noise, data):
    window = data.draw(st.integers(1, min(rows, columns)))
    image, other = images(seed, (rows, columns), levels, min(noise, levels))
    dense = window_wasserstein(image[None], other[None], window, levels)[0]
    np.testing.assert_allclose(dense, windows_wd_reference(image, other, window), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("levels", [256, 4096])
def test_windows_of_the_paper_equal_scipy_bit_by_bit(levels):
    image, other = images(7, (512, 512), levels, levels // 8)
    dense = window_wasserstein(image[None], other[None], 32, levels)[0]
    assert dense.shape == (481, 481)
    rng = np.random.default_rng(1)
    for row, col in [(0, 0), (480, 480), (0, 480), *rng.integers(0, 481, (60, 2))]:
        cut = np.s_[row : row + 32, col : col + 32]
        assert dense[row, col] == wasserstein_distance(image[cut].reshape(-1), other[cut].reshape(-1))


def test_a_gap_between_grey_levels_weighs_its_width():
    image, other = np.zeros((1, 6, 6), int), np.full((1, 6, 6), 4095)
    image[0, :3], other[0, :, 2:4] = 17, 2000
    np.testing.assert_allclose(
        window_wasserstein(image, other, 3, 4096)[0], windows_wd_reference(image[0], other[0], 3), rtol=1e-14
    )


def test_large_windows_do_not_overflow():
    image, other = np.zeros((1, 200, 200), np.uint16), np.full((1, 200, 200), 4095, np.uint16)
    assert (window_wasserstein(image, other, 190, 4096) == 4095).all()


def test_many_grey_levels_do_not_overflow():
    image, other = np.zeros((1, 260, 260), np.uint16), np.full((1, 260, 260), 65535, np.uint16)
    assert (window_wasserstein(image, other, 256, 65536) == 65535).all()


@pytest.mark.parametrize("shape", [(5, 20, 24), (600, 32, 32)])  # the second one exceeds one chunk
def test_a_batch_equals_one_by_one(shape):
    image, other = images(3, shape, 256, 40)
    batch = window_wasserstein(image, other, 8, 256)
    for n in range(0, len(image), 97):
        np.testing.assert_array_equal(batch[n], window_wasserstein(image[n : n + 1], other[n : n + 1], 8, 256)[0])


@pytest.mark.parametrize("region", ["full", "masked"])
def test_images_and_regions_equal_scipy(region):
    image, other = images(5, (4, 30, 21), 256, 60)
    mask = None if region == "full" else np.random.default_rng(0).random(image.shape) < 0.3
    found = wasserstein(image, other, 256, mask)
    for n, value in enumerate(found):
        inside = np.ones(image[n].shape, bool) if mask is None else mask[n]
        assert value == pytest.approx(wasserstein_distance(image[n][inside], other[n][inside]), abs=1e-10)


def test_an_empty_region_has_no_distance():
    image, other = images(0, (2, 5, 5), 256, 9)
    mask = np.zeros(image.shape, bool)
    mask[1, 2, 2] = True
    found = wasserstein(image, other, 256, mask)
    assert np.isnan(found[0])
    assert found[1] == abs(image[1, 2, 2] - other[1, 2, 2])


def test_two_constants_differ_by_their_difference():
    image, other = np.full((1, 40, 40), 31), np.full((1, 40, 40), 200)
    assert (window_wasserstein(image, other, 32, 256) == 169).all()
    assert wasserstein(image, other, 256)[0] == 169


def test_pixels_off_by_a_constant_count_by_their_share():
    image, other = np.full((1, 32, 32), 60), np.full((1, 32, 32), 60)
    other.reshape(-1)[::10][:100] += 150
    assert window_wasserstein(image, other, 32, 256)[0, 0, 0] == 100 * 150 / 1024  # 14.65


def test_an_edge_moved_by_a_pixel_costs_its_area_only():
    image, other = np.zeros((1, 32, 32), int), np.zeros((1, 32, 32), int)
    image[..., 16:], other[..., 17:] = 200, 200
    assert window_wasserstein(image, other, 32, 256)[0, 0, 0] == 200 * 32 / 1024


def test_a_flip_is_not_seen_in_the_whole_image():
    image, _ = images(0, (1, 50, 40), 256, 0)
    assert wasserstein(image, image[..., ::-1], 256)[0] == 0


def test_a_flip_of_both_flips_the_map():
    image, other = images(2, (1, 20, 30), 256, 50)
    dense = window_wasserstein(image, other, 5, 256)
    np.testing.assert_array_equal(window_wasserstein(image[..., ::-1], other[..., ::-1], 5, 256), dense[..., ::-1])
    np.testing.assert_array_equal(window_wasserstein(other, image, 5, 256), dense)


@given(seed=st.integers(0, 999), share=st.floats(0.0, 0.2))
def test_windows_with_an_invalid_pixel_are_not_scored(seed, share):
    image, other = images(seed, (1, 12, 10), 256, 30)
    valid = np.random.default_rng(seed).random(image.shape) >= share
    dense = window_wasserstein(image, other, 3, 256, valid)[0]
    full = window_wasserstein(image, other, 3, 256)[0]
    for row in range(10):
        for col in range(8):
            whole = valid[0, row : row + 3, col : col + 3].all()
            assert dense[row, col] == full[row, col] if whole else np.isnan(dense[row, col])


@pytest.mark.parametrize("bad", [-1, 256])
def test_a_grey_level_out_of_range_is_refused(bad):
    image = np.zeros((1, 4, 4), int)
    image[0, 1, 1] = bad
    with pytest.raises(AnomapError, match="E501"):
        window_wasserstein(image, np.zeros_like(image), 2, 256)
    with pytest.raises(AnomapError, match="E501"):
        wasserstein(np.zeros_like(image), image, 256)
