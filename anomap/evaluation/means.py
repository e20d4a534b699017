"""The mean AUROC over some categories, for those who ask for one number; every other score's from the same draws.

A mean over all categories would hide that scores differ from one kind of anomaly to the next. Over alike ones, as the
diseases of one source are, it says what single categories of 30 patients can't: whether one score is better than
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anomap.errors import AnomapError
from anomap.evaluation.auroc import RESAMPLES, Interval, auroc, bootstrap, quantiles, weighted_aurocs, wins
from anomap.types import Float64, Int64

_AT_ONCE = 100  # draws: bounds memory


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanAuroc:
    """One score's.

    Attributes:
        auroc: Mean over categories, each counting the same.
        interval: Its 95 % interval over patients.
        below: 95 % interval of what the score in question has more than this one.
    """

    auroc: float
    interval: Interval
    below: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanResult:
    """Of several categories.

    Attributes:
        categories: Their names.
        images, patients: Of all of them.
        scores: Score -> its mean.
    """

    categories: tuple[str, ...]
    images: int
    patients: int
    scores: dict[str, MeanAuroc]


Scored = tuple[Mapping[str, Float64], Sequence[str]]  # score -> (N,), and N patients


def mean_aurocs(
    normal: Scored, odd: Mapping[str, Scored], of: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> MeanResult:
    """Average over categories; patients are drawn with replacement, with all their images of whatever category.

    Args:
        normal: Normal images.
        odd: Category -> its images.
        of: The score that the others are compared with.
        resamples: Number of draws; one that leaves a category or the normal images empty is drawn again.
        seed: Of the draws.

    Raises:
        AnomapError: E200 without categories.
    """
    if not odd:
        raise AnomapError("E200", "a mean needs at least one category")
    names = [name for name in normal[0] if all(name in scores for scores, _ in odd.values())]
    labels = [normal[1], *(patients for _, patients in odd.values())]
    people, member = np.unique(np.concatenate(labels), return_inverse=True)
    of_normal, *of_odd = np.split(member, np.cumsum([len(part) for part in labels])[:-1])
    won = {name: [wins(normal[0][name], scores[name]) for scores, _ in odd.values()] for name in names}

    def statistic(times: Int64) -> Float64:
        return np.stack([_means(won[name], times, of_normal, of_odd) for name in names])

    means = bootstrap(statistic, len(people), resamples=resamples, at_once=_AT_ONCE, seed=seed)
    drawn = dict(zip(names, means, strict=True))
    return MeanResult(
        categories=tuple(odd),
        images=sum(len(patients) for _, patients in odd.values()),
        patients=len(set().union(*(patients for _, patients in odd.values()))),
        scores={
            name: MeanAuroc(
                auroc=float(np.mean([auroc(normal[0][name], scores[name]) for scores, _ in odd.values()])),
                interval=quantiles(drawn[name]),
                below=quantiles(drawn[of] - drawn[name]),
            )
            for name in names
        },
    )


def _means(won: list[Float64], times: Int64, of_normal: Int64, of_odd: list[Int64]) -> Float64:
    """Of draws ``(draws, patients)``; NaN where a category or the normal images are empty."""
    each = [weighted_aurocs(one, times[:, of_normal], times[:, rows]) for one, rows in zip(won, of_odd, strict=True)]
    result: Float64 = np.mean(each, axis=0)
    return result
