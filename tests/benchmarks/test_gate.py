"""The figures of the gate's benchmark: right on made-up scores; corruptions change what they should."""

import numpy as np

from benchmarks.gate import changed, corruptions, false_alarms, one_split
from tests.evaluation.pictures import image_set, trunks


def test_random_halves_of_exchangeable_patients_alarm_as_often_as_alpha_says():
    found = false_alarms(np.random.default_rng(0).normal(size=(60, 2)), np.ones(2))
    assert (found["calibrated_on"], found["tested_on"]) == (30, 30)
    rate = found["alpha"]["0.2"]
    assert abs(rate["mean_rate"] - 0.2) < 0.05
    assert rate["splits_inside_band"] > 0.9
    assert found["alpha"]["0.01"]["mean_rate"] == 0.0  # no p of 30 patients is that small


def test_one_split_counts_ties_and_holds_them_against_the_binomial_law():
    found = one_split(np.array([0.05, 0.05, 0.5, 1.0]), 0.05)
    assert (found["alarms"], found["of"]) == (2, 4)
    assert not found["alpha_in_band"]


def test_corruptions_keep_the_range_and_change_the_picture():
    prepared = image_set(trunks(3)).prepared
    made = corruptions(prepared)
    for name, spoilt in made.items():
        assert np.abs(spoilt.images).max() <= 1, name
        assert (spoilt.images == prepared.images).all() == (name == "unchanged"), name
    np.testing.assert_array_equal(made["inverted"].images, -prepared.images)
    np.testing.assert_array_equal(changed(prepared, np.fliplr).images, made["flipped left-right"].images)
