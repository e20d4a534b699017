"""Mean squared errors against scikit-image's, window by window; the signed residual."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error as skimage_mse
from skimage.util import view_as_windows

from anomap.scoring.residual import mean_squared_error, signed_residual, window_mean_squared_error


@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    levels=st.sampled_from([2, 256, 4096, 65536]),
    data=st.data(),
)
def test_every_window_equals_the_plain_mean(seed, rows, columns, levels, data):
    window = data.draw(st.integers(1, min(rows, columns)))
    image, other = np.random.default_rng(seed).integers(0, levels, (2, 1, rows, columns))
    expected = view_as_windows((image - other)[0] ** 2, window).mean(axis=(2, 3))
    np.testing.assert_allclose(window_mean_squared_error(image, other, window)[0], expected, rtol=1e-14)


def test_images_and_regions_equal_scikit_image():
    image, other = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 30))
    mask = np.random.default_rng(1).random(image.shape) < 0.4
    for n in range(3):
        assert mean_squared_error(image, other)[n] == pytest.approx(skimage_mse(image[n], other[n]))
        expected = skimage_mse(image[n][mask[n]], other[n][mask[n]])
        assert mean_squared_error(image, other, mask)[n] == pytest.approx(expected)


def test_unsigned_grey_levels_do_not_wrap():
    image, other = np.zeros((1, 8, 8), np.uint8), np.full((1, 8, 8), 255, np.uint8)
    assert mean_squared_error(image, other)[0] == 255**2
    assert (window_mean_squared_error(image, other, 4) == 255**2).all()


def test_the_parity_vector_of_the_paper():
    image, other = np.full((1, 32, 32), 60), np.full((1, 32, 32), 60)
    other.reshape(-1)[::10][:100] += 150
    assert window_mean_squared_error(image, other, 32)[0, 0, 0] == 100 * 150**2 / 1024  # 2197.3


def test_an_edge_moved_by_a_pixel_costs_the_full_square():
    image, other = np.zeros((1, 32, 32), int), np.zeros((1, 32, 32), int)
    image[..., 16:], other[..., 17:] = 200, 200
    assert window_mean_squared_error(image, other, 32)[0, 0, 0] == 200**2 / 32


def test_an_empty_region_has_no_error():
    image = np.ones((2, 4, 4), int)
    mask = np.stack([np.zeros((4, 4), bool), np.ones((4, 4), bool)])
    np.testing.assert_array_equal(mean_squared_error(image, image, mask), [np.nan, 0.0])


def test_windows_with_an_invalid_pixel_are_not_scored():
    image, other = np.random.default_rng(0).integers(0, 256, (2, 1, 9, 9))
    valid = np.ones(image.shape, bool)
    valid[0, 4, 5] = False
    dense = window_mean_squared_error(image, other, 3, valid)[0]
    unscored = np.zeros((7, 7), bool)
    unscored[2:5, 3:6] = True
    np.testing.assert_array_equal(np.isnan(dense), unscored)
    np.testing.assert_array_equal(dense[~unscored], window_mean_squared_error(image, other, 3)[0][~unscored])


def test_the_residual_is_positive_where_the_image_is_brighter():
    image = np.array([[0.5, -1.0]], np.float32)
    model = np.array([[0.25, 1.0]], np.float32)
    found = signed_residual(image, model, 175.0)
    np.testing.assert_array_equal(found, np.array([[43.75, -350.0]], np.float32))
    assert found.dtype == np.float32
