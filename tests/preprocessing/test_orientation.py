"""Turns of a volume against index arithmetic written out, and matrices whose angles are known."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anomap.errors import AnomapError
from anomap.preprocessing.orientation import (
    AXIAL,
    CORONAL,
    MAX_SHEAR,
    SAGITTAL,
    Turn,
    rotation_degrees,
    shear,
    turn_towards,
)

SHAPE = (3, 4, 5)
SPACING = np.array([5.0, 0.7, 1.3])
ORIGIN = np.array([-120.0, 35.5, 900.25])
ALL = [(order, flip) for order in permutations(range(3)) for flip in product((False, True), repeat=3)]
angles = st.floats(-25.0, 25.0)


def volume() -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE)


def affine_of(directions: np.ndarray, spacing: np.ndarray = SPACING) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = ORIGIN
    return affine


def source_index(turned: tuple[int, ...], order: tuple[int, ...], flip: tuple[bool, ...]) -> tuple[int, ...]:
    """The index in the source, one axis at a time."""
    index = [0, 0, 0]
    for axis in range(3):
        size = SHAPE[order[axis]]
        index[order[axis]] = size - 1 - turned[axis] if flip[axis] else turned[axis]
    return tuple(index)


@pytest.mark.parametrize(("order", "flip"), ALL)
def test_every_turn_moves_each_voxel_where_the_matrix_says_and_back(order, flip) -> None:
    turn, source = Turn(order=order, flip=flip), volume()
    turned = turn.turned(source)
    assert turned.shape == tuple(SHAPE[axis] for axis in order)
    for index in np.ndindex(turned.shape):
        expected = source_index(index, order, flip)
        assert turned[index] == source[expected]
        np.testing.assert_array_equal(turn.matrix(SHAPE) @ [*index, 1], [*expected, 1])
    np.testing.assert_array_equal(turn.restored(turned), source)
    np.testing.assert_array_equal(turn.turned(turn.restored(turned)), turned)


def test_a_turn_copies_nothing() -> None:
    source = volume()
    turn = Turn(order=(2, 0, 1), flip=(True, False, True))
    assert np.shares_memory(turn.turned(source), source)
    assert np.shares_memory(turn.restored(turn.turned(source)), source)


@pytest.mark.parametrize(("order", "flip"), ALL)
def test_a_voxel_keeps_its_place_in_the_patient(order, flip) -> None:
    """The same number lies at the same millimetre before and after, for an oblique volume too."""
    directions = Rotation.from_euler("zyx", [17, -11, 23], degrees=True).as_matrix()
    affine, source = affine_of(directions), volume()
    turn = Turn(order=order, flip=flip)
    turned, after = turn.turned(source), turn.affine(affine, SHAPE)
    for index in np.ndindex(turned.shape):
        ((k, j, i),) = np.argwhere(source == turned[index])
        where = ORIGIN + directions[:, 0] * 5.0 * k + directions[:, 1] * 0.7 * j + directions[:, 2] * 1.3 * i
        np.testing.assert_allclose(after[:3] @ [*index, 1], where, atol=1e-9)


@pytest.mark.parametrize("wanted", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(("order", "flip"), ALL)
def test_whatever_way_a_volume_lies_it_is_turned_to_the_wanted_directions(wanted, order, flip) -> None:
    """The wanted volume is scrambled first; the turn found puts its directions back."""
    scrambled = wanted.copy()
    for axis in range(3):
        scrambled[:, order[axis]] = wanted[:, axis] * (-1 if flip[axis] else 1)
    turn = turn_towards(affine_of(scrambled), wanted)
    assert (turn.order, turn.flip) == (order, flip)
    after = turn.affine(affine_of(scrambled), SHAPE)[:3, :3]
    np.testing.assert_allclose(after / np.linalg.norm(after, axis=0), wanted, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ALL), st.tuples(angles, angles, angles).filter(lambda a: sum(map(abs, a)) <= 25.0))
def test_up_to_25_degrees_the_nearest_axes_are_found(turn, tilt) -> None:
    order, flip = turn
    scrambled = np.empty((3, 3))
    for axis in range(3):
        scrambled[:, order[axis]] = AXIAL[:, axis] * (-1 if flip[axis] else 1)
    tilted = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ scrambled
    found = turn_towards(affine_of(tilted), AXIAL)
    assert (found.order, found.flip) == (order, flip)


def test_the_directions_are_those_in_which_pictures_are_shown() -> None:
    left, posterior, superior = np.eye(3)
    for got, (k, rows, columns) in {
        "axial": (AXIAL, (superior, posterior, left)),
        "coronal": (CORONAL, (posterior, -superior, left)),
        "sagittal": (SAGITTAL, (left, -superior, posterior)),
    }.values():
        np.testing.assert_array_equal(got, np.stack([k, rows, columns], axis=1))


def test_a_nifti_volume_to_the_right_front_and_top_is_flipped_to_the_left_and_back() -> None:
    right, front, top = np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, 1.0])
    turn = turn_towards(affine_of(np.stack([top, front, right], axis=1)), AXIAL)
    assert turn == Turn(order=(0, 1, 2), flip=(False, True, True))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_axis_without_a_direction_is_refused(axis, value) -> None:
    affine = affine_of(AXIAL)
    affine[:3, axis] = value
    with pytest.raises(AnomapError) as refused:
        turn_towards(affine, AXIAL)
    assert refused.value.code == "E112"


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 40.0), st.permutations(range(3)), st.integers(0, 2**31))
def test_shear_is_the_cosine_between_the_axes(degrees, axes, seed) -> None:
    """One axis leans by so much towards another; then everything is rotated and scaled, which changes no angle."""
    directions = np.eye(3)
    lean = np.radians(degrees)
    directions[:, axes[0]] = np.cos(lean) * np.eye(3)[axes[0]] + np.sin(lean) * np.eye(3)[axes[1]]
    turned = Rotation.random(random_state=seed % 1000).as_matrix() @ directions
    assert shear(affine_of(turned)) == pytest.approx(np.sin(lean), abs=1e-9)


def test_one_degree_is_the_most_that_axes_may_lean() -> None:
    assert np.sin(np.radians(1.0)) < MAX_SHEAR < np.sin(np.radians(1.2))


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("degrees", [-60.0, -20.0, 0.0, 1.0, 45.0, 90.0])
def test_rotation_about_one_axis_is_its_angle(axis, degrees) -> None:
    tilted = Rotation.from_euler(axis, degrees, degrees=True).as_matrix() @ AXIAL
    assert rotation_degrees(affine_of(tilted)) == pytest.approx(abs(degrees), abs=1e-5)


def test_rotation_is_the_angle_of_the_axis_that_leans_most() -> None:
    assert rotation_degrees(affine_of(-AXIAL)) == pytest.approx(180.0)
    both = Rotation.from_euler("xz", [30.0, 10.0], degrees=True).as_matrix() @ AXIAL
    expected = max(np.degrees(np.arccos(both[:, axis] @ AXIAL[:, axis])) for axis in range(3))
    assert rotation_degrees(affine_of(both)) == pytest.approx(expected)
    assert expected > 30.0
