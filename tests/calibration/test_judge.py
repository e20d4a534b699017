"""Conformal p-values: valid on exchangeable data, exact on small examples; verdicts; cohorts as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, kstest, percentileofscore

from anomap.calibration import (
    SiteCohort,
    calibrate,
    cohort_from_dict,
    cohort_to_dict,
    combined_score,
    conformal_p,
    fallback_threshold,
    percentile,
    series_p_value,
    worst_first,
)
from anomap.errors import AnomapError
from anomap.types import Cohort, ImageSeries, ScoreMap, Verdict

PROVENANCE = {"bundle_sha256": "ab" * 32}
NAMES = ("mse_full", "wd_patch", "w_distance")
scores = st.floats(-1e6, 1e6).map(lambda value: round(value, 1))  # rounded, so that ties occur


def cohort(values, names=NAMES, threshold=10.0, sha256="ab" * 32):
    values = np.asarray(values, np.float64)
    return Cohort(
        scores=values,
        names=names,
        patients=tuple(f"p{i}" for i in range(len(values))),
        bundle_sha256=sha256,
        description="made-up adults",
        region_threshold=threshold,
        combines=("wd_patch", "w_distance"),
    )


def normal_cohort(size, seed=0):
    return cohort(np.random.default_rng(seed).normal(size=(size, 3)))


def site_of(images, stratum="CT"):
    return SiteCohort(
        images=images,
        bundle_name="made-up",
        settings_sha256="cd" * 32,
        strata_by=("modality",),
        strata=dict.fromkeys(images.patients, stratum),
    )


def score_map(values, wd=None, names=NAMES):
    values = np.asarray(values, np.float64)  # [N,S]
    wd = np.zeros((len(values), 32, 32)) if wd is None else wd
    return ScoreMap(
        maps={"wd": wd.astype(np.float32), "residual": np.zeros(wd.shape, np.float32)},
        per_image={name: values[:, i].copy() for i, name in enumerate(names)},
        top_window=np.zeros((len(values), 4), np.int64),
        frame=np.arange(len(values)),
        unit="HU",
    )


def series(frames=1, modality="CT"):
    shape = (frames, 32, 32)
    return ImageSeries(
        pixels=np.zeros(shape, np.float32),
        unit="HU",
        affine=np.eye(4),
        modality=modality,
        frame_ids=tuple(str(k) for k in range(frames)),
        valid=np.ones(shape, np.bool_),
    )


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


# ---- combined score


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


BESIDE = ("mse_full", "wd_patch", "neighbour_patch")


def cohort_of_two_kinds(size, stacked):
    """The last column is there for the first `stacked` images only."""
    values = np.random.default_rng(3).normal(size=(size, 3))
    values[stacked:, 2] = np.nan
    return replace(cohort(values, names=BESIDE), combines=("wd_patch", "neighbour_patch"))


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


# ---- cohorts as JSON


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
