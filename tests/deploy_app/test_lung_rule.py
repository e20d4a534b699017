"""The rule that stands for the truth: it finds the two dark fields of a drawn chest, and refuses what has none."""

import numpy as np
import pytest
from scipy import ndimage

from deploy_app.examples.gated_segmentation.rule import SIDE, lung_fields


def chest(left=(60, 36), right=(60, 92), radii=(36, 16), shade=0.2) -> tuple[np.ndarray, np.ndarray]:
    """Two dark ellipses in a bright trunk before a dark background, softened, with grain."""
    row, column = np.indices((SIDE, SIDE))
    lungs = np.zeros((SIDE, SIDE), bool)
    for centre in (left, right):
        lungs |= ((row - centre[0]) / radii[0]) ** 2 + ((column - centre[1]) / radii[1]) ** 2 < 1
    trunk = np.abs(column - SIDE / 2) < 58
    film = np.where(lungs, shade, np.where(trunk, 0.8, 0.0)) + np.random.default_rng(0).normal(0, 0.02, lungs.shape)
    return ndimage.gaussian_filter(film, 1.0).astype(np.float32), lungs


def overlap(found, truth) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def test_it_finds_both_fields_of_a_drawn_chest():
    film, lungs = chest()
    assert overlap(lung_fields(film), lungs) > 0.8


@pytest.mark.parametrize(("gain", "offset"), [(0.3, 0.5), (40.0, -7.0)])
def test_scale_and_offset_of_grey_values_do_not_matter(gain, offset):
    film, _ = chest()
    np.testing.assert_array_equal(lung_fields(film), lung_fields((gain * film + offset).astype(np.float32)))


def test_one_lung_alone_is_no_pair():
    film, _ = chest(right=(60, 36))
    assert lung_fields(film) is None


@pytest.mark.parametrize("spoil", [lambda film: -film, np.rot90, np.zeros_like], ids=["inverted", "turned", "empty"])
def test_what_shows_no_lung_fields_is_refused(spoil):
    film, _ = chest()
    assert lung_fields(np.ascontiguousarray(spoil(film))) is None
