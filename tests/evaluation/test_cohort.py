from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomap.bundle import read_cohort, write_cohort
from anomap.calibration import REGION_SHARE, calibrate, region_threshold
from anomap.evaluation.cohort import measure_cohort
from anomap.projection import project
from anomap.scoring import SCORES, SERIES_SCORES, ScoreConfig, score
from anomap.types import Cohort, ImageSeries
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200).map(lambda v: np.array(v, np.float64)))
def test_at_most_the_stated_share_of_normal_images_exceeds_the_threshold(peaks: np.ndarray) -> None:
    threshold = region_threshold(peaks)
    assert np.count_nonzero(peaks > threshold) <= REGION_SHARE * len(peaks)
    # and it is the smallest such peak
    lower = peaks[peaks < threshold]
    assert not lower.size or np.count_nonzero(peaks > lower.max()) > REGION_SHARE * len(peaks) - 1


def test_without_images_no_region_begins() -> None:
    assert region_threshold(np.empty(0)) == float("inf")


def cohort(toy_bundle) -> Cohort:
    return measure_cohort(toy_bundle, image_set(trunks(24), source="Made-up", images_each=2), QUICK, date(2026, 1, 2))


def test_a_cohort_says_who_it_is_and_holds_every_score(toy_bundle) -> None:
    found = cohort(toy_bundle)
    assert set(found.names) == set(SCORES) - set(SERIES_SCORES)
    assert found.scores.shape == (24, len(found.names))
    assert len(set(found.patients)) == 12
    assert found.bundle_sha256 == toy_bundle.info.sha256
    for word in ("24 images of 12 patients", "Made-up (24)", "2026-01-02", "preset fast"):
        assert word in found.description


def test_a_cohort_goes_with_its_bundle(toy_bundle, toy_models) -> None:
    before = read_cohort(toy_bundle.info)
    assert before is not None
    try:
        write_cohort(toy_bundle.info, cohort(toy_bundle))
        stored = read_cohort(toy_bundle.info)
        assert stored is not None
        np.testing.assert_array_equal(stored.scores, cohort(toy_bundle).scores)
    finally:
        write_cohort(toy_bundle.info, before)


def test_images_of_the_cohort_show_regions_as_seldom_as_stated(toy_bundle) -> None:
    images, found = trunks(24), cohort(toy_bundle)
    config = ScoreConfig(window=toy_bundle.info.window, levels=toy_bundle.info.levels)
    score_map = score(images, project(images, toy_bundle, QUICK), (24, 256, 256), config)
    series = ImageSeries(
        pixels=np.zeros((24, 256, 256), np.float32),
        unit="1",
        affine=np.eye(4),
        modality="DX",
        frame_ids=images.frame_ids,
        valid=np.ones((24, 256, 256), bool),
    )
    result = calibrate(series, score_map, found, {"bundle_sha256": found.bundle_sha256}, min_area_px=0)
    with_region = (result.labels > 0).any(axis=(1, 2)).sum()
    assert with_region <= REGION_SHARE * 24
