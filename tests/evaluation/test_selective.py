"""Risk over coverage: against its definition, with ties, and the interval over patients."""

import numpy as np
import pytest

from anomap.evaluation.selective import COVERAGES, accepted_risk, aurc, patient_interval


def test_the_risk_at_a_coverage_is_the_mean_over_the_least_odd():
    rng = np.random.default_rng(0)
    scores, risks = rng.permutation(100).astype(float), rng.random(100)
    ordered = risks[np.argsort(scores)]
    expected = [ordered[:count].mean() for count in range(1, 101)]
    np.testing.assert_allclose(accepted_risk(scores, risks), expected)
    assert aurc(scores, risks) == pytest.approx(np.mean(expected))


def test_a_score_that_knows_nothing_is_as_good_as_chance():
    risks = np.random.default_rng(1).random(37)
    np.testing.assert_allclose(accepted_risk(np.zeros(37), risks), risks.mean())


def test_ties_are_broken_by_chance():
    rng = np.random.default_rng(2)
    scores, risks = rng.integers(0, 4, 60).astype(float), rng.random(60)
    drawn = [accepted_risk(scores + rng.random(60) * 1e-6, risks) for _ in range(4000)]
    np.testing.assert_allclose(accepted_risk(scores, risks), np.mean(drawn, axis=0), atol=0.02)


def test_weights_are_repetitions():
    rng = np.random.default_rng(3)
    scores, risks, times = rng.random(20), rng.random(20), rng.integers(0, 4, 20)
    repeated = accepted_risk(np.repeat(scores, times), np.repeat(risks, times))
    np.testing.assert_allclose(accepted_risk(scores, risks, times.astype(float)), repeated)


def test_the_best_order_has_the_least_area():
    risks = np.random.default_rng(4).random(50)
    assert aurc(risks, risks) < aurc(np.zeros(50), risks) < aurc(-risks, risks)
    assert len(COVERAGES) == 100


def test_the_interval_draws_patients_not_inputs():
    values = np.repeat(np.random.default_rng(5).normal(size=30), 10)  # ten equal inputs of each patient

    def mean(weights: np.ndarray) -> float:
        return float((weights * values).sum() / weights.sum())

    of_patients = patient_interval([str(n // 10) for n in range(300)], mean, resamples=500)
    of_inputs = patient_interval([str(n) for n in range(300)], mean, resamples=500)
    assert of_patients.low < values.mean() < of_patients.high
    ratio = (of_patients.high - of_patients.low) / (of_inputs.high - of_inputs.low)
    assert 2.5 < ratio < 4  # about the square root of ten
