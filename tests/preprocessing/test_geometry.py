"""The model's grid against block means, scipy and round trips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.preprocessing.geometry import (
    axial_turn,
    box_to_source,
    fit_field_of_view,
    fit_square,
    resample_to_model,
    resample_to_source,
)

RNG = np.random.default_rng(0)


def everywhere(plane: np.ndarray) -> np.ndarray:
    return np.ones(plane.shape, bool)


def source_of(grid: np.ndarray, row: float, column: float) -> np.ndarray:
    return (grid @ [row, column, 1.0])[:2]


def test_shrinking_by_a_whole_number_is_the_mean_of_blocks() -> None:
    plane = RNG.random((256, 256), np.float32)
    values, coverage = resample_to_model(plane, everywhere(plane), fit_square((256, 256), (1, 1), 64, "pad"), 64)
    np.testing.assert_allclose(values, plane.reshape(64, 4, 64, 4).mean((1, 3)), rtol=1e-6)
    np.testing.assert_allclose(coverage, 1.0)


def test_enlarging_is_bilinear_between_the_centres() -> None:
    plane = RNG.random((32, 32), np.float32)
    grid = fit_square((32, 32), (1, 1), 128, "pad")
    values, _ = resample_to_model(plane, everywhere(plane), grid, 128)
    row, column = np.mgrid[4:124, 4:124]
    points = np.einsum("ij,j...->i...", grid, np.stack([row, column, np.ones_like(row)]))[:2]
    np.testing.assert_allclose(values[4:124, 4:124], ndimage.map_coordinates(plane, points, order=1), atol=1e-6)


def test_the_same_size_changes_nothing() -> None:
    plane = RNG.random((64, 64), np.float32)
    grid = fit_square((64, 64), (1, 1), 64, "pad")
    np.testing.assert_allclose(resample_to_model(plane, everywhere(plane), grid, 64)[0], plane, atol=1e-7)
    np.testing.assert_array_equal(resample_to_source(plane, grid, (64, 64)), plane)


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 200), st.integers(20, 200), st.sampled_from([32, 64]), st.floats(0.3, 3.0))
def test_averaging_keeps_the_total(rows: int, columns: int, size: int, aspect: float) -> None:
    """With padding the whole frame lies in the square: mean times area is the same on both grids."""
    plane = np.random.default_rng(rows).random((rows, columns), np.float32)
    grid = fit_square((rows, columns), (1.0, aspect), size, "pad")
    if np.abs(np.diag(grid)[:2]).min() < 1:
        return  # enlarged: interpolation has no such law
    values, coverage = resample_to_model(plane, everywhere(plane), grid, size)
    pixel = np.linalg.det(grid[:2, :2])
    assert (values * coverage).sum() * pixel == pytest.approx(plane.sum(), rel=1e-6)
    assert coverage.sum() * pixel == pytest.approx(plane.size, rel=1e-6)


def test_padding_keeps_the_aspect_in_millimetres_and_centres_the_frame() -> None:
    grid = fit_square((100, 200), (2.0, 0.5), 64, "pad")  # 200 mm high, 100 mm wide
    assert grid[0, 0] * 2.0 == pytest.approx(grid[1, 1] * 0.5)
    np.testing.assert_allclose(source_of(grid, 31.5, 31.5), (49.5, 99.5))
    np.testing.assert_allclose(source_of(grid, -0.5, 31.5), (-0.5, 99.5))


def test_squeezing_fills_the_square() -> None:
    grid = fit_square((100, 200), (1.0, 1.0), 64, "squeeze")
    np.testing.assert_allclose(source_of(grid, -0.5, -0.5), (-0.5, -0.5))
    np.testing.assert_allclose(source_of(grid, 63.5, 63.5), (99.5, 199.5))


def test_a_field_of_view_has_its_millimetres_around_its_centre() -> None:
    grid = fit_field_of_view(np.array([10.0, 20.0]), (2.0, 4.0), 64, 320.0)
    np.testing.assert_allclose(source_of(grid, 31.5, 31.5), (10.0, 20.0))
    np.testing.assert_allclose(source_of(grid, 63.5, 63.5) - source_of(grid, -0.5, -0.5), (160.0, 80.0))


def test_what_is_not_valid_contributes_nothing() -> None:
    plane = np.full((64, 64), 5.0, np.float32)
    valid = everywhere(plane)
    plane[:, 33:], valid[:, 33:] = 1e6, False
    values, coverage = resample_to_model(plane, valid, fit_square((64, 64), (1, 1), 32, "pad"), 32)
    np.testing.assert_allclose(values[:, :17], 5.0)
    np.testing.assert_allclose(coverage[0, 15:18], (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(values[:, 17:], 0.0)


@pytest.mark.parametrize("shape", [(90, 128), (64, 64), (48, 40)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("row_sign", "column_sign"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_linear_ramp_survives_there_and_back_in_every_orientation(
    shape: tuple[int, int], transposed: bool, row_sign: int, column_sign: int
) -> None:
    affine = np.eye(4)
    affine[:3, 1:3] = 0
    affine[0, 2], affine[1, 1] = column_sign, row_sign
    affine[2, 0], affine[0, 0], affine[1, 0] = 1, 0, 0
    if transposed:
        affine[:, [1, 2]] = affine[:, [2, 1]]
    turn = axial_turn(affine, shape)
    turned_shape = shape[::-1] if transposed else shape
    grid = turn @ fit_square(turned_shape, (1, 1), 64, "pad")
    row, column = np.mgrid[0 : shape[0], 0 : shape[1]]
    plane = (3.0 * row - 2.0 * column).astype(np.float32)
    values, coverage = resample_to_model(plane, everywhere(plane), grid, 64)
    back = resample_to_source(np.where(coverage > 0.99, values, np.nan).astype(np.float32), grid, shape)
    seen = np.isfinite(back)
    assert seen.mean() > 0.8
    inner = np.zeros_like(seen)
    inner[2:-2, 2:-2] = seen[2:-2, 2:-2]
    np.testing.assert_allclose(back[inner], plane[inner], atol=1e-3)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("row_sign", "column_sign"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_turn_leads_rows_to_posterior_and_columns_to_the_left(
    transposed: bool, row_sign: int, column_sign: int
) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[3, 3] = 1
    affine[0, 2], affine[1, 1] = column_sign * 0.7, row_sign * 0.9
    if transposed:
        affine[:, [1, 2]] = affine[:, [2, 1]]
    full = affine[:2, 1:3] @ axial_turn(affine, (20, 30))[:2, :2]
    np.testing.assert_allclose(full, [[0, 0.7], [0.9, 0]])


def test_the_turn_leaves_a_tilted_gantry_turned_as_it_lies_and_a_coronal_frame_alone() -> None:
    tilted = np.zeros((4, 4))
    tilted[:3, 1], tilted[:3, 2], tilted[2, 0], tilted[3, 3] = (0, 0.9, -0.43), (1, 0, 0), 1, 1
    np.testing.assert_array_equal(axial_turn(tilted, (10, 10)), np.eye(3))
    coronal = np.zeros((4, 4))
    coronal[:3, 1], coronal[:3, 2], coronal[1, 0], coronal[3, 3] = (0, 0, -1), (1, 0, 0), 1, 1
    np.testing.assert_array_equal(axial_turn(coronal, (10, 10)), np.eye(3))


def test_the_way_back_is_nan_outside_and_beside_nan() -> None:
    values = np.ones((32, 32), np.float32)
    values[10, 10] = np.nan
    back = resample_to_source(values, fit_field_of_view(np.array([31.5, 31.5]), (1, 1), 32, 32.0), (64, 64))
    assert np.isfinite(back).sum() == 32 * 32 - 1
    assert np.isnan(back[26, 26])
    assert np.isnan(back[:16]).all()


def test_a_grid_that_is_not_aligned_is_refused() -> None:
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    with pytest.raises(AnomapError, match="E501"):
        resample_to_source(np.zeros((32, 32), np.float32), turned, (32, 32))


def test_a_box_of_model_pixels_covers_the_source_pixels_it_was_made_of():
    to_source = np.array([[4.0, 0, 1.5], [0, 2.0, 0.5], [0, 0, 1]])  # model pixel 0 covers rows 0..3, columns 0..1
    assert box_to_source(to_source, (0, 0, 1, 1)) == (0.0, 0.0, 4.0, 2.0)
    assert box_to_source(to_source, (1, 2, 3, 5)) == (4.0, 4.0, 12.0, 10.0)


def test_a_box_stays_a_box_when_the_grid_is_turned():
    turned = np.array([[0, -1.0, 63.0], [1.0, 0, 0], [0, 0, 1]])  # model columns run against source rows
    assert box_to_source(turned, (10, 20, 12, 24)) == (40.0, 10.0, 44.0, 12.0)
