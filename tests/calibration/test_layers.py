"""Where regions begin: by the cohort's images, by a site's, by the map itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomap.calibration import region_layers, region_threshold
from anomap.types import Cohort
from tests.made import made_analysis

NAMES = ("wd_patch", "feature_patch", "neighbour_patch")
MANY = np.arange(100.0)


def cohort(*columns, names=NAMES):
    scores = np.stack(columns, axis=1)
    return Cohort(
        scores=scores,
        names=names[: len(columns)],
        patients=("p",) * len(scores),
        bundle_sha256="",
        description="",
        region_threshold=77.0,
        combines=(),
    )


def scores(modality="DX", frames=1):
    """A made-up result whose model knows places."""
    made = made_analysis(modality=modality, frames=frames).score_map
    return replace(made, maps={**made.maps, "place": made.maps["wd"] / 10})


def test_windows_begin_where_the_cohort_says_and_places_where_one_image_in_twenty_has_one():
    windows, places = region_layers(scores(), cohort(MANY, MANY / 50))
    assert (windows.score, windows.threshold, windows.spread) == ("wd_patch", 77.0, MANY.std())
    assert (places.score, places.threshold) == ("feature_patch", region_threshold(MANY / 50))
    assert (places.threshold < MANY / 50).mean() <= 0.05


def test_a_slice_with_others_beside_it_is_compared_with_them():
    beside = np.where(MANY < 60, MANY, np.nan)  # the rest has no neighbours
    layers = region_layers(scores("CT", frames=4), cohort(MANY, MANY, beside))
    assert [layer.score for layer in layers] == ["wd_patch", "neighbour_patch"]
    assert layers[1].threshold == 57.0
    assert layers[1].spread == MANY[:60].std()


@pytest.mark.parametrize("columns", [(MANY,), (MANY, MANY, np.full(100, np.nan))])
def test_a_cohort_that_does_not_know_the_score_says_nothing_of_places(columns):
    layers = region_layers(scores("CT", frames=4), cohort(*columns))
    assert [layer.score for layer in layers] == ["wd_patch"]


def test_without_a_map_of_places_there_are_windows_only():
    plain = made_analysis().score_map
    assert "place" not in plain.maps
    assert [layer.score for layer in region_layers(plain, cohort(MANY, MANY))] == ["wd_patch"]
    unknown = replace(scores(), top_place=None)
    assert [layer.score for layer in region_layers(unknown, cohort(MANY, MANY))] == ["wd_patch"]


def test_without_a_cohort_every_map_has_its_own_median_and_spread():
    windows, places = region_layers(scores(), None)
    assert places.threshold == pytest.approx(windows.threshold / 10)
    assert places.spread == pytest.approx(windows.spread / 10)
    assert (windows.threshold - np.nanmedian(windows.values)) / windows.spread == pytest.approx(5.0)


def test_equal_scores_have_a_spread_to_compare_by():
    (windows,) = region_layers(made_analysis().score_map, cohort(np.full(9, 3.0)))
    assert windows.spread == 1.0
    flat = made_analysis().score_map
    nothing = replace(flat, maps={**flat.maps, "wd": np.full_like(flat.maps["wd"], np.nan)})
    (windows,) = region_layers(nothing, None)
    assert (windows.spread, windows.threshold) == (1.0, np.inf)
