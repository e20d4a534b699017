"""Sums over windows against scikit-image's views of them; window scores on the pixel grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.util import view_as_windows

from anomap.errors import AnomapError
from anomap.scoring.windows import box_sum, centre_on_pixels, check_window, extend, window_counts


@given(
    rows=st.integers(1, 14), columns=st.integers(1, 14), bound=st.sampled_from([1, 100, 30_000, 2**30]), data=st.data()
)
def test_a_box_sum_is_the_sum_of_every_window(rows, columns, bound, data):
    window = data.draw(st.integers(1, min(rows, columns)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.integers(-bound, bound + 1, (rows, columns))
    values.reshape(-1)[: rng.integers(rows * columns + 1)] = bound  # reach the largest sum, where types overflow
    expected = view_as_windows(values, window).sum(axis=(2, 3))
    np.testing.assert_array_equal(box_sum(values, window, bound), expected)


@pytest.mark.parametrize("window", [11, 12, 181, 182])
def test_box_sums_reach_the_limits_of_their_integers(window):
    for value in (-1, 1):
        filled = np.full((190, 190), value, np.int8)
        assert (box_sum(filled, window, 1) == value * window**2).all()


def test_leading_axes_are_independent():
    values = np.random.default_rng(0).integers(0, 9, (2, 3, 8, 7))
    expected = np.stack([[box_sum(image, 3, 9) for image in row] for row in values])
    np.testing.assert_array_equal(box_sum(values, 3, 9), expected)


def test_window_counts_count_true_pixels():
    mask = np.random.default_rng(0).random((9, 11)) < 0.5
    np.testing.assert_array_equal(window_counts(mask, 4), view_as_windows(mask, 4).sum(axis=(2, 3)))


@pytest.mark.parametrize("window", [0, -1, 9])
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(AnomapError, match="E200"):
        check_window((3, 8, 10), window)


def centres(dense_shape, window):
    """A map whose value is the row of the window's centre: it must read as the row itself on the grid."""
    return np.broadcast_to(np.arange(dense_shape[0])[:, None] + (window - 1) / 2, dense_shape).astype(float)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 8])
def test_a_score_lies_under_the_centre_of_its_window(window):
    dense = centres((21 - window, 31 - window), window)
    grid, shift = centre_on_pixels(dense, window, np.ones((20, 30), np.bool_))
    rows = np.arange(len(grid)) + shift
    inner = (rows >= (window - 1) / 2) & (rows <= 19 - (window - 1) / 2)
    np.testing.assert_array_equal(grid[inner], np.broadcast_to(rows[inner, None], grid[inner].shape))
    assert rows[0] <= 0
    assert rows[-1] >= 19  # every pixel lies between places of the grid
    assert np.isfinite(grid).all()


@pytest.mark.parametrize("window", [3, 4])
def test_borders_of_the_valid_part_take_the_nearest_window(window):
    valid = np.zeros((20, 30), np.bool_)
    valid[4:17, 6:25] = True
    whole = np.random.default_rng(0).random((13 - window + 1, 19 - window + 1))
    dense = np.full((20 - window + 1, 30 - window + 1), np.nan)
    dense[4 : 4 + len(whole), 6 : 6 + whole.shape[1]] = whole
    inside, _ = centre_on_pixels(whole, window, np.ones((13, 19), np.bool_))
    grid, shift = centre_on_pixels(dense, window, valid)
    np.testing.assert_array_equal(grid[4 : 4 + len(inside), 6 : 6 + inside.shape[1]], inside)
    assert np.isnan(grid[: 4 - window // 2]).all()
    assert shift == (0.0 if window % 2 else -0.5)


def test_values_reach_only_as_far_as_they_may():
    values = np.full((1, 9), np.nan)
    values[0, 4] = 7.0
    np.testing.assert_array_equal(np.isfinite(extend(values, 2))[0], [0, 0, 1, 1, 1, 1, 1, 0, 0])
    assert np.isnan(extend(np.full((3, 3), np.nan), 2)).all()
