from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import line
from skimage.measure import label, regionprops

from anomap.errors import AnomapError
from anomap.evaluation.synthetic import PLANTS, blob, inverted, needle, planted, rotated90
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


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_what_is_planted_depends_on_the_name_alone(name: str) -> None:
    images = trunks(4, size=64)
    altered, masks = planted(images, PLANTS[name], name)
    order = [2, 0, 3, 1]
    parts = {n: getattr(images, n)[order] for n in ("images", "valid", "body", "frame", "to_source", "gain", "offset")}
    shuffled = replace(images, **parts, frame_ids=tuple(images.frame_ids[i] for i in order))
    again, again_masks = planted(shuffled, PLANTS[name], name)
    np.testing.assert_array_equal(altered.images[order], again.images)
    np.testing.assert_array_equal(masks[order], again_masks)
    assert altered.frame_ids == images.frame_ids
    assert (masks != planted(images, PLANTS[name], "elsewhere")[1]).any()
    assert (masks[0] != masks[1]).any()


def test_only_the_mask_and_its_soft_edge_change() -> None:
    images = trunks(5, size=64)
    for name, plant in PLANTS.items():
        altered, masks = planted(images, plant, name)
        changed = np.abs(altered.images - images.images)[:, 0] > 0.2
        assert masks.any(axis=(1, 2)).all()
        assert (changed & ~masks).sum() < 0.5 * masks.sum()
        assert (changed & masks).sum() > 0.9 * masks.sum()
        assert np.abs(altered.images).max() <= 1


def test_a_blob_shifts_a_disc_of_the_body() -> None:
    body = np.ones((64, 64), bool)
    body[:, :20] = False
    for grey, moved in ((-0.4, 0.1), (0.6, 0.1)):
        image, mask = blob(np.full((64, 64), grey, np.float32), body, np.random.default_rng(0))
        assert image[mask].mean() == pytest.approx(moved, abs=0.05)
        assert not mask[:, :20].any()


def test_a_quarter_turn_keeps_the_way_back_to_source_pixels() -> None:
    images = trunks(2)
    turned = rotated90(images)
    source = np.zeros((256, 256))
    where = (40.0, 200.0)  # a source pixel that is a model pixel too
    row, col = int(where[0] // 8), int(where[1] // 8)
    source[40, 200] = 1
    (new_row,), (new_col,) = np.nonzero(np.rot90(np.arange(32 * 32).reshape(32, 32) == row * 32 + col))
    np.testing.assert_allclose(turned.to_source[0] @ (new_row, new_col, 1), (*where, 1))
    np.testing.assert_array_equal(turned.images[1, 0], np.rot90(images.images[1, 0]))
    np.testing.assert_array_equal(turned.body[1, 0], np.rot90(images.body[1, 0]))
    four = rotated90(rotated90(rotated90(turned)))
    np.testing.assert_array_equal(four.images, images.images)
    np.testing.assert_allclose(four.to_source, images.to_source, atol=1e-9)


def test_inverting_leaves_padding_alone_and_undoes_itself() -> None:
    images = trunks(2)
    valid = images.valid.copy()
    valid[:, :, :4] = False
    images = replace(images, valid=valid)
    swapped = inverted(images)
    np.testing.assert_array_equal(swapped.images[~valid], images.images[~valid])
    np.testing.assert_array_equal(swapped.images[valid], -images.images[valid])
    np.testing.assert_array_equal(inverted(swapped).images, images.images)


def test_a_body_without_room_is_refused() -> None:
    tiny = np.zeros((64, 64), bool)
    with pytest.raises(AnomapError, match="E114"):
        blob(np.zeros((64, 64), np.float32), tiny, np.random.default_rng(0))
    tiny[30:34, 30:34] = True
    with pytest.raises(AnomapError, match="no room"):
        planted(replace(trunks(1, size=64), body=tiny[None, None]), partial(needle, width_px=1.0), "needle")
