"""Conformal p-values: valid on exchangeable data, exact on small examples; order, regions and verdicts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, kstest, percentileofscore

from anomap.calibration import (
    calibrate,
    conformal_p,
    fallback_threshold,
    percentile,
    series_p_value,
    worst_first,
)
from anomap.errors import AnomapError
from anomap.types import Verdict
from tests.calibration.cohorts import (
    BESIDE,
    NAMES,
    PROVENANCE,
    cohort,
    cohort_of_two_kinds,
    normal_cohort,
    score_map,
    series,
    site_of,
)

scores = st.floats(-1e6, 1e6).map(lambda value: round(value, 1))  # rounded, so that ties occur


# ---- conformal p-values


@given(reference=arrays(np.float64, st.integers(1, 30), elements=scores), score=scores)
def test_p_counts_the_reference_at_least_as_high(reference, score):
    p = conformal_p(np.array([score]), reference)[0]
    assert p == (1 + sum(value >= score for value in reference)) / (len(reference) + 1)
    assert 1 / (len(reference) + 1) <= p <= 1
    assert percentile(np.array([score]), reference)[0] == pytest.approx(
        percentileofscore(reference, score, kind="strict")
    )
    assert 0 <= percentile(np.array([score]), reference)[0] <= 100


@given(reference=arrays(np.float64, 12, elements=scores), pair=st.tuples(scores, scores))
def test_a_higher_score_never_has_a_higher_p(reference, pair):
    low, high = sorted(pair)
    p = conformal_p(np.array([low, high]), reference)
    assert p[1] <= p[0]


def test_ties_count_against_the_score():
    assert conformal_p(np.array([5.0]), np.full(9, 5.0))[0] == 1.0
    assert conformal_p(np.array([5.1]), np.full(9, 5.0))[0] == 0.1


@pytest.mark.parametrize("name", ["wd_patch", "combined"])
@pytest.mark.parametrize("size", [4, 49])
def test_p_is_uniform_on_exchangeable_data(name, size):
    rng = np.random.default_rng(3)
    found = []
    for _ in range(1500):
        drawn = rng.gamma(1.5, size=(size + 1, 3))
        result = calibrate(series(), score_map(drawn[:1]), cohort(drawn[1:]), PROVENANCE)
        found.append(result.p_by_score[name][0])
    p = np.array(found)
    smeared = p - rng.random(len(p)) / (size + 1)  # p takes the values 1, 2, ... of size + 1 only
    assert kstest(smeared, "uniform").pvalue > 0.01
    assert set(np.rint(p * (size + 1))) == set(range(1, size + 2))


def test_false_alarms_on_whole_series_come_as_often_as_alpha_says():
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        drawn = rng.gamma(1.5, size=(40, 3, 3))  # 40 patients of 3 images with 3 scores
        images = replace(cohort(drawn[1:].reshape(-1, 3)), patients=tuple(f"p{i // 3}" for i in range(117)))
        result = calibrate(series(3), score_map(drawn[0]), site_of(images), PROVENANCE, stratum="CT", alpha_review=0.1)
        alarms += result.verdict is not Verdict.PASS
    assert abs(alarms / 400 - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 400)


# ---- series


def test_the_series_p_is_corrected_for_scores_and_images():
    assert series_p_value({"a": np.array([0.01, 0.5]), "b": np.array([0.2, 0.3])}) == pytest.approx(0.04)
    assert series_p_value({"a": np.array([0.6]), "b": np.array([0.7])}) == 1.0
    assert series_p_value({"a": np.array([0.2]), "combined": np.array([0.001])}) == 0.2
    assert series_p_value({}) == 1.0


def test_the_worst_image_has_the_smallest_p_then_the_highest_combined_score():
    reference = normal_cohort(50)
    values = np.array([[0, 0, 0], [0, 9, 0], [0, 0, 12.0], [0, 0.1, 0]])
    result = calibrate(series(4), score_map(values), reference, PROVENANCE)
    assert result.worst_image == 2
    assert result.summary["wd_patch"] == 9
    assert result.summary["w_distance"] == 12
    assert result.p_by_score["wd_patch"][1] == pytest.approx(1 / 51)
    assert result.percentile_by_score["wd_patch"][1] == 100


def test_the_worst_image_leads_then_the_slice_least_like_its_neighbours_then_by_p():
    values = [[0, 1, 5], [0, 2, 9], [0, 3, 1], [0, 4, 2], [0, 5, 3]]
    seen, plain = score_map(values, names=BESIDE), score_map([row[:2] for row in values], names=BESIDE[:2])
    result = calibrate(series(5), seen, None, PROVENANCE)
    result = replace(result, worst_image=2, p_by_score={"wd_patch": np.array([0.03, 0.5, 0.01, 0.2, 0.3])})
    assert worst_first(result, seen) == [2, 1, 0, 3, 4]
    assert worst_first(result, plain) == [2, 0, 3, 4, 1]


def test_images_with_regions_are_looked_at_before_those_without():
    wd = np.zeros((6, 32, 32))
    wd[1, 4:9, 4:9], wd[4, 4:9, 4:9], wd[4, 20:25, 20:25] = 12.0, 14.0, 13.0
    seen = score_map([[0, 1, 9], [0, 2, 0], [0, 5, 0], [0, 7, 0], [0, 3, 0], [0, 4, 0]], wd)
    result = calibrate(series(6), seen, cohort([[0, 6, 1], [0, 6.5, 2], [0, 9, 3]]), PROVENANCE)
    assert [region.frame for region in result.regions] == [4, 4, 1]
    assert worst_first(result, seen) == [0, 4, 1, 3, 2, 5]


def test_without_a_cohort_the_order_is_by_the_highest_window():
    seen = score_map([[0, 3], [0, 9], [0, 4]], names=BESIDE[:2])
    result = calibrate(series(3), seen, None, PROVENANCE)
    assert worst_first(result, seen) == [1, 2, 0]


def test_without_a_cohort_nothing_is_claimed():
    result = calibrate(series(2), score_map([[1, 2, 3], [1, 5, 1.0]]), None, PROVENANCE)
    assert result.p_value == 1.0
    assert not result.p_by_score
    assert not result.percentile_by_score
    assert result.worst_image == 1
    assert result.verdict is Verdict.UNCALIBRATED
    assert result.reasons[0].code == "NO_COHORT"
    assert (result.cohort_description, result.cohort_size) == ("", 0)
    assert result.provenance is PROVENANCE


def test_regions_start_at_the_threshold_of_the_cohort():
    wd = np.zeros((1, 32, 32))
    wd[0, 10:20, 10:20] = 9.0
    wd[0, 12:15, 12:15] = 11.0
    reference = normal_cohort(99)
    result = calibrate(series(), score_map([[0, 11, 0]], wd), reference, PROVENANCE)
    assert result.region_thresholds["wd_patch"] == 10.0
    assert (result.labels > 0).sum() == 9
    assert result.regions[0].p_value == pytest.approx(0.01)
    assert result.regions[0].volume_ml == pytest.approx(0.009)
    flat = calibrate(series(modality="DX"), score_map([[0, 11, 0]], wd), reference, PROVENANCE)
    assert flat.regions[0].volume_ml is None
    assert not calibrate(series(), score_map([[0, 11, 0]], wd), reference, PROVENANCE, min_area_px=10).regions


def test_with_a_site_a_region_is_held_against_the_highest_windows_of_its_patients():
    wd = np.zeros((1, 32, 32))
    wd[0, 10:20, 10:20] = 11.0
    reference = cohort([[0, 1.0 + 0.5 * i, 0] for i in range(39)])  # 19 of them at 11 and above
    found = calibrate(series(), score_map([[0, 11, 0]], wd), site_of(reference), PROVENANCE, stratum="CT").regions[0]
    assert found.p_series == pytest.approx((1 + 19) / 40)
    assert found.survives is False
    other = calibrate(series(), score_map([[0, 11, 0]], wd), site_of(reference), PROVENANCE, stratum="MR").regions[0]
    assert (other.p_series, other.survives) == (None, None)  # nobody of its kind
    assert calibrate(series(), score_map([[0, 11, 0]], wd), reference, PROVENANCE).regions[0].p_series is None


def test_without_a_cohort_regions_stand_out_of_their_own_map():
    rng = np.random.default_rng(0)
    wd = rng.normal(10, 1, (1, 32, 32))
    wd[0, 4:9, 20:25] = 40
    wd[0, 0] = np.nan
    result = calibrate(series(), score_map([[0, 40, 0]], wd), None, PROVENANCE)
    assert result.region_thresholds["wd_patch"] == pytest.approx(15, abs=1)
    assert result.regions[0].bbox == (0, 4, 20, 0, 8, 24)
    assert result.regions[0].p_value == 1.0
    assert len(result.regions) == 1
    assert fallback_threshold(np.full((1, 2, 2), np.nan, np.float32)) == float("inf")


# ---- verdict


@pytest.mark.parametrize(("wd_patch", "verdict"), [(0.0, "PASS"), (2.5, "REVIEW"), (99.0, "REJECT")])
def test_a_site_calibration_gives_a_verdict(wd_patch, verdict):
    reference = normal_cohort(499)
    result = calibrate(series(), score_map([[0, wd_patch, 0]]), site_of(reference), PROVENANCE, stratum="CT")
    assert result.verdict == verdict
    assert result.reasons[0].code == f"P_VALUE_{verdict}"
    assert result.cohort_patients == 499
    uncalibrated = calibrate(series(), score_map([[0, wd_patch, 0]]), reference, PROVENANCE)
    assert uncalibrated.verdict is Verdict.UNCALIBRATED
    assert uncalibrated.reasons[0].code == "NO_SITE_CALIBRATION"
    assert uncalibrated.cohort_patients == 0


def test_the_limits_and_weights_can_be_set():
    def found(**options):
        return calibrate(
            series(), score_map([[0, 99, 0]]), site_of(normal_cohort(99)), PROVENANCE, stratum="CT", **options
        )

    assert found(alpha_review=0.1, alpha_reject=0.01).verdict is Verdict.REJECT
    assert found(alpha_review=0.1, alpha_reject=0.001).verdict is Verdict.REVIEW
    assert found(alpha_reject=0.001).reasons[1].code == "REJECT_OUT_OF_REACH"
    assert found(weights={"wd_patch": 0.0}).verdict is Verdict.PASS
    for wrong in ({"unheard": 1.0}, {"wd_patch": -1.0}, dict.fromkeys(NAMES, 0.0)):
        with pytest.raises(AnomapError, match="E200"):
            found(weights=wrong)


@pytest.mark.parametrize("stratum", ["CT", "another kind"])
def test_a_cohort_that_could_never_raise_an_alarm_gives_no_pass(stratum):
    result = calibrate(series(), score_map([[0, 0, 0]]), site_of(normal_cohort(18)), PROVENANCE, stratum=stratum)
    assert result.verdict is Verdict.UNCALIBRATED
    assert result.reasons[0].code == "COHORT_TOO_SMALL"
    enough = calibrate(series(), score_map([[0, 0, 0]]), site_of(normal_cohort(19)), PROVENANCE, stratum="CT")
    assert enough.verdict is Verdict.PASS


def test_a_cohort_of_other_weights_is_refused():
    with pytest.raises(AnomapError, match="E302"):
        calibrate(series(), score_map([[0, 0, 0]]), cohort(np.ones((3, 3)), sha256="cd" * 32), PROVENANCE)
    with pytest.raises(AnomapError, match="E302"):
        calibrate(series(), score_map([[0, 0, 0]]), cohort(np.ones((3, 1)), names=("ssim",)), PROVENANCE)


def test_a_score_is_compared_with_those_that_have_it():
    reference = cohort_of_two_kinds(30, stacked=9)
    result = calibrate(series(), score_map([[0, 0, 99]], names=BESIDE), reference, PROVENANCE)
    assert result.p_by_score["neighbour_patch"][0] == pytest.approx(1 / 10)
    assert result.p_by_score["combined"][0] == pytest.approx(1 / 10)
    assert result.p_by_score["wd_patch"][0] > 1 / 31
    assert result.percentile_by_score["neighbour_patch"][0] == 100.0
    alone = calibrate(series(), score_map([[0, 99]], names=BESIDE[:2]), reference, PROVENANCE)
    assert alone.p_by_score["combined"][0] == pytest.approx(1 / 31), "all images have what is combined here"
    assert "neighbour_patch" not in alone.p_by_score


def test_a_cohort_in_which_nobody_has_a_score_leaves_it_out():
    result = calibrate(series(), score_map([[0, 0, 99]], names=BESIDE), cohort_of_two_kinds(30, stacked=0), PROVENANCE)
    assert "neighbour_patch" not in result.p_by_score
    assert np.isfinite(result.summary["combined"])


def test_a_site_takes_series_with_and_without_neighbours_and_keeps_its_alarms():
    """What a series doesn't have counts as 0 for all alike: p-values stay valid, whoever has it."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(300):
        values = rng.exponential(size=(20, 3))
        values[rng.random(20) < 0.3, 2] = np.nan
        site = site_of(cohort(values[:19], names=BESIDE))
        new = values[19:] if not np.isnan(values[19, 2]) else values[19:, :2]
        found = calibrate(series(), score_map(new, names=BESIDE[: new.shape[1]]), site, PROVENANCE, stratum="CT")
        alarms += found.p_value <= 0.1
    assert binomtest(alarms, 300, 0.1).pvalue > 0.01
    other = score_map([[0, 0]], names=("mse_full", "neighbour_patch"))
    with pytest.raises(AnomapError, match="E302"):
        calibrate(series(), other, site_of(cohort_of_two_kinds(30, 9)), PROVENANCE, stratum="CT")


def test_images_that_were_not_looked_at_count_by_the_scores_they_have():
    rng = np.random.default_rng(6)
    site = site_of(cohort(rng.exponential(size=(19, 3)), names=BESIDE))
    seen, more = score_map([[0.1, 0.1, 0.1]], names=BESIDE), {"stratum": "CT", "every": 4}
    plain = calibrate(series(), seen, site, PROVENANCE, **more, unseen={"neighbour_patch": np.array([0.1, 0.2])})
    odd = calibrate(series(), seen, site, PROVENANCE, **more, unseen={"neighbour_patch": np.array([0.1, 99.0])})
    assert plain.p_value == 1.0
    assert odd.p_value == pytest.approx(1 / 20)
    assert odd.summary == plain.summary, "of the images that were looked at"


def test_no_image_is_no_result():
    empty = score_map(np.empty((0, 3)), np.zeros((1, 32, 32)))
    with pytest.raises(AnomapError, match="E501"):
        calibrate(series(), empty, None, PROVENANCE)
