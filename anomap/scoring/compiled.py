"""The Wasserstein distance of every window, compiled by numba: the fast twin of the numpy way in `wasserstein`.

Every column of the image keeps, for the `window` pixels above and including the current row, how many of `image`
minus how many of `other` lie at or below each grey level. A step down changes each column by its new and its old
pixel, a step to the right adds one column and takes another away. All of it is additions of small integers along
the grey levels, side by side in memory, which a processor does 16 or 32 at a time.

numba is asked for by the extra ``fast``. To start and to compile takes about a second, see `wasserstein._pays`; the
result is kept where numba keeps such things: ``NUMBA_CACHE_DIR``, beside this file, or the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from anomap.scoring.windows import Integers
from anomap.types import UInt16

MAX_WINDOW = 127  # counts of a column then fit 8 bits, of a window 16, and its area at 65536 grey levels 32
_BLOCK = 256  # grey levels at once: the counts of all columns then fit a processor's cache
_VECTOR = 32  # blocks are filled up to a multiple of what goes through a vector register
_MAX_GAP = (1 << 15) - 1  # gaps are multiplied as 16-bit integers
_SIGNATURE = "void(uint16[:, ::1], uint16[:, ::1], int16[::1], int64, int32[:, ::1])"


@cache
def available() -> bool:
    """Whether numba is installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def window_areas(image: Integers, other: Integers, window: int, levels: int) -> Integers:
    """The distance in every window times its pixels, of one image.

    Args:
        image: ``(H, W)`` integers in 0 .. levels - 1.
        other: Likewise.
        window: Side of the windows in pixels, at most `MAX_WINDOW`.
        levels: Number of grey levels, at most 65536.

    Returns:
        ``(H - window + 1, W - window + 1)`` integers.
    """
    occurs = np.zeros(levels, np.bool_)
    occurs[::_MAX_GAP] = True  # a level more changes nothing, and no gap is now too wide
    occurs[image] = occurs[other] = True
    rank = np.cumsum(occurs, dtype=np.int32) - 1
    gaps = np.diff(np.flatnonzero(occurs))
    image, other = rank[image], rank[other]
    areas = np.zeros((image.shape[0] - window + 1, image.shape[1] - window + 1), np.int32)
    for start in range(0, len(gaps), _BLOCK):
        part = gaps[start : start + _BLOCK]
        weights = np.zeros(-(-len(part) // _VECTOR) * _VECTOR, np.int16)
        weights[: len(part)] = part
        pictures = (_below(ranks, start, len(weights), window) for ranks in (image, other))
        _kernel()(*pictures, weights, window, areas)
    return areas


def _below(ranks: Integers, start: int, length: int, window: int) -> UInt16:
    """How many of the `length` levels from `start` on are at or above each pixel, under `window` rows of none."""
    result = np.zeros((window + ranks.shape[0], ranks.shape[1]), np.uint16)
    np.clip(start + length - ranks, 0, length, out=result[window:], casting="unsafe")
    return result


@cache
def _kernel() -> Callable[..., None]:
    """`add_block` compiled, from the cache where there is one."""
    import numba

    def compiled(**options: bool) -> Any:
        return numba.njit(_SIGNATURE, nogil=True, **options)(add_block)

    try:
        return compiled(cache=True)  # type: ignore[no-any-return]
    except (RuntimeError, OSError):  # no folder that can be written, or a full one
        return compiled()  # type: ignore[no-any-return]


def add_block(image: UInt16, other: UInt16, weights: Integers, window: int, areas: Integers) -> None:
    """Add the part of the distances that a block of grey levels makes up.

    Written for numba, which would widen all integers to 64 bits were they not told apart by the assignments below.

    Args:
        image: ``(window + H, W)`` number of the block's levels at or above the pixel, 0 .. L; above the image 0.
        other: Likewise.
        weights: ``(L,)`` 16-bit gaps to the next level, 0 for a level that fills up.
        window: Side of the windows in pixels.
        areas: ``(H - window + 1, W - window + 1)`` 32-bit sums, changed in place.
    """
    length = len(weights)
    steps = np.zeros(2 * length, np.int8)  # steps[n:][v] is 1 where level v is one of the last n
    steps[length:] = 1
    columns = np.zeros((image.shape[1], length), np.int8)
    inside = np.zeros(length, np.int16)
    for row in range(image.shape[0] - window):
        for col in range(image.shape[1]):
            column = columns[col]
            plus, old_plus = steps[image[row + window, col] :], steps[image[row, col] :]
            minus, old_minus = steps[other[row + window, col] :], steps[other[row, col] :]
            for v in range(length):
                column[v] += plus[v] - minus[v] - old_plus[v] + old_minus[v]
        if row < window - 1:
            continue
        inside[:] = 0
        for col in range(window - 1):
            for v in range(length):
                inside[v] += columns[col, v]
        for col in range(areas.shape[1]):
            entering, leaving = columns[col + window - 1], columns[col]
            area = np.int32(0)
            for v in range(length):
                count = np.int16(inside[v] + entering[v])
                height = np.int16(count if count >= 0 else -count)
                area = np.int32(area + np.int32(np.int32(height) * np.int32(weights[v])))
                inside[v] = np.int16(count - leaving[v])
            areas[row - window + 1, col] += area
