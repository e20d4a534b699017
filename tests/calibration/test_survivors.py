"""Regions of a whole series: what survives, and why not by Benjamini-Hochberg on the p-values of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control

from anomap.calibration.conformal import conformal_p
from anomap.calibration.survivors import held_against_images, held_against_patients
from anomap.types import Cohort
from tests.made import made_analysis

REGION = replace(made_analysis().result.regions[0], p_value=1.0)
LEVEL = 0.1


NAMES = ("wd_patch", "feature_patch")


def regions(*peaks):
    """One region for each tuple of the highest values of some maps."""
    named = [dict(zip(NAMES, map(float, np.atleast_1d(values)), strict=False)) for values in peaks]
    return [replace(REGION, label=number, peaks=values) for number, values in enumerate(named, 1)]


def held(peaks, highest, patients, level=LEVEL):
    """Regions of one map against the highest values of patients."""
    patients = np.asarray(patients, np.float64)[:, None]
    return held_against_patients(regions(*peaks), NAMES[:1], np.array([float(highest)]), patients, level)


def survivors(peaks, patients, level=LEVEL):
    return np.array([region.survives for region in held(peaks, max(peaks), patients, level)])


def test_a_region_is_held_against_the_highest_windows_of_patients():
    patients = np.arange(1.0, 20.0)  # 19
    found = held([30.0, 19.0, 18.5, 0.5], 30.0, patients, 0.05)
    assert [region.p_series for region in found] == [1 / 20, 2 / 20, 2 / 20, 20 / 20]
    assert [region.survives for region in found] == [True, False, False, False]
    assert [region.survives for region in held([30.0], 30.0, patients[1:], 0.05)] == [None]
    assert held([], 1.0, patients, 0.05) == ()


def test_a_region_outside_of_the_body_counts_no_more_than_the_series():
    (found,) = held([99.0], 5.5, np.arange(1.0, 20.0), 0.05)
    assert found.p_series == (1 + 14) / 20


def test_two_maps_have_one_p_value_together_and_it_stays_as_small_as_one():
    patients = np.stack([np.arange(1.0, 20.0), np.full(19, 2.0)], axis=1)
    maxima = np.array([10.0, 3.0])
    found = held_against_patients(regions((5.0, 3.0), (10.0, 2.0)), NAMES, maxima, patients, 0.05)
    assert found[0].p_series == 1 / 20  # no patient has such a place, and one patient such a window alone
    assert found[0].survives
    assert not found[1].survives
    (alone,) = held_against_patients(regions((5.0, 3.0)), NAMES[1:], maxima[1:], patients[:, 1:], 0.05)
    assert alone.p_series == 1 / 20


def test_no_region_is_odder_than_its_series():
    rng = np.random.default_rng(3)
    for _ in range(100):
        patients, maxima = rng.normal(size=(19, 2)), rng.normal(0.5, size=2)
        peaks = [tuple(maxima - rng.exponential(size=2)) for _ in range(4)] + [tuple(maxima)]
        found = held_against_patients(regions(*peaks), NAMES, maxima, patients, 0.05)
        assert min(region.p_series for region in found) == found[-1].p_series


def test_among_images_a_region_is_one_image_more():
    cohort = Cohort(
        scores=np.stack([np.arange(99.0), np.where(np.arange(99) % 3, np.nan, 1.0)], axis=1),
        names=NAMES,
        patients=tuple(map(str, range(99))),
        bundle_sha256="",
        description="",
        region_threshold=0.0,
        combines=(),
    )
    p = lambda peaks, names: held_against_images(regions(peaks), names, cohort)[0].p_value  # noqa: E731
    assert p(50, NAMES[:1]) == (1 + 49) / 100  # 50 .. 98 are at least as high
    assert p((50, 1.5), NAMES) == 1 / 34  # images without the second score don't count
    assert p((50, 0.5), NAMES) == pytest.approx(17 / 34)  # 51, 54 .. 96 are at least as high
    assert p(50, ("neighbour_patch",)) == 1.0


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
