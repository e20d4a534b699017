"""The figures about hashes: pairs are counted right, and every change changes the picture."""

import numpy as np
from PIL import Image

from benchmarks.copies import CHANGES, HASHES, changed_bits, close_pairs
from tests.curation.test_phash import picture


def test_only_pairs_of_different_patients_count():
    hashes = np.array([0b0, 0b1, 0b111, 0b0], np.uint64)
    found = close_pairs(hashes, ["a", "a", "b", "c"])
    assert found == {"0": 1, "1": 2, "2": 3, "4": 5, "6": 5, "8": 5}


def test_each_change_changes_the_picture_and_few_bits():
    grey = Image.fromarray(np.uint8(picture(0) * 255))
    for name, change in CHANGES.items():
        assert change(grey).size != grey.size or np.asarray(change(grey)).tolist() != np.asarray(grey).tolist(), name
    for hashed in HASHES.values():
        assert all(bits["most"] < 32 for bits in changed_bits([grey], hashed).values())
