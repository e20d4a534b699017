"""A site's cohort: maxima by patient within a stratum, and JSON there and back."""

import json

import numpy as np
import pytest

from anomap.calibration import SiteCohort, site_from_dict, site_to_dict
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
    )
    strata = {"c": "CT chest", "a": "CT chest", "b": "CT head"}
    return SiteCohort(
        images=images, bundle_name="made-up", settings_sha256="cd" * 32, strata_by=("modality",), strata=strata
    )


def test_a_patient_counts_once_with_the_maxima_in_order_of_acquisition():
    np.testing.assert_array_equal(made_site().statistics("CT chest"), [[7.0, 0.1], [4.0, 9.0]])
    np.testing.assert_array_equal(made_site().statistics("CT head"), [[3.0, 3.0]])
    assert made_site().statistics("CT pelvis").shape == (0, 2)


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
