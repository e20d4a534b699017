"""What the page shows of a set: its best and worst cases, and its ROC curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomap.calibration import COMBINED
from anomap.evaluation.auroc import counts_by_threshold
from anomap.evaluation.features import FEATURE_KNN
from anomap.evaluation.measure import Measured, Ruler
from anomap.evaluation.scores import subset
from anomap.evaluation.store import rows_of
from anomap.types import Bool, Float32, Float64

SHOWN = 3  # at each end
CURVES = (COMBINED, "wd_patch", "w_distance", "mean_image_mse", FEATURE_KNN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image as the model saw it.

    Attributes:
        role: "highest" or "lowest" of its set.
        score: Its combined score.
        image, reconstruction: ``(H, W)`` in [-1, 1].
        heat: ``(H, W)`` window WD, NaN where nothing was scored.
        mask: ``(H, W)`` what was planted, or None.
    """

    role: str
    score: float
    image: Float32
    reconstruction: Float32
    heat: Float32
    mask: Bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """Pictures and curves of one set.

    Attributes:
        name: Of the set.
        cases: Highest first.
        curves: Score -> ``(T, 2)`` shares of normal and of odd images called odd; empty for the normal images.
    """

    name: str
    cases: tuple[Case, ...]
    curves: dict[str, Float64]


def exhibit(name: str, found: Measured, reference: Measured | None, ruler: Ruler, masks: Bool | None = None) -> Exhibit:
    """Choose the cases with the highest and the lowest combined score, and draw the curves against the normal images.

    Args:
        name: Of the set.
        found: The set.
        reference: The normal images; None for themselves.
        ruler: For the maps.
        masks: ``(N, H, W)`` what was planted.
    """
    order = np.argsort(-found.scores[COMBINED], kind="stable")
    high = order[:SHOWN]
    rows = np.concatenate([high, order[max(len(high), len(order) - SHOWN) :]])
    shown = subset(found.images, rows)
    heat = ruler.scored(shown, rows_of(found.found.reconstruction, rows)).maps["wd"]
    cases = tuple(
        Case(
            role="highest" if place < len(high) else "lowest",
            score=float(found.scores[COMBINED][row]),
            image=found.images.images[row, 0],
            reconstruction=found.found.reconstruction.images[row, 0],
            heat=heat[place],
            mask=None if masks is None else masks[row],
        )
        for place, row in enumerate(rows)
    )
    curves = {}
    if reference is not None:
        for score in CURVES:
            if score in found.scores:
                curves[score] = roc_curve(reference.scores[score], found.scores[score])
    return Exhibit(name=name, cases=cases, curves=curves)


def roc_curve(normal: Float64, odd: Float64) -> Float64:
    """``(T, 2)`` shares (normal called odd, odd called odd) from the strictest threshold to the laxest.

    Raises:
        AnomapError: E200 when a side is empty.
    """
    hits, alarms = counts_by_threshold(normal, odd)
    points = np.stack([alarms / len(normal), hits / len(odd)], axis=1)
    return np.vstack([[0.0, 0.0], points])
