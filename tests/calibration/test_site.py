"""A site's cohort: maxima by patient within a stratum, and JSON there and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from anomap.calibration import SiteCohort, family_p, looked_at, site_from_dict, site_to_dict
from anomap.errors import AnomapError
from anomap.types import Cohort


def made_site(sha256="ab" * 32):
    images = Cohort(
        scores=np.array([[1.0, 9.0], [4.0, 2.0], [3.0, 3.0], [7.0, 0.1]]),
        names=("mse_full", "wd_patch"),
        patients=("a", "a", "b", "c"),
        bundle_sha256=sha256,
        description="three patients",
        region_threshold=5.0,
        combines=("wd_patch",),
    )
    strata = {"c": "CT chest", "a": "CT chest", "b": "CT head"}
    return SiteCohort(
        images=images, bundle_name="made-up", settings_sha256="cd" * 32, strata_by=("modality",), strata=strata
    )


def test_a_patient_counts_once_with_the_maxima_in_order_of_acquisition():
    np.testing.assert_array_equal(made_site().statistics("CT chest"), [[7.0, 0.1], [4.0, 9.0]])
    np.testing.assert_array_equal(made_site().statistics("CT head"), [[3.0, 3.0]])
    assert made_site().statistics("CT pelvis").shape == (0, 2)


def long_site(counts, seed=0):
    """Patients p0, p1, ... with so many slices each, as `anomap calibrate` keeps them: one after the other."""
    rng = np.random.default_rng(seed)
    names = [f"p{i}" for i in range(len(counts))]
    patients = tuple(name for name, count in zip(names, counts, strict=True) for _ in range(count))
    made = made_site()
    images = replace(made.images, scores=rng.normal(size=(len(patients), 2)), patients=patients)
    return replace(made, images=images, strata=dict.fromkeys(reversed(names), "CT"))


def test_a_quick_look_takes_the_same_slices_of_a_new_series_and_of_the_cohort():
    assert looked_at(13, 4).tolist() == [2, 6, 10]
    assert looked_at(6, 4).tolist() == []  # one slice would be no look
    assert looked_at(1, 2).tolist() == []
    counts = [13, 5, 8, 20]
    site = long_site(counts)
    thin = site.thinned(4)
    assert list(thin.strata) == ["p3", "p2", "p0"]  # in the order of before; p1 is too short
    starts = np.cumsum([0, *counts])
    for row, name in zip(thin.statistics("CT"), thin.strata, strict=True):
        number = int(name[1:])
        slices = site.images.scores[starts[number] : starts[number + 1]]
        np.testing.assert_array_equal(row, np.max([slices[k] for k in range(len(slices)) if k % 4 == 2], axis=0))
    assert thin.images.description.startswith("One image in 4 of these: three patients")
    assert long_site([5, 6]).thinned(4) is None


def test_scores_that_need_no_projection_count_for_all_slices_of_a_quick_look():
    made = long_site([13, 8])
    images = replace(made.images, names=("wd_patch", "neighbour_patch"))
    site = replace(made, images=images)
    thin = site.thinned(4)
    assert len(thin.images.patients) == 21
    seen = ~np.isnan(thin.images.scores)
    assert seen[:, 1].all()
    assert np.flatnonzero(seen[:, 0]).tolist() == [2, 6, 10, 13 + 2, 13 + 6]
    np.testing.assert_array_equal(
        thin.statistics("CT")[1], [images.scores[[2, 6, 10], 0].max(), images.scores[:13, 1].max()]
    )


def test_quick_looks_at_normal_patients_are_as_uniform_as_full_ones_and_maxima_of_other_slices_are_not():
    """The p-value of a look against maxima over all slices would hardly ever be small: why the cohort is thinned."""
    rng = np.random.default_rng(1)
    fair, unfair, weights = [], [], np.ones(2)
    for seed in range(400):
        site = long_site([16] * 19, seed=seed + 7)
        new = rng.normal(size=(16, 2))[looked_at(16, 4)].max(axis=0)
        fair.append(family_p(new, site.thinned(4).statistics("CT"), weights))
        unfair.append(family_p(new, site.statistics("CT"), weights))
    assert binomtest(int(np.sum(np.array(fair) <= 0.1 + 1e-12)), 400, 0.1).pvalue > 0.01
    assert binomtest(int(np.sum(np.array(unfair) <= 0.1 + 1e-12)), 400, 0.1).pvalue < 0.01


def test_a_cohort_survives_json_to_the_last_digit():
    site = made_site()
    back = site_from_dict(json.loads(json.dumps(site_to_dict(site))))
    np.testing.assert_array_equal(back.images.scores, site.images.scores)
    assert list(back.strata.items()) == list(site.strata.items())
    assert site_to_dict(back) == site_to_dict(site)


@pytest.mark.parametrize(
    "change",
    [{"format": "anomap.cohort/1"}, {"strata": {}}, {"strata": ["a"]}, {"scores": [[1.0]]}, {"bundle_sha256": None}],
)
def test_a_broken_cohort_is_refused(change):
    content = {**site_to_dict(made_site()), **change}
    if change.get("bundle_sha256", "") is None:
        del content["bundle_sha256"]
    with pytest.raises(AnomapError, match="E302"):
        site_from_dict(content)
