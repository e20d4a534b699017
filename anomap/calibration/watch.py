"""Do p-values still come as they should? Bands for held-out patients, and a test of the last results for drift.

All results of one site are compared with the same n patients, so their p-values are not independent: a cohort that
happens to be tame gives too many small ones for ever. Under exchangeability the whole is a question of two samples,
whose null distribution depends on n and N alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import betabinom

from anomap.calibration.conformal import conformal_p, family_p
from anomap.types import Float64

_DRAWS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Outcome of `drift`.

    Attributes:
        results, patients: N and n.
        distance: Largest distance of the share of p-values up to each value from that value.
        p_value: Chance of such a distance when nothing has changed.
        direction: "odder" when small p-values are too many, "tamer" when too few.
    """

    results: int
    patients: int
    distance: float
    p_value: float
    direction: str


def held_out(new: Float64, reference: Float64, weights: Float64) -> Float64:
    """p-values of patients that are not in the reference, ``(N,)``; ``(N, S)`` against ``(n, S)``."""
    return np.array([family_p(row, reference, weights) for row in new])


def band(alpha: float, patients: int, results: int, level: float = 0.95) -> tuple[float, float]:
    """Where the share of N new normal patients with p <= alpha lies with a chance of `level`.

    The rate that belongs to one cohort of n varies around alpha (Beta distributed), and N results around that rate.

    Args:
        alpha: In (0, 1).
        patients: n of the cohort.
        results: N.
        level: Of the band.
    """
    k = int(np.floor(alpha * (patients + 1) + 1e-9))
    if k == 0:
        return 0.0, 0.0
    count = betabinom(results, k, patients + 1 - k)
    return float(count.ppf((1 - level) / 2)) / results, float(count.ppf((1 + level) / 2)) / results


def drift(p_values: Float64, patients: int, seed: int = 0) -> Drift:
    """Test whether p-values are still as those of the cohort's own kind.

    The null distribution of the Kolmogorov-Smirnov distance is drawn: n + N exchangeable numbers, n of them the cohort.

    Args:
        p_values: ``(N,)`` multiples of 1 / (n + 1), all against the same cohort.
        patients: n.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    signed = _distance(p_values, patients)
    null = np.empty(_DRAWS)
    for i in range(_DRAWS):
        numbers = rng.random(patients + len(p_values))
        null[i] = abs(_distance(conformal_p(numbers[patients:], numbers[:patients]), patients))
    p = (1 + np.count_nonzero(null >= abs(signed) - 1e-12)) / (_DRAWS + 1)
    return Drift(
        results=len(p_values),
        patients=patients,
        distance=abs(signed),
        p_value=float(p),
        direction="odder" if signed > 0 else "tamer",
    )


def _distance(p_values: Float64, patients: int) -> float:
    """The largest difference, with its sign, of the share of p-values up to each attainable value from that value."""
    counts = np.bincount(np.rint(p_values * (patients + 1)).astype(np.int64), minlength=patients + 2)[1:]
    gaps = np.cumsum(counts) / len(p_values) - np.arange(1, patients + 2) / (patients + 1)
    return float(gaps[np.abs(gaps).argmax()])
