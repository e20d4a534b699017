"""Cohorts: what is combined of their scores, and as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from anomap.calibration import calibrate, cohort_from_dict, cohort_to_dict, combined_score
from anomap.errors import AnomapError
from tests.calibration.cohorts import PROVENANCE, cohort, cohort_of_two_kinds, normal_cohort, score_map, series


def test_combined_is_the_larger_standard_score():
    reference = cohort([[0, 10, 1.0], [0, 14, 3.0], [0, 12, 2.0]])
    found = combined_score({"wd_patch": np.array([12.0, 20.0]), "w_distance": np.array([2.5, 1.0])}, reference)
    np.testing.assert_allclose(found, [0.5 / np.sqrt(2 / 3), 8 / np.sqrt(8 / 3)])


def test_a_cohort_says_what_is_combined():
    reference = replace(cohort([[0, 10, 1.0], [4, 14, 3.0], [2, 12, 2.0]]), combines=("mse_full", "absent"))
    scores = {"mse_full": np.array([5.0]), "wd_patch": np.array([99.0]), "absent": np.array([9.0])}
    np.testing.assert_allclose(combined_score(scores, reference), 3 / np.sqrt(8 / 3))


def test_a_constant_cohort_does_not_divide_by_zero():
    reference = cohort(np.ones((5, 3)))
    result = calibrate(series(), score_map([[1.0, 3.0, 1.0]]), reference, PROVENANCE)
    assert result.summary["combined"] == 2.0
    assert result.p_by_score["combined"][0] == pytest.approx(1 / 6)


def test_combined_needs_one_of_its_parts():
    with pytest.raises(AnomapError, match="E302"):
        combined_score({"mse_full": np.zeros(1)}, cohort([[1.0]], names=("mse_full",)))
    result = calibrate(series(), score_map([[1.0, 2.0, 3.0]]), cohort([[2.0]], names=("mse_full",)), PROVENANCE)
    assert set(result.p_by_score) == {"mse_full"}


def test_a_cohort_survives_json_to_the_last_digit():
    before = replace(normal_cohort(20), combines=("wd_patch", "wd_body"))
    after = cohort_from_dict(json.loads(json.dumps(cohort_to_dict(before))))
    np.testing.assert_array_equal(after.scores, before.scores)
    assert replace(after, scores=before.scores) == before


def test_what_an_image_does_not_have_is_null_in_json():
    before = cohort_of_two_kinds(5, stacked=2)
    text = json.dumps(cohort_to_dict(before), allow_nan=False)
    assert text.count("null") == 3
    np.testing.assert_array_equal(cohort_from_dict(json.loads(text)).scores, before.scores)


def test_a_cohort_of_an_earlier_version_combines_what_it_did_then():
    content = {key: value for key, value in cohort_to_dict(normal_cohort(20)).items() if key != "combines"}
    assert cohort_from_dict(content).combines == ("wd_patch", "w_distance")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "anomap.cohort/0"},
        {"names": ["mse_full", "wd_patch"]},
        {"names": ["mse_full", "wd_patch", "wd_patch"]},
        {"scores": [[1.0, 2.0, 3.0]]},
        {"scores": [[1.0, 2.0, float("nan")], [1.0, 2.0, 3.0]]},
        {"scores": "many"},
        {"scores": None},
        {"patients": 7},
        {"patients": [], "scores": []},
        {"region_threshold": float("inf")},
        {"region_threshold": None},
    ],
)
def test_a_broken_cohort_is_refused(change):
    content = cohort_to_dict(cohort([[1, 2, 3], [4, 5, 6]])) | change
    with pytest.raises(AnomapError, match="E302"):
        cohort_from_dict(content)


@pytest.mark.parametrize("key", ["format", "names", "patients", "scores", "bundle_sha256", "description"])
def test_an_incomplete_cohort_is_refused(key):
    content = cohort_to_dict(cohort([[1, 2, 3]]))
    del content[key]
    with pytest.raises(AnomapError, match="E302"):
        cohort_from_dict(content)
