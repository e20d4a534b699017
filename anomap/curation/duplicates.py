"""Groups of equal and of nearly equal images, without comparing each with each.

Equal means the same hash of the decoded pixels. Nearly equal means perceptual hashes of 64 bits with few different
bits. Cut such a hash into d + r pieces: two hashes with at most d different bits agree in r whole pieces at least. So
for every choice of r pieces the hashes are sorted by them, and only neighbours that agree in all r are compared
(Manku, Jain and Das Sarma 2007, doi 10.1145/1242572.1242592).
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from anomap.types import Int64

UInt64 = npt.NDArray[np.uint64]

_BITS = 64
_AGREEING = 3  # r: pieces that agree; more of them make longer keys, which fewer unequal images share


def equal(values: list[str]) -> Int64:
    """Number the groups of equal values, from 1 in order of their first member.

    Args:
        values: N values; "" equals nothing.

    Returns:
        ``(N,)`` number of the group, 0 for what stands alone.
    """
    members: dict[str, list[int]] = {}
    for n, value in enumerate(values):
        if value:
            members.setdefault(value, []).append(n)
    groups = np.zeros(len(values), np.int64)
    for number, rows in enumerate((rows for rows in members.values() if len(rows) > 1), start=1):
        groups[rows] = number
    return groups


def near(hashes: UInt64, known: npt.NDArray[np.bool_], distance: int) -> Int64:
    """Number the groups of hashes that are linked by pairs of at most `distance` different bits.

    Args:
        hashes: ``(N,)``
        known: ``(N,)`` where there is a hash at all.
        distance: d, 0 to 8.

    Returns:
        ``(N,)`` number of the group, from 1 in order of its first member; 0 for what stands alone.
    """
    distinct, place = np.unique(hashes[known], return_inverse=True)
    pairs = _pairs(distinct, distance)
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(distinct),) * 2)
    _, component = connected_components(links, directed=False)
    label = np.zeros(len(hashes), np.int64)
    label[known] = component[place] + 1
    return equal([str(number) if number else "" for number in label])


def _pairs(distinct: UInt64, distance: int) -> Int64:
    """Pairs of places in `distinct` that differ in at most `distance` bits. ``(P, 2)``."""
    edges = np.linspace(0, _BITS, distance + _AGREEING + 1).round().astype(int)
    pieces = [sum(1 << bit for bit in range(*edge)) for edge in pairwise(edges)]
    found = [np.empty((0, 2), np.int64)]
    for chosen in combinations(pieces, _AGREEING):
        key = distinct & np.uint64(sum(chosen))
        order = np.argsort(key, kind="stable")
        found += _close_neighbours(distinct[order], key[order], order, distance)
    return np.unique(np.concatenate(found), axis=0)


def _close_neighbours(hashes: UInt64, key: UInt64, order: Int64, distance: int) -> list[Int64]:
    """Pairs within the runs of equal keys, first those of neighbours, then those two apart, and so on."""
    found = []
    first = np.arange(len(key))
    for apart in range(1, len(key)):
        first = first[first + apart < len(key)]
        first = first[key[first] == key[first + apart]]
        if not len(first):
            break
        second = first + apart
        close = first[np.bitwise_count(hashes[first] ^ hashes[second]) <= distance]
        found.append(np.sort(np.stack([order[close], order[close + apart]], axis=1), axis=1))
    return found
