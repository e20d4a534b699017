"""Residual scores: mean squared difference of images, of masked regions, of all windows, and the signed difference.

Mean squared errors are computed from grey levels as integers and are therefore exact, whatever the window.
"""

from __future__ import annotations

import numpy as np

from anomap.scoring.windows import Integers, box_sum, check_window, window_counts
from anomap.types import Bool, Float32, Float64


def mean_squared_error(image: Integers, other: Integers, mask: Bool | None = None) -> Float64:
    """Mean squared difference of two images, or of the part of them inside a mask.

    Args:
        image: ``(B, H, W)`` integers.
        other: Likewise.
        mask: ``(B, H, W)``; all pixels when omitted.

    Returns:
        ``(B,)`` in squared grey levels; NaN for an empty mask.
    """
    counts = np.full(len(image), np.prod(image.shape[1:]))
    if mask is not None and not mask.all():
        image, other = image * mask.view(np.uint8), other * mask.view(np.uint8)
        counts = np.array([np.count_nonzero(inside) for inside in mask])
    difference = _difference(image, other)
    sums = np.einsum("brc,brc->br", difference, difference).sum(axis=1, dtype=np.int64)
    result = np.full(len(image), np.nan)
    np.divide(sums, counts, out=result, where=counts > 0)
    return result


def window_mean_squared_error(image: Integers, other: Integers, window: int, valid: Bool | None = None) -> Float64:
    """Mean squared difference in every window at stride 1.

    Args:
        image: ``(B, H, W)`` integers.
        other: Likewise.
        window: Side of the windows in pixels.
        valid: ``(B, H, W)``; windows that contain a False pixel are not scored. All are, when omitted.

    Returns:
        ``(B, H - window + 1, W - window + 1)`` in squared grey levels, NaN where not scored.

    Raises:
        AnomapError: E200 when the window doesn't fit.
    """
    check_window(image.shape, window)
    squares = _difference(image, other)
    squares *= squares
    n = window * window
    scores: Float64 = box_sum(squares, window, int(squares.max(initial=0))) / n
    if valid is not None and not valid.all():
        scores[window_counts(valid, window) < n] = np.nan
    return scores


def signed_residual(image: Float32, reconstruction: Float32, unit_per_model: float) -> Float32:
    """Image minus reconstruction in physical units: positive where the image is brighter than the model expects.

    Args:
        image: ``(..., H, W)`` in [-1, 1].
        reconstruction: Likewise.
        unit_per_model: HU or grey levels per unit of the model's range.
    """
    return ((image.astype(np.float64) - reconstruction) * unit_per_model).astype(np.float32)


def _difference(image: Integers, other: Integers) -> Integers:
    """Image minus other, of a type that also holds the sum of the squares of a row of pixels."""
    eight_bit = image.dtype == other.dtype == np.uint8
    wide = np.int32 if eight_bit and image.shape[-1] * 255**2 <= np.iinfo(np.int32).max else np.int64
    difference: Integers = np.subtract(image, other, dtype=wide)
    return difference
