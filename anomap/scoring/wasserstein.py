"""Exact Wasserstein-1 distance of grey-level samples: of images, of masked regions, of all windows.

For samples of equal size n on integer grey levels, ``WD = sum_v |A(v) - B(v)| / n`` with the cumulative counts A
and B: the area between the two distribution functions (the formula behind `scipy.stats.wasserstein_distance`).
It compares how much of each grey level there is and is blind to where: an edge moved within the window costs
nothing, which is why it forgives a generator's misplaced edges (Woodland et al. 2025,
doi 10.3390/bioengineering12101106). All sums here are of integers, hence exact; the only rounding is the last
division by n.

The dense map has three twins, equal to the last bit: numpy here, `compiled` for long work on a processor, and
`tensors` for a graphics card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anomap.errors import AnomapError
from anomap.scoring import compiled
from anomap.scoring.windows import Integers, box_sum, check_window, window_counts
from anomap.types import Bool, Float64, Int64

_CHUNK = 1 << 18  # pixels times grey levels handled at once: the 16-bit buffers then fit a processor's cache
_PRICE = 1 << 30  # pixels times grey levels that numpy manages in the time numba takes to start


def wasserstein(image: Integers, other: Integers, levels: int, mask: Bool | None = None) -> Float64:
    """Distance of the grey levels of two images, or of the part of them inside a mask.

    Args:
        image: ``(B, H, W)`` integers in 0 .. levels - 1.
        other: Likewise.
        levels: Number of grey levels.
        mask: ``(B, H, W)``; all pixels when omitted.

    Returns:
        ``(B,)`` in grey levels; NaN for an empty mask.

    Raises:
        AnomapError: E501 when a grey level lies outside 0 .. levels - 1.
    """
    _check_levels(image, other, levels)
    result = np.full(len(image), np.nan)
    for b in range(len(image)):
        inside = None if mask is None or mask[b].all() else mask[b]
        left, right = (values[b].reshape(-1) if inside is None else values[b][inside] for values in (image, other))
        if left.size:
            differences = _histogram(left, levels) - _histogram(right, levels)
            result[b] = np.abs(np.cumsum(differences)).sum() / left.size
    return result


def window_wasserstein(
    image: Integers,
    other: Integers,
    window: int,
    levels: int,
    valid: Bool | None = None,
    *,
    fast: bool | None = None,
) -> Float64:
    """Distance of the grey levels in every window at stride 1.

    ``n WD = sum_v |box(1[a <= v] - 1[b <= v])|``, where `box` sums over windows. Between two grey levels that
    occur in neither image the box sums stay the same, so only levels present are visited: the time grows with
    their number, times pixels, and does not depend on the window (figures: docs/performance-notes.md). Memory
    doesn't grow with the levels: they are streamed.

    Args:
        image: ``(B, H, W)`` integers in 0 .. levels - 1.
        other: Likewise.
        window: Side of the windows in pixels.
        levels: Number of grey levels.
        valid: ``(B, H, W)``; windows that contain a False pixel are not scored. All are, when omitted.
        fast: Whether to take the compiled way, where it is installed and can hold the window; decided by the
            work there is when omitted. The result is the same.

    Returns:
        ``(B, H - window + 1, W - window + 1)`` in grey levels, NaN where not scored. Entry ``[b, r, c]`` is of the
        window with rows ``r .. r + window - 1`` and columns ``c .. c + window - 1``.

    Raises:
        AnomapError: E200 when the window doesn't fit, E501 when a grey level lies outside 0 .. levels - 1.
    """
    check_window(image.shape, window)
    _check_levels(image, other, levels)
    scores = np.empty((len(image), image.shape[1] - window + 1, image.shape[2] - window + 1))
    if fast is None:
        fast = _METER.pays(image.size * levels)
    if fast and window <= compiled.MAX_WINDOW and levels <= 65536 and compiled.available():
        for b in range(len(image)):
            scores[b] = compiled.window_areas(image[b], other[b], window, levels)
    else:
        images_at_once = max(1, _CHUNK // (image.shape[-2] * image.shape[-1]))
        for start in range(0, len(image), images_at_once):
            part = slice(start, start + images_at_once)
            scores[part] = _window_areas(image[part], other[part], window, levels)
    n = window * window
    scores /= n
    if valid is not None and not valid.all():
        scores[window_counts(valid, window) < n] = np.nan
    return scores


class _Meter:
    """Decides when to start the compiled way: once numpy was given, in this process, the work that its start costs.

    Whatever comes, no process then spends more than twice the time of the better way. A single radiograph is
    never kept waiting, and a volume soon isn't either.
    """

    def __init__(self) -> None:
        self.work = 0

    def pays(self, work: int) -> bool:
        """Note `work`, in pixels times grey levels, and decide."""
        self.work += work
        return self.work > _PRICE


_METER = _Meter()


def _window_areas(image: Integers, other: Integers, window: int, levels: int) -> Integers:
    """The distance in every window times its pixels, as integers, streaming over the grey levels present."""
    dtype: type[np.integer[Any]] = np.uint8 if levels <= 256 else np.uint16 if levels <= 65536 else np.int64
    image, other = image.astype(dtype), other.astype(dtype)
    present = np.flatnonzero(
        np.bincount(image.reshape(-1), minlength=levels) + np.bincount(other.reshape(-1), minlength=levels)
    )
    n = window * window
    wide = np.int32 if n * levels <= np.iinfo(np.int32).max else np.int64
    areas = np.zeros((len(image), image.shape[1] - window + 1, image.shape[2] - window + 1), wide)
    at_once = max(1, _CHUNK // image.size)
    gaps, present = np.diff(present), present[:-1]  # above the last level both distribution functions are 1
    for start in range(0, len(gaps), at_once):
        level: Integers = present[start : start + at_once, None, None, None].astype(dtype)
        below = (image <= level).view(np.int8)
        below -= (other <= level).view(np.int8)
        boxes = box_sum(below, window, 1)
        np.abs(boxes, out=boxes)
        for box, gap in zip(boxes, gaps[start : start + at_once], strict=True):
            areas += box if gap == 1 else np.multiply(box, gap, dtype=wide)
    return areas


def _histogram(values: Integers, levels: int) -> Int64:
    """How often each grey level occurs, ``(n,) -> (levels,)``."""
    if values.dtype == np.uint8:  # numpy widens them to 64 bits first and takes 2.5 times as long
        import torch

        bytes_ = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        counts: Int64 = torch.bincount(bytes_, minlength=levels).numpy()
        return counts
    return np.bincount(values, minlength=levels)


def _check_levels(image: Integers, other: Integers, levels: int) -> None:
    for values in (image, other):
        if values.size and (values.min() < 0 or values.max() >= levels):
            raise AnomapError("E501", f"grey levels {values.min()}..{values.max()} leave 0..{levels - 1}")
