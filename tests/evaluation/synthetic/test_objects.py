import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import line
from skimage.measure import label, regionprops

from anomap.errors import AnomapError
from anomap.evaluation.synthetic.objects import ascites, blob, metal, needle
from tests.evaluation.pictures import trunks


@given(st.integers(0, 2**32 - 1), st.sampled_from([64, 128]))
@settings(deadline=None, max_examples=40)
def test_a_needle_is_a_bright_straight_line_of_two_pixels_inside_the_body(seed: int, size: int) -> None:
    images = trunks(1, size=size)
    image, body = images.images[0, 0], images.body[0, 0]
    drawn, mask = needle(image, body, np.random.default_rng(seed))
    (region,) = regionprops(label(mask, connectivity=2))
    length = region.area / 2  # of a line of width 2
    # Slanted lines cover up to a tenth more pixels by half than their area says.
    assert 0.25 * size - 2 <= length <= 1.1 * 0.45 * size + 3
    # The second moment of a solid line of width w is w^2 / 12 across; regionprops' axis is four deviations.
    assert region.axis_minor_length <= 4 * np.sqrt(2**2 / 12) + 0.7
    assert drawn[mask].mean() > 0.7  # between one half at the soft edges and one
    assert drawn.max() <= 1.0
    assert (drawn >= image - 1e-6).all()
    near = np.argwhere(mask & ~body)
    assert len(near) <= 0.1 * mask.sum()  # its axis is inside; half its width may stand out along a border
    far = np.ones_like(mask)
    for row, col in np.argwhere(mask):
        far[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = False
    np.testing.assert_array_equal(drawn[far], image[far])


def test_a_needle_lies_on_the_line_skimage_draws() -> None:
    images = trunks(1, size=64)
    drawn, mask = needle(np.full((64, 64), -1, np.float32), images.body[0, 0], np.random.default_rng(5))
    ends = np.argwhere(mask)[[0, -1]]
    rows, cols = line(*ends[0], *ends[1])
    assert (drawn[rows, cols] > -1).all()
    # Along the needle nothing is lost to smoothing: the area of the line is width times length.
    (region,) = regionprops(mask.astype(int))
    assert ((drawn + 1) / 2).sum() == pytest.approx(region.area, rel=0.05)


def test_width_and_value_are_as_asked() -> None:
    black, body = np.full((64, 64), -1, np.float32), np.ones((64, 64), bool)
    thin, thick = (needle(black, body, np.random.default_rng(1), width_px=w)[1].sum() for w in (2.0, 6.0))
    assert thick / thin == pytest.approx(3, rel=0.25)
    assert needle(black, body, np.random.default_rng(1), value=0.3)[0].max() == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(5))
def test_a_visible_needle_avoids_what_is_as_bright_as_itself(seed: int) -> None:
    half = np.full((64, 64), -0.5, np.float32)
    half[:, 24:] = 1.0
    drawn, mask = needle(half, np.ones((64, 64), bool), np.random.default_rng(seed), contrast=0.5)
    assert np.abs(drawn - half)[mask].mean() >= 0.5
    with pytest.raises(AnomapError, match="E114"):
        needle(np.ones((64, 64), np.float32), np.ones((64, 64), bool), np.random.default_rng(seed), contrast=0.5)


def test_a_blob_shifts_a_disc_of_the_body() -> None:
    body = np.ones((64, 64), bool)
    body[:, :20] = False
    for grey, moved in ((-0.4, 0.1), (0.6, 0.1)):
        image, mask = blob(np.full((64, 64), grey, np.float32), body, np.random.default_rng(0))
        assert image[mask].mean() == pytest.approx(moved, abs=0.05)
        assert not mask[:, :20].any()


FLUID = {"fluid": (0.2, 0.3), "bone": 0.6, "air": -0.9}


@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 64, 128]))
@settings(deadline=None, max_examples=30)
def test_fluid_is_a_crescent_along_the_wall_and_its_mask_is_exact(seed: int, size: int) -> None:
    images = trunks(1, size=size)
    image, body = images.images[0, 0], images.body[0, 0]
    drawn, mask = ascites(image, body, np.random.default_rng(seed), **FLUID)
    np.testing.assert_array_equal(drawn[~mask], image[~mask])
    assert ((drawn[mask] >= np.float32(0.2)) & (drawn[mask] <= np.float32(0.3))).all()
    assert not (mask & ~body).any()
    depth = ndimage.distance_transform_edt(body)[mask]
    assert depth.min() > 0.04 * size
    assert depth.max() <= 0.05 * size + 0.09 * size + 1
    rows, cols = np.nonzero(mask)
    middle = np.argwhere(body).mean(axis=0)
    assert (cols < middle[1]).all() or (cols > middle[1]).all()  # one flank
    assert np.ptp(rows) > np.ptp(cols)


def test_fluid_displaces_neither_bone_nor_gas() -> None:
    images = trunks(1, size=64)
    image, body = images.images[0, 0].copy(), images.body[0, 0]
    image[::3], image[1::3] = 0.9, -0.95
    drawn, mask = ascites(image, body, np.random.default_rng(0), **FLUID)
    assert mask.any()
    assert set(np.flatnonzero(mask.any(axis=1)) % 3) == {2}
    np.testing.assert_array_equal(drawn[::3], image[::3])
    with pytest.raises(AnomapError, match="E114"):
        ascites(np.ones_like(image), body, np.random.default_rng(0), **FLUID)
    with pytest.raises(AnomapError, match="E114"):
        ascites(image, np.zeros_like(body), np.random.default_rng(0), **FLUID)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_metal_is_round_and_streaks_reach_beyond_it_in_the_body_only(seed: int) -> None:
    images = trunks(1, size=64)
    image, body = images.images[0, 0], images.body[0, 0]
    plain, mask = metal(image, body, np.random.default_rng(seed))
    streaked, same = metal(image, body, np.random.default_rng(seed), streak=0.3)
    np.testing.assert_array_equal(mask, same)
    (region,) = regionprops(label(mask, connectivity=2))
    assert 1 <= region.area <= np.pi * (0.04 * 64 + 0.5) ** 2 + 1
    assert (plain[mask] >= image[mask]).all()
    assert plain[mask].mean() > 0.3
    assert plain[mask].max() == 1.0
    near = ndimage.binary_dilation(mask, np.ones((3, 3)))
    np.testing.assert_array_equal(plain[~near], image[~near])
    np.testing.assert_array_equal(streaked[~near & ~body], image[~near & ~body])
    change = (streaked - image)[~near]
    assert np.abs(change).max() <= 0.3 + 1e-6
    assert change.min() < -0.05
    assert change.max() > 0.05


def test_streaks_of_a_needle_leave_needle_and_mask_as_they_are() -> None:
    images = trunks(1, size=64)
    image, body = images.images[0, 0], images.body[0, 0]
    plain, mask = needle(image, body, np.random.default_rng(3), width_px=3.0)
    streaked, same = needle(image, body, np.random.default_rng(3), width_px=3.0, streak=0.3)
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(streaked[streaked == 1.0], plain[streaked == 1.0])
    assert np.abs(streaked - plain).max() > 0.1
    np.testing.assert_array_equal(streaked[~body & ~mask], plain[~body & ~mask])


def test_a_body_without_room_is_refused() -> None:
    tiny = np.zeros((64, 64), bool)
    with pytest.raises(AnomapError, match="E114"):
        blob(np.zeros((64, 64), np.float32), tiny, np.random.default_rng(0))
    tiny[30:34, 30:34] = True
    with pytest.raises(AnomapError, match="no room"):
        needle(np.zeros((64, 64), np.float32), tiny, np.random.default_rng(0))
