"""The perceptual hash: the same for a picture saved anew, another one for another picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anomap.curation.phash import perceptual_hash
from tests.made import body


def picture(seed: int) -> np.ndarray:
    """A body with a few soft spots of its own, ``(96, 96)`` in [0, 1]."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:96, 0:96]
    spots = [
        rng.uniform(0.3, 0.7) * np.exp(-((row - rng.uniform(20, 76)) ** 2 + (column - rng.uniform(20, 76)) ** 2) / 150)
        for _ in range(6)
    ]
    return np.clip(0.5 * body(96, 96) + sum(spots), 0, 1).astype(np.float32)


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.uint8(image * 255)).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file), np.float32) / 255


CHANGES = {
    "other units": lambda image: 4000 * image - 1000,
    "another gamma": lambda image: image**0.95,
    "JPEG": jpeg,
    "a third smaller": lambda image: np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)),
}


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("seed", range(5))
def test_a_picture_that_was_saved_anew_keeps_its_hash_nearly(name, seed):
    assert distance(picture(seed), CHANGES[name](picture(seed))) <= 4


def test_other_pictures_have_far_hashes():
    pictures = [picture(seed) for seed in range(30)]
    far = [distance(pictures[a], pictures[b]) for a in range(30) for b in range(a)]
    assert min(far) > 8
    assert distance(picture(0), 1 - picture(0)) > 40


def test_a_blank_picture_has_no_bits_and_every_hash_fits_64():
    assert perceptual_hash(np.full((50, 40), 7.3, np.float32)) == 0
    assert 0 < perceptual_hash(picture(1)) < 2**64
