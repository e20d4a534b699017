"""How well a score separates anomalous from normal images, and how sure that is.

Scores are higher for odder images. Images of one patient resemble each other, so intervals come from drawing
**patients**, not images; the reference script drew images, 50 times, without replacement, which says little about
new patients (design notes, method, section 1.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from anomap.errors import AnomapError
from anomap.types import Float64, Int64

RESAMPLES = 2000
MIN_PATIENTS = 5  # with fewer there is no spread of patients to draw from: an interval would only look precise
_AT_ONCE = 1 << 22  # entries of the weight matrices handled at once: some 30 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Bounds of a confidence interval."""

    low: float
    high: float


def auroc(normal: Float64, anomalous: Float64) -> float:
    """P(anomalous > normal) + P(equal) / 2, from ranks (Mann and Whitney 1947).

    Args:
        normal: ``(A,)`` scores.
        anomalous: ``(B,)`` scores.

    Raises:
        AnomapError: E200 when a side is empty or not finite.
    """
    _check(normal, anomalous)
    ranks = rankdata(np.concatenate([normal, anomalous]))
    a, b = len(normal), len(anomalous)
    return float((ranks[a:].sum() - b * (b + 1) / 2) / (a * b))


def average_precision(normal: Float64, anomalous: Float64) -> float:
    """Area below precision over recall, as a sum over thresholds (no interpolation).

    It depends on the share of anomalous images: state both numbers beside it.

    Args:
        normal: ``(A,)`` scores.
        anomalous: ``(B,)`` scores.

    Raises:
        AnomapError: As `auroc`.
    """
    hits, alarms = counts_by_threshold(normal, anomalous)
    precision = hits / (hits + alarms)
    return float((np.diff(hits, prepend=0) * precision).sum() / len(anomalous))


def fpr_at_tpr(normal: Float64, anomalous: Float64, tpr: float = 0.95) -> float:
    """Share of normal images called odd by the highest threshold that finds `tpr` of the anomalous ones.

    Args:
        normal: ``(A,)`` scores.
        anomalous: ``(B,)`` scores.
        tpr: Share to find, in (0, 1].

    Raises:
        AnomapError: As `auroc`.
    """
    hits, alarms = counts_by_threshold(normal, anomalous)
    # The tolerance keeps 19 of 20 a share of 0.95 in binary fractions.
    first = int(np.searchsorted(hits, tpr * len(anomalous) - 1e-9))
    return float(alarms[first] / len(normal))


def auroc_interval(
    normal: Float64,
    anomalous: Float64,
    normal_patients: Sequence[str],
    anomalous_patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of the AUROC that draws patients with replacement.

    A patient who has both normal and anomalous images is drawn with all of them (the shared test data have such
    patients). A draw that leaves a side empty is drawn again. Where the two sides do not overlap every draw gives
    the same AUROC: [1, 1] then says nothing of overlap in further patients.

    Args:
        normal: ``(A,)`` scores.
        anomalous: ``(B,)`` scores.
        normal_patients: A patient label for each normal score.
        anomalous_patients: A patient label for each anomalous score.
        level: Share of the draws inside the interval.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        The interval, or None when a side has fewer than `MIN_PATIENTS` patients.

    Raises:
        AnomapError: As `auroc`; E200 when labels and scores differ in number.
    """
    _check(normal, anomalous)
    if len(normal_patients) != len(normal) or len(anomalous_patients) != len(anomalous):
        raise AnomapError("E200", "every score needs a patient label")
    if min(len(set(normal_patients)), len(set(anomalous_patients))) < MIN_PATIENTS:
        return None
    patients, member = np.unique([*normal_patients, *anomalous_patients], return_inverse=True)
    normal_of, anomalous_of = np.split(member, [len(normal)])
    won = wins(normal, anomalous)

    def statistic(times: Int64) -> Float64:
        return weighted_aurocs(won, times[:, normal_of], times[:, anomalous_of])[None]

    at_once = max(1, _AT_ONCE // (len(member) + len(patients)))
    return quantiles(bootstrap(statistic, len(patients), resamples=resamples, at_once=at_once, seed=seed)[0], level)


def bootstrap(
    statistic: Callable[[Int64], Float64], patients: int, *, resamples: int, at_once: int, seed: int
) -> Float64:
    """Statistics of patients drawn with replacement, ``(S, resamples)``.

    Args:
        statistic: Of ``(draws, P)``, how often each patient was drawn: ``(S, draws)``; a draw that gives NaN is drawn
            again.
        patients: P.
        resamples: Number of draws.
        at_once: Draws that `statistic` is asked for together, which bounds memory.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    draws: list[Float64] = []
    missing = resamples
    while missing:
        times = rng.multinomial(patients, np.full(patients, 1 / patients), size=min(missing, at_once))
        found = statistic(times)
        draws.append(found[:, np.isfinite(found).all(axis=0)])
        missing -= draws[-1].shape[1]
    return np.concatenate(draws, axis=1)


def wins(normal: Float64, anomalous: Float64) -> Float64:
    """Which anomalous score beats which normal one, ``(B, A)``: 1, or a half where they are equal."""
    result: Float64 = np.greater.outer(anomalous, normal) + 0.5 * np.equal.outer(anomalous, normal)
    return result


def weighted_aurocs(won: Float64, normal: Int64, anomalous: Int64) -> Float64:
    """AUROCs with images counted several times.

    Args:
        won: From `wins`.
        normal: ``(draws, A)`` how often each normal image counts.
        anomalous: ``(draws, B)`` how often each anomalous one.

    Returns:
        ``(draws,)``, NaN where a side is empty.
    """
    pairs = normal.sum(axis=1) * anomalous.sum(axis=1)
    total = ((anomalous @ won) * normal).sum(axis=1)
    result: Float64 = np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)
    return result


def quantiles(values: Float64, level: float = 0.95) -> Interval:
    """The middle of the values that holds a share of `level` of them."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))


def _check(normal: Float64, anomalous: Float64) -> None:
    if not len(normal) or not len(anomalous):
        raise AnomapError("E200", f"need scores on both sides, got {len(normal)} normal, {len(anomalous)} anomalous")
    if not (np.isfinite(normal).all() and np.isfinite(anomalous).all()):
        raise AnomapError("E200", "scores must be finite")


def counts_by_threshold(normal: Float64, anomalous: Float64) -> tuple[Float64, Float64]:
    """True and false positives at every distinct threshold, from the highest down; equal scores go together.

    Args:
        normal: ``(A,)`` scores.
        anomalous: ``(B,)`` scores.

    Returns:
        Two arrays as long as there are distinct scores; divided by B and A they are the ROC curve.

    Raises:
        AnomapError: As `auroc`.
    """
    _check(normal, anomalous)
    scores = np.concatenate([normal, anomalous])
    odd = np.concatenate([np.zeros(len(normal)), np.ones(len(anomalous))])
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(odd[order])[last_of_ties]
    return hits, np.cumsum(1 - odd[order])[last_of_ties] + 0.0
