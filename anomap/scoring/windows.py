"""Square windows at stride 1: exact sums over all of them, and their place on the pixel grid.

A window is named by its first row and column. Of an image of ``H`` rows there are ``H - window + 1`` window rows
(481 x 481 windows of 32 pixels in an image of 512).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.types import Bool, Float64, Int64

Integers = npt.NDArray[np.integer[Any]]


def check_window(shape: tuple[int, ...], window: int) -> None:
    """Raise E200 unless a window of `window` pixels fits into an image of shape ``(..., H, W)``."""
    if not 1 <= window <= min(shape[-2:]):
        raise AnomapError("E200", f"window of {window} pixels does not fit an image of {shape[-2]} x {shape[-1]}")


def box_sum(values: Integers, window: int, bound: int) -> Integers:
    """Sum over every window, exact.

    Sums of 1, 2, 4, ... neighbours are added up to the window's side, so the cost grows with its logarithm, and
    every addition uses the narrowest integers that hold the result: eight or sixteen bits for indicator images,
    which is what makes the dense Wasserstein map fast.

    Args:
        values: ``(..., H, W)`` integers.
        window: Side in pixels.
        bound: Largest absolute value in `values`.

    Returns:
        ``(..., H - window + 1, W - window + 1)``, of a signed type just wide enough.
    """
    down = _line_sum(values, window, bound, axis=values.ndim - 2)
    return _line_sum(down, window, bound * window, axis=values.ndim - 1)


def _line_sum(values: Integers, window: int, bound: int, axis: int) -> Integers:
    """Sum of `window` neighbours along one axis, by the binary digits of `window`."""
    count = values.shape[axis] - window + 1
    total: Integers | None = None
    taken, size, block = 0, 1, values.astype(_narrowest(bound), copy=False)
    while True:
        if window & size:
            part = _cut(block, axis, taken, count)
            taken += size
            total = part if total is None else _add(total, part, bound * taken)
        if 2 * size > window:
            break
        length = block.shape[axis] - size
        block = _add(_cut(block, axis, 0, length), _cut(block, axis, size, length), bound * 2 * size)
        size *= 2
    assert total is not None  # noqa: S101 (window >= 1 has a binary digit)
    return total


def _cut(values: Integers, axis: int, start: int, length: int) -> Integers:
    """`length` entries from `start` along one axis (a view)."""
    return values[(*(slice(None),) * axis, slice(start, start + length))]


def _add(left: Integers, right: Integers, bound: int) -> Integers:
    dtype = _narrowest(bound)
    return np.add(left.astype(dtype, copy=False), right.astype(dtype, copy=False))


def _narrowest(bound: int) -> type[np.signedinteger[Any]]:
    """The smallest signed integer type that holds -bound..bound."""
    for dtype in (np.int8, np.int16, np.int32):
        if bound <= np.iinfo(dtype).max:
            return dtype
    return np.int64


def window_counts(mask: Bool, window: int) -> Int64:
    """Number of True pixels in every window, ``(..., H, W)`` -> ``(..., H - window + 1, W - window + 1)``."""
    return box_sum(mask.view(np.int8), window, 1).astype(np.int64)


def centre_on_pixels(dense: Float64, window: int, valid: Bool) -> tuple[Float64, float]:
    """Lay window scores on pixels, each under the centre of its window, and extend them to the borders.

    The centre of an even window lies between four pixels. The grid returned is therefore shifted against the
    image by exactly half a pixel, and one row and column larger so that it still covers every pixel: its entry
    ``[i, j]`` belongs to image row ``i + shift`` and column ``j + shift``. Places whose own window was not scored
    (near borders and padding) take the nearest scored window, as long as that window contains them.

    Args:
        dense: ``(H - window + 1, W - window + 1)``, NaN where a window was not scored.
        window: Side in pixels.
        valid: ``(H, W)``, False where pixels hold no image.

    Returns:
        ``(H, W)`` for odd, ``(H + 1, W + 1)`` for even windows, NaN where no scored window is near; and `shift`,
        0 or -0.5 pixels.
    """
    before, shift = window // 2, 0.0 if window % 2 else -0.5
    if valid.all():
        return np.pad(dense, before, mode="edge"), shift
    return extend(np.pad(dense, before, constant_values=np.nan), before), shift


def extend(values: Float64, reach: int) -> Float64:
    """Fill NaN with the nearest value, if one lies at most `reach` rows and columns away; ``(H, W)``."""
    known = np.isfinite(values)
    if known.all() or not known.any():
        return values
    near = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    gap = np.abs(near - np.indices(values.shape)).max(axis=0)
    return np.where(gap <= reach, values[tuple(near)], np.nan)
