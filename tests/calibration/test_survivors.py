"""Regions of a whole series: what survives, and why not by Benjamini-Hochberg on the p-values of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import binomtest, false_discovery_control

from anomap.calibration.conformal import conformal_p
from anomap.calibration.survivors import held_against_patients
from tests.made import made_analysis

REGION = made_analysis().result.regions[0]
LEVEL = 0.1


def regions(peaks):
    return [replace(REGION, label=number, peak_wd=float(peak)) for number, peak in enumerate(peaks, 1)]


def survivors(peaks, patients, level=LEVEL):
    return np.array([r.survives for r in held_against_patients(regions(peaks), max(peaks), patients, level)])


def test_a_region_is_held_against_the_highest_windows_of_patients():
    patients = np.arange(1.0, 20.0)  # 19
    found = held_against_patients(regions([30.0, 19.0, 18.5, 0.5]), 30.0, patients, 0.05)
    assert [region.p_series for region in found] == [1 / 20, 2 / 20, 2 / 20, 20 / 20]
    assert [region.survives for region in found] == [True, False, False, False]
    assert [region.survives for region in held_against_patients(regions([30.0]), 30.0, patients[1:], 0.05)] == [None]
    assert held_against_patients((), 1.0, patients, 0.05) == ()


def test_a_region_outside_of_the_body_counts_no_more_than_the_series():
    (found,) = held_against_patients(regions([99.0]), 5.5, np.arange(1.0, 20.0), 0.05)
    assert found.p_series == (1 + 14) / 20


def test_benjamini_and_hochberg_could_only_take_survivors_away():
    rng = np.random.default_rng(0)
    for _ in range(200):
        patients, peaks = rng.normal(size=39), rng.normal(1.0, 1.5, size=rng.integers(1, 11))
        ours = survivors(peaks, patients)
        theirs = false_discovery_control(conformal_p(peaks, patients)) <= LEVEL
        assert not (theirs & ~ours).any()


def drawn(rng, slices=30):
    """Highest windows of the slices of a normal patient: alike within a patient, as in a body."""
    return rng.normal() + 0.2 * rng.normal(size=slices)


def alarms(patients, level, series=600):
    """How many normal series have a survivor, ours and by Benjamini and Hochberg on the p-values of images."""
    rng = np.random.default_rng(1)
    ours = by_image = 0
    for _ in range(series):
        cohort = [drawn(rng) for _ in range(patients)]
        new = drawn(rng)
        found = survivors(new, np.array([slices.max() for slices in cohort]), level)
        ours += int((found == True).any())  # noqa: E712 (None is no survivor)
        by_image += int((false_discovery_control(conformal_p(new, np.concatenate(cohort))) <= level).any())
    return ours, by_image


def test_series_as_they_should_be_have_a_survivor_as_seldom_as_promised():
    ours, _ = alarms(39, 0.1)
    assert binomtest(ours, 600, 0.1, alternative="greater").pvalue > 0.01
    assert ours > 0


def test_slices_are_not_patients():
    """Nineteen patients can't bear out a level of 0.01, however many slices they have."""
    ours, by_image = alarms(19, 0.01)
    assert ours == 0
    assert binomtest(by_image, 600, 0.01, alternative="greater").pvalue < 0.01
