"""Slices in space: order, affine and gaps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from anomap.dicom.sorting import largest_group, plane_of, stack_slices
from anomap.errors import AnomapError


def header(position, orientation=(1, 0, 0, 0, 1, 0), spacing=(2.0, 3.0), rows=8, columns=10, **values) -> Dataset:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = rows, columns
    dataset.ImagePositionPatient = [f"{v:.8g}" for v in position]
    dataset.ImageOrientationPatient = [f"{v:.8g}" for v in orientation]
    dataset.PixelSpacing = [f"{v:.8g}" for v in spacing]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def planes_at(heights, **values):
    return [plane_of(header((1.0, 2.0, height), **values)) for height in heights]


@given(
    turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9)] * 3),
    count=st.integers(1, 7),
    seed=st.integers(0, 999),
)
def test_any_shuffled_stack_comes_back_in_order_with_its_affine(turn, origin, spacing, count, seed):
    axes = Rotation.from_quat(turn).as_matrix()
    along, down, normal = axes.T
    order = np.random.default_rng(seed).permutation(count)
    headers = [
        header(np.array(origin) + k * spacing[0] * normal, (*along, *down), spacing[1:], SliceThickness=spacing[0])
        for k in order
    ]
    stack = stack_slices([plane_of(h) for h in headers])
    assert [order[i] for i in stack.order] == list(range(count))
    expected = np.eye(4)
    expected[:3, 0], expected[:3, 1], expected[:3, 2] = normal * spacing[0], down * spacing[1], along * spacing[2]
    expected[:3, 3] = origin
    np.testing.assert_allclose(stack.affine, expected, atol=2e-4)
    assert stack.warnings == ()


def test_a_pixel_lies_where_the_standard_says():
    """PS3.3 equation C.7.6.2.1-1, written out."""
    head = header((10.0, 20.0, 30.0), (0.6, 0.8, 0, 0, 0, -1), (2.0, 3.0))
    affine = stack_slices([plane_of(head)]).affine
    row, col = 4, 7
    expected = np.array([10.0, 20, 30]) + np.array([0.6, 0.8, 0]) * 3.0 * col + np.array([0, 0, -1.0]) * 2.0 * row
    np.testing.assert_allclose((affine @ (0, row, col, 1))[:3], expected)


@pytest.mark.parametrize("missing", [1, 3, 6])
def test_a_missing_slice_is_refused_or_warned_of(missing):
    heights = [5.0 * k for k in range(8) if k != missing]
    with pytest.raises(AnomapError, match=r"E103.*10\.00 mm after slice"):
        stack_slices(planes_at(heights))
    stack = stack_slices(planes_at(heights), allow_gaps=True)
    assert len(stack.order) == 7
    assert stack.affine[2, 0] == pytest.approx(5.0)
    assert len(stack.warnings) == 1


def test_a_missing_end_is_not_noticed():
    assert stack_slices(planes_at([0.0, 5, 10])).affine[2, 0] == 5.0


def test_repeated_places_are_refused_or_left_out_with_a_warning():
    planes = planes_at([0.0, 5, 5, 10])
    with pytest.raises(AnomapError, match="E103"):
        stack_slices(planes)
    stack = stack_slices(planes, allow_gaps=True)
    assert (stack.order, stack.repeated) == ((0, 1, 3), (2,))
    assert len(stack.warnings) == 1


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even():
    heights = [round(0.3 + 1.25 * k, 1) for k in range(40)]
    stack = stack_slices(planes_at(heights))
    assert stack.affine[2, 0] == pytest.approx(1.25, abs=0.005)


def test_a_slow_drift_of_spacing_is_uneven():
    heights = np.cumsum(np.linspace(0.96, 1.04, 80))
    with pytest.raises(AnomapError, match="E103"):
        stack_slices(planes_at(heights))


def test_a_tilted_gantry_shears_the_affine():
    tilt = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    stack = stack_slices([plane_of(header((0, 0, 4.0 * k), orientation)) for k in range(5)])
    np.testing.assert_allclose(stack.affine[:3, 0], [0, 0, 4.0], atol=1e-9)
    assert "20.0 degrees" in stack.warnings[0]


def test_slices_that_jump_sideways_or_lean_too_far_are_refused():
    with pytest.raises(AnomapError, match="E112"):
        stack_slices([plane_of(header((30.0 * (k == 2), 0, 4.0 * k))) for k in range(5)])
    with pytest.raises(AnomapError, match="E112"):
        stack_slices([plane_of(header((9.0 * k, 0, 4.0 * k))) for k in range(5)])


@pytest.mark.parametrize("thickness", [None, "0", "-3", "nan"])
def test_a_single_slice_needs_no_thickness(thickness):
    head = header((0, 0, 0))
    if thickness == "nan":
        head.SliceThickness = float("nan")
    elif thickness:
        head.SliceThickness = thickness
    assert stack_slices([plane_of(head)]).affine[2, 0] == 1.0


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", None),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", [-1, 1]),
        ("PixelSpacing", [float("nan"), 1]),
        ("PixelSpacing", [1]),
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", [0, 0]),
        ("ImagePositionPatient", [0, 0, float("inf")]),
        ("ImagePositionPatient", [0, 0, 1e9]),
        ("ImageOrientationPatient", None),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 1, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]),
        ("ImageOrientationPatient", [float("nan")] * 6),
    ],
)
def test_impossible_geometry_is_refused(keyword, value):
    head = header((0, 0, 0))
    setattr(head, keyword, value)
    with pytest.raises(AnomapError, match=f"E112.*{keyword}"):
        plane_of(head)


def test_directions_with_few_digits_are_made_orthonormal():
    plane = plane_of(header((0, 0, 0), (0.998, 0.06, 0.0, -0.06, 0.998, 0.0)))
    np.testing.assert_allclose(plane.directions.T @ plane.directions, np.eye(2), atol=1e-12)


def test_an_odd_slice_is_set_apart_and_two_halves_are_refused():
    odd = [{"rows": 9}, {"spacing": (2.0, 3.1)}, {"orientation": (0, 1, 0, 0, 0, -1)}, {"FrameOfReferenceUID": "1.2"}]
    for values in odd:
        planes = planes_at([0.0, 5, 10])
        planes.insert(1, plane_of(header((1, 2, 3), **values)))
        assert largest_group(planes) == (0, 2, 3)
    with pytest.raises(AnomapError, match="E112"):
        largest_group(planes_at([0.0, 5]) + planes_at([0.0, 5], rows=9))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3), 2)))
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_order_ascends_along_the_normal_in_every_plane(axes, signs):
    along, down = np.eye(3)[axes[0]] * signs[0], np.eye(3)[axes[1]] * signs[1]
    normal = np.cross(along, down)
    stack = stack_slices([plane_of(header(normal * -2.0 * k, (*along, *down))) for k in range(3)])
    assert stack.order == (2, 1, 0)
    np.testing.assert_allclose(stack.affine[:3, 0], normal * 2.0)
