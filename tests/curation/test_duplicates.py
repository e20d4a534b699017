"""Groups of copies: what comparing each with each would find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from anomap.curation.duplicates import equal, near


def by_comparing_all(hashes, known, distance):
    """Numbers of the groups, from the whole matrix of distances."""
    close = np.bitwise_count(hashes[:, None] ^ hashes) <= distance
    close &= known[:, None] & known
    _, label = connected_components(close, directed=False)
    return equal([f"{n}" if there else "" for n, there in zip(label, known, strict=True)])


def test_equal_values_are_numbered_as_they_appear():
    assert equal(["b", "", "a", "b", "", "c", "a", "b"]).tolist() == [1, 0, 2, 1, 0, 0, 2, 1]
    assert equal([]).tolist() == []


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8])
def test_near_hashes_are_grouped_as_by_comparing_all(distance):
    rng = np.random.default_rng(distance)
    hashes = rng.integers(2**64, size=60, dtype=np.uint64).repeat(5)
    for _ in range(5):  # up to five flips of each
        flips = np.uint64(1) << rng.integers(0, 64, len(hashes)).astype(np.uint64)
        hashes = np.where(rng.random(len(hashes)) < 0.3, hashes ^ flips, hashes)
    known = rng.random(len(hashes)) < 0.9
    found = near(hashes, known, distance)
    assert found.max() > 5
    np.testing.assert_array_equal(found, by_comparing_all(hashes, known, distance))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 8), st.data())
def test_any_bits_may_differ(hashes, distance, data):
    bits = data.draw(st.lists(st.integers(0, 63), max_size=distance, unique=True))
    changed = [value ^ sum(1 << bit for bit in bits) for value in hashes]
    all_hashes = np.array(hashes + changed, np.uint64)
    groups = near(all_hashes, np.ones(len(all_hashes), bool), distance)
    assert (groups[: len(hashes)] == groups[len(hashes) :]).all()
    assert (groups > 0).all()


def test_chains_are_one_group_and_what_has_no_hash_is_in_none():
    hashes = np.array([0, 0b11, 0b1111, 0, 0b111 << 40], np.uint64)
    known = np.array([True, True, True, False, True])
    assert near(hashes, known, 2).tolist() == [1, 1, 1, 0, 0]


def test_many_blank_images_are_one_group_without_comparing_each_with_each():
    groups = near(np.zeros(200_000, np.uint64), np.ones(200_000, bool), 2)
    assert set(groups.tolist()) == {1}
