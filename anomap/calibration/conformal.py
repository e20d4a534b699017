"""Conformal p-values: how many of those as they should be are at least as odd?

They need no model of the scores' distribution (Vovk et al. 2005; for anomaly detection Bates et al. 2023, arXiv
2104.08279): when the new one and the n of the reference are exchangeable, p = (1 + number at least as odd) / (n + 1)
is at most alpha with a chance of at most alpha. No p can be smaller than 1 / (n + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from anomap.types import Float64, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """How N scores stand among those of a reference.

    Attributes:
        counts: ``(N,)`` how many of the reference are at least as high.
        size: How many these are.
    """

    counts: Int64
    size: int

    @property
    def p(self) -> Float64:
        """Conformal p-values, ``(N,)`` in [1 / (size + 1), 1]."""
        return (self.counts.astype(np.float64) + 1.0) / (self.size + 1.0)

    @property
    def percent_below(self) -> Float64:
        """Share of the reference below, in per cent."""
        return 100.0 * (self.size - self.counts.astype(np.float64)) / self.size  # in this order: exactly 100 at the top


def rank(scores: Float64, reference: Float64) -> Rank:
    """``(N,)`` scores among ``(M,)`` of a reference; ties count against the score."""
    counts = len(reference) - np.searchsorted(np.sort(reference), scores, side="left").astype(np.int64)
    return Rank(counts=counts, size=len(reference))


def conformal_p(scores: Float64, reference: Float64) -> Float64:
    """p-values (1 + number of reference scores at least as high) / (M + 1); ties count against the score.

    Args:
        scores: ``(N,)``, higher is odder.
        reference: ``(M,)`` scores of images as they should be.

    Returns:
        ``(N,)`` in [1 / (M + 1), 1].
    """
    return rank(scores, reference).p


def percentile(scores: Float64, reference: Float64) -> Float64:
    """Share of the reference below each score, in per cent; ``(N,)`` scores, ``(M,)`` reference."""
    return rank(scores, reference).percent_below


def z_scores(scores: Float64, reference: Float64) -> Float64:
    """Distance from the reference's mean in its standard deviations (1 when all its scores are equal)."""
    z: Float64 = (scores - reference.mean()) / (reference.std() or 1.0)
    return z


def oddness_ranks(bag: Float64, weights: Float64) -> Int64:
    """Order rows of several scores by their smallest rank p-value, each divided by its score's weight.

    Among equals the larger standard score is odder: of n rows up to S are each the highest of one score, and would
    otherwise share the smallest value. Only what the bag holds counts, not its order, so that among exchangeable
    rows each is as likely as any other to be the oddest (full conformal prediction).

    Args:
        bag: ``(n, S)``, higher is odder.
        weights: ``(S,)`` at least 0; a score of weight 0 doesn't count.

    Returns:
        ``(n,)`` ranks from 0; higher is odder, equal rows have equal ranks.
    """
    used = weights > 0
    rows = bag[:, used]
    p = rankdata(-rows, method="max", axis=0) / len(rows)
    spread = rows.std(axis=0)
    z = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    keys = np.stack([-(p / weights[used]).min(axis=1), z.max(axis=1)], axis=1)
    ranks: Int64 = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return ranks


def family_p(new: Float64, reference: Float64, weights: Float64) -> float:
    """One p-value of several scores: the share of rows, the new one included, that are at least as odd.

    It is exactly valid, however the scores depend on each other: no Bonferroni, and the smallest attainable value
    stays 1 / (n + 1).

    Args:
        new: ``(S,)`` statistics of the new series.
        reference: ``(n, S)`` those of the cohort.
        weights: ``(S,)`` see `oddness_ranks`.
    """
    ranks = oddness_ranks(np.concatenate([reference, new[None]]), weights)
    return float(np.count_nonzero(ranks >= ranks[-1])) / len(ranks)
