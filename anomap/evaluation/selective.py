"""What a next step gains when the oddest inputs are kept from it: risk over coverage (El-Yaniv and Wiener 2010).

The risk of an input is what the next step loses on it, e.g. 1 - Dice. Accept the least odd share of the inputs, the
coverage, and look at the mean risk of what was accepted. Intervals come from drawing patients, as in
`anomap.evaluation.auroc`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anomap.evaluation.auroc import RESAMPLES, Interval
from anomap.types import Float64

COVERAGES = np.arange(1, 101) / 100


def accepted_risk(scores: Float64, risks: Float64, weights: Float64 | None = None) -> Float64:
    """Mean risk of the accepted inputs at each of `COVERAGES`.

    Among equal scores none comes first: the risk is the one expected when ties are broken by chance, so a score that
    is the same for all is as good as rejecting at random.

    Args:
        scores: ``(N,)``, higher is odder.
        risks: ``(N,)``.
        weights: ``(N,)`` how often each input counts; once when omitted.

    Returns:
        ``(100,)``; the last is the mean risk of all.
    """
    times = np.ones(len(scores)) if weights is None else weights
    _, group = np.unique(scores, return_inverse=True)
    count = np.concatenate([[0.0], np.cumsum(np.bincount(group, times))])
    total = np.concatenate([[0.0], np.cumsum(np.bincount(group, times * risks))])
    accepted = COVERAGES * count[-1]
    result: Float64 = np.interp(accepted, count, total) / accepted
    return result


def aurc(scores: Float64, risks: Float64, weights: Float64 | None = None) -> float:
    """Area under risk over coverage: the mean of `accepted_risk`; lower is better."""
    return float(accepted_risk(scores, risks, weights).mean())


def patient_interval(
    patients: Sequence[str], statistic: Callable[[Float64], float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile bootstrap 95 % interval of a weighted statistic that draws patients with replacement.

    Args:
        patients: N patient labels.
        statistic: Of ``(N,)`` weights: how often each input's patient was drawn.
        resamples: Number of draws.
        seed: Of the draws.
    """
    _, member = np.unique(patients, return_inverse=True)
    count = member.max() + 1
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    low, high = np.quantile([statistic(times[member].astype(np.float64)) for times in draws], [0.025, 0.975])
    return Interval(low=float(low), high=float(high))
