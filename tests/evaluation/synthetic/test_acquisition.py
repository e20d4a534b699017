from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from anomap.evaluation.synthetic.acquisition import (
    blurred,
    foreign_limb,
    inverted,
    mirrored,
    missing_rows,
    noisy,
    rotated90,
    upside_down,
)
from tests.evaluation.pictures import trunks


def with_padding(count: int = 2):
    images = trunks(count)
    valid = images.valid.copy()
    valid[:, :, :4] = False
    return replace(images, valid=valid, body=images.body & valid)


def test_a_quarter_turn_keeps_the_way_back_to_source_pixels() -> None:
    images = trunks(2)
    turned = rotated90(images)
    where = (40.0, 200.0)  # a source pixel that is a model pixel too
    row, col = int(where[0] // 8), int(where[1] // 8)
    (new_row,), (new_col,) = np.nonzero(np.rot90(np.arange(32 * 32).reshape(32, 32) == row * 32 + col))
    np.testing.assert_allclose(turned.to_source[0] @ (new_row, new_col, 1), (*where, 1))
    np.testing.assert_array_equal(turned.images[1, 0], np.rot90(images.images[1, 0]))
    np.testing.assert_array_equal(turned.body[1, 0], np.rot90(images.body[1, 0]))
    four = rotated90(rotated90(rotated90(turned)))
    np.testing.assert_array_equal(four.images, images.images)
    np.testing.assert_allclose(four.to_source, images.to_source, atol=1e-9)


@pytest.mark.parametrize(
    ("turn", "by_hand", "at"), [(upside_down, np.flipud, (31 - 5, 7)), (mirrored, np.fliplr, (5, 31 - 7))]
)
def test_a_mirrored_image_keeps_the_way_back_and_undoes_itself(turn, by_hand, at) -> None:
    images = with_padding()
    other = turn(images)
    np.testing.assert_array_equal(other.images[0, 0], by_hand(images.images[0, 0]))
    np.testing.assert_array_equal(other.valid[0, 0], by_hand(images.valid[0, 0]))
    np.testing.assert_allclose(other.to_source[0] @ (*at, 1), images.to_source[0] @ (5, 7, 1))
    np.testing.assert_array_equal(turn(other).images, images.images)


def test_inverting_leaves_padding_alone_and_undoes_itself() -> None:
    images = with_padding()
    swapped = inverted(images)
    np.testing.assert_array_equal(swapped.images[~images.valid], images.images[~images.valid])
    np.testing.assert_array_equal(swapped.images[images.valid], -images.images[images.valid])
    np.testing.assert_array_equal(inverted(swapped).images, images.images)


def test_noise_has_the_deviation_asked_for_and_leaves_padding_alone() -> None:
    images = with_padding(8)
    images = replace(images, images=np.zeros_like(images.images))
    loud = noisy(images, deviation=0.2).images
    assert loud[images.valid].std() == pytest.approx(0.2, rel=0.05)
    assert not loud[~images.valid].any()
    assert (loud[0] != loud[1]).any()


def test_where_a_model_sees_the_body_only_noise_stays_in_it() -> None:
    images = trunks(2, kind="ct", fit="body")
    images = replace(images, spec=replace(images.spec, mask_outside_body=True))
    changed = noisy(images).images != images.images
    assert changed.any()
    assert not changed[~images.body].any()


def test_blur_is_a_gaussian_and_leaves_padding_alone() -> None:
    images = trunks(1)
    expected = ndimage.gaussian_filter(images.images[0, 0], 0.05 * 32, mode="nearest")
    np.testing.assert_allclose(blurred(images, sigma=0.05).images[0, 0], expected, atol=1e-6)
    padded = with_padding()
    np.testing.assert_array_equal(blurred(padded).images[~padded.valid], padded.images[~padded.valid])


def test_missing_rows_are_whole_rows_through_the_body_and_nothing_else_changes() -> None:
    images = with_padding(12)
    altered, masks = missing_rows(images)
    np.testing.assert_array_equal(altered.images[~masks[:, None]], images.images[~masks[:, None]])
    assert (altered.images[masks[:, None]] == -1).all()
    for mask, valid, body in zip(masks, images.valid[:, 0], images.body[:, 0], strict=True):
        rows = np.flatnonzero(mask.any(axis=1))
        assert (np.diff(rows) == 1).all()
        assert 0.05 * 32 <= len(rows) <= 0.21 * 32
        np.testing.assert_array_equal(mask[rows], valid[rows])
        assert (mask & body).any()


@pytest.mark.parametrize("kind", ["ct", "radiograph"])
def test_a_limb_is_something_else_of_ordinary_grey_values(kind: str) -> None:
    images = trunks(6, size=64, kind=kind, fit="body" if kind == "ct" else "squeeze")
    limbs = foreign_limb(images, tissue=0.1)
    for n in range(6):
        picture = limbs.images[n, 0]
        labels, count = ndimage.label(picture > -0.5)
        assert count == 1
        assert (picture > 0.8).any()  # bone
        assert np.median(picture[labels == 1]) == pytest.approx(0.1, abs=0.1)
        if kind == "ct":
            assert not (limbs.body[n, 0] ^ (labels == 1)).any()
            rows, cols = np.nonzero(labels)
            assert np.ptp(rows) == pytest.approx(np.ptp(cols), abs=0.35 * np.ptp(cols) + 2)
    assert (limbs.images[0] != limbs.images[1]).any()
