"""Bands and the test for drift: right by simulation, and able to see a change."""

import numpy as np
import pytest
from scipy.stats import binom

from anomap.calibration.conformal import conformal_p
from anomap.calibration.watch import band, drift, held_out


def drawn(rng, patients, results, shift=0.0):
    return conformal_p(rng.normal(shift, size=results), rng.normal(size=patients))


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_band_holds_as_often_as_it_says(alpha):
    rng = np.random.default_rng(0)
    low, high = band(alpha, 99, 60)
    rates = np.array([np.mean(drawn(rng, 99, 60) <= alpha) for _ in range(2000)])
    assert 0.94 < np.mean((rates >= low) & (rates <= high)) <= 1.0


def test_the_band_is_the_binomial_one_for_an_endless_cohort_and_nothing_below_the_smallest_p():
    assert band(0.1, 10**7 - 1, 200)[1] == pytest.approx(binom(200, 0.1).ppf(0.975) / 200, abs=0.005)
    assert band(0.05, 18, 50) == (0.0, 0.0)


def test_without_a_change_drift_is_called_as_often_as_its_level_says():
    rng = np.random.default_rng(1)
    called = np.mean([drift(drawn(rng, 30, 60), 30, seed=i).p_value <= 0.1 for i in range(60)])
    assert called < 0.1 + 3 * np.sqrt(0.09 / 60)


@pytest.mark.parametrize(("shift", "direction"), [(1.0, "odder"), (-1.0, "tamer")])
def test_a_change_is_seen(shift, direction):
    found = drift(drawn(np.random.default_rng(2), 100, 100, shift), 100)
    assert found.p_value < 0.001
    assert found.direction == direction
    assert (found.results, found.patients) == (100, 100)


def test_held_out_patients_are_compared_one_by_one():
    reference = np.arange(9.0)[:, None]
    np.testing.assert_array_equal(held_out(np.array([[99.0], [-1.0]]), reference, np.ones(1)), [0.1, 1.0])
