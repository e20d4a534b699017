"""How well a map shows an anomaly whose pixels are known: pixel AP, best Dice, AUPRO, FROC.

Maps are higher where the image is odder. Only pixels that the model saw take part. Best Dice uses the threshold that
suits the truth best, which nobody knows beforehand: read it as an upper bound (design notes, method, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.evaluation.auroc import average_precision, counts_by_threshold
from anomap.types import Bool, Float64

FPR_LIMIT = 0.3  # of AUPRO (Bergmann et al. 2021)
FROC_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # false marks an image
MARKS = 10  # of an image
_CONNECTED = np.ones((3, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFigures:
    """How well maps show planted anomalies.

    Attributes:
        prevalence: Share of anomalous pixels: the average precision of a map that knows nothing.
        average_precision: Over all pixels of all images.
        best_dice: At the best of all thresholds.
        aupro: Mean overlap with each anomaly up to a share of `FPR_LIMIT` false pixels; 0.15 for a map that knows
            nothing.
        froc: False marks an image -> share of the anomalies that are hit.
    """

    prevalence: float
    average_precision: float
    best_dice: float
    aupro: float
    froc: dict[float, float]


def pixel_figures(maps: Float64, masks: Bool, valid: Bool, window: int) -> PixelFigures:
    """All figures of one kind of map.

    Args:
        maps: ``(N, H, W)``; NaN counts as not valid.
        masks: ``(N, H, W)`` the anomalies.
        valid: ``(N, H, W)``.
        window: Side of a mark in pixels.

    Raises:
        AnomapError: E200 when there is no anomalous or no other pixel.
    """
    seen = valid & np.isfinite(maps)
    normal, odd = maps[seen & ~masks], maps[seen & masks]
    return PixelFigures(
        prevalence=len(odd) / max(1, len(odd) + len(normal)),
        average_precision=average_precision(normal, odd),
        best_dice=best_dice(normal, odd),
        aupro=aupro(maps, masks, seen),
        froc=froc(maps, masks, seen, window),
    )


def best_dice(normal: Float64, odd: Float64) -> float:
    """Dice coefficient at the best of all thresholds, over the pixels of all images together.

    Args:
        normal: ``(A,)`` map values outside the anomalies.
        odd: ``(B,)`` inside.

    Raises:
        AnomapError: E200 when one is empty.
    """
    hits, alarms = counts_by_threshold(normal, odd)
    return float((2 * hits / (hits + alarms + len(odd))).max())


def aupro(maps: Float64, masks: Bool, seen: Bool, limit: float = FPR_LIMIT) -> float:
    """Area under the mean overlap of each connected anomaly over the share of false pixels, up to `limit`, over it.

    A pixel of an anomaly counts from the share of false pixels on at which a threshold includes it; the area is
    therefore the mean over its pixels of what is left up to the limit. Equal values go halfway, as by trapezoids.

    Args:
        maps: ``(N, H, W)``.
        masks: ``(N, H, W)``.
        seen: ``(N, H, W)`` pixels that take part.
        limit: Largest share of false pixels, in (0, 1].

    Raises:
        AnomapError: E200 when there is no anomalous or no other pixel.
    """
    normal = np.sort(maps[seen & ~masks])
    parts = []
    for values, mask in zip(maps, masks & seen, strict=True):
        labels, count = ndimage.label(mask, _CONNECTED)
        parts += [values[labels == label] for label in range(1, count + 1)]
    if not parts or not len(normal):
        raise AnomapError("E200", "need pixels inside and outside of anomalies")
    areas = []
    for inside in parts:
        above = len(normal) - np.searchsorted(normal, inside, "right")
        at_least = len(normal) - np.searchsorted(normal, inside, "left")
        areas.append(_area_left(above / len(normal), at_least / len(normal), limit).mean())
    return float(np.mean(areas))


def _area_left(start: Float64, end: Float64, limit: float) -> Float64:
    """Area below a ramp from 0 at `start` to 1 at `end` and 1 beyond, up to `limit`, as a share of the limit."""
    reach = np.minimum(end, limit)
    width = np.maximum(end - start, 1e-300)
    ramp = np.where(reach > start, (reach - start) ** 2 / (2 * width), 0.0)
    result: Float64 = (ramp + np.maximum(limit - end, 0.0)) / limit
    return result


def froc(
    maps: Float64, masks: Bool, seen: Bool, window: int, rates: tuple[float, ...] = FROC_RATES
) -> dict[float, float]:
    """Share of images whose anomaly is hit by a mark, at a number of false marks an image.

    Marks are the peaks of the map, the highest first; the windows of two marks don't share more than an edge. A mark
    hits when its window holds a pixel of the anomaly. Equal scores count against the map.

    Args:
        maps: ``(N, H, W)``.
        masks: ``(N, H, W)``, one anomaly an image.
        seen: ``(N, H, W)``.
        window: Side of a mark.
        rates: False marks an image.
    """
    best_hit = np.full(len(maps), -np.inf)
    misses: list[float] = []
    for n, (values, mask, inside) in enumerate(zip(maps, masks, seen, strict=True)):
        for score, hit in _marks(np.where(inside, values, -np.inf), mask, window):
            if hit:
                best_hit[n] = max(best_hit[n], score)
            else:
                misses.append(score)
    ordered = np.sort(misses)[::-1]
    result = {}
    for rate in rates:
        allowed = int(np.floor(rate * len(maps) + 1e-9))
        bar = ordered[allowed] if allowed < len(ordered) else -np.inf
        result[rate] = float(np.mean(best_hit > bar))
    return result


def _marks(values: Float64, mask: Bool, window: int) -> list[tuple[float, bool]]:
    """Score of each peak of one map, and whether its window touches the anomaly."""
    left, marks = values.copy(), []
    before, after = window // 2, (window + 1) // 2
    for _ in range(MARKS):
        row, col = np.unravel_index(left.argmax(), left.shape)
        if not np.isfinite(left[row, col]):
            break
        own = np.s_[max(0, row - before) : row + after, max(0, col - before) : col + after]
        marks.append((float(values[row, col]), bool(mask[own].any())))
        left[max(0, row - window + 1) : row + window, max(0, col - window + 1) : col + window] = -np.inf
    return marks
