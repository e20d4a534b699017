"""The statistics of the seed paper's scripts, defects included, so that numbers can be set beside the published ones.

Woodland et al. 2025 (doi 10.3390/bioengineering12101106), scripts eval_ad.py and permutation_test.py as described in
the design notes, method, section 1.6. What is wrong with them, and is kept here on purpose:

* The "bootstrap" draws **without** replacement as many images as the smaller side has. All of that side is in every
  draw, so the standard deviation is too small, and 0 when both sides are equally large.
* Images are drawn, not patients.
* The permutation test shuffles the AUROCs of the draws, which overlap and are not independent; its p-value says that
  two scores differ on *these* images. It counts absolute differences, but was described as one-sided.

The scripts draw unseeded; here draws are seeded, so that a figure can be had twice. Their power estimate is left out:
it draws data that it never uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomap.evaluation.auroc import auroc
from anomap.types import Float64

DRAWS = 50
SHUFFLES = 100_000
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigures:
    """One score of one category by the paper's protocol.

    Attributes:
        mean, sd: Of the AUROCs of `DRAWS` draws.
        images: Images of each side in a draw.
    """

    mean: float
    sd: float
    images: int


def drawn_aurocs(normal: Float64, odd: Float64, seed: int = 0) -> Float64:
    """``(DRAWS,)`` AUROCs of equally many images of both sides, drawn without replacement.

    Args:
        normal: ``(A,)`` scores.
        odd: ``(B,)`` scores.
        seed: Of the draws; the same draws for every score of a category, as pairs.

    Raises:
        AnomapError: E200 when a side is empty.
    """
    rng = np.random.default_rng(seed)
    count = min(len(normal), len(odd))
    return np.array(
        [auroc(rng.choice(normal, count, replace=False), rng.choice(odd, count, replace=False)) for _ in range(DRAWS)]
    )


def paper_figures(normal: Float64, odd: Float64) -> PaperFigures:
    """Mean and standard deviation (of the population, as numpy's default) over the draws."""
    values = drawn_aurocs(normal, odd)
    return PaperFigures(mean=float(values.mean()), sd=float(values.std()), images=min(len(normal), len(odd)))


def permutation_p(one: Float64, other: Float64, *, shuffles: int = SHUFFLES, seed: int = 0) -> float:
    """Share of shuffles of the two lists of AUROCs whose means differ by more than the real ones do.

    Args:
        one: ``(DRAWS,)`` from `drawn_aurocs` of one score.
        other: Of the other.
        shuffles: How many.
        seed: Of the shuffles.

    Returns:
        The p-value, 0 possible, as published. Differences equal but for rounding do not count as more.
    """
    pooled = np.concatenate([one, other])
    real = abs(one.mean() - other.mean()) * (1 + 1e-12) + 1e-15
    rng = np.random.default_rng(seed)
    more = 0
    for start in range(0, shuffles, _AT_ONCE):
        count = min(_AT_ONCE, shuffles - start)
        shuffled = rng.permuted(np.broadcast_to(pooled, (count, len(pooled))), axis=1)
        gaps = np.abs(shuffled[:, : len(one)].mean(axis=1) - shuffled[:, len(one) :].mean(axis=1))
        more += int(np.count_nonzero(gaps > real))
    return more / shuffles
