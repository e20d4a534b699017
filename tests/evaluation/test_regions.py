"""Regions on planted anomalies, counted by hand."""

from __future__ import annotations

import numpy as np

from anomap.evaluation.regions import RegionFigures, region_figures
from anomap.types import Cohort, ScoreMap

COHORT = Cohort(
    scores=np.stack([np.arange(40.0), np.arange(40.0) / 10], axis=1),
    names=("wd_patch", "feature_patch"),
    patients=("p",) * 40,
    bundle_sha256="",
    description="",
    region_threshold=30.0,
    combines=(),
)  # places above 3.8 begin a region


def scored(wd: np.ndarray, places: np.ndarray) -> ScoreMap:
    boxes = np.zeros((len(wd), 4), np.int64)
    return ScoreMap(
        maps={"wd": np.float32(wd), "place": np.float32(places), "residual": np.zeros(wd.shape, np.float32)},
        per_image={},
        top_window=boxes,
        frame=np.arange(len(wd)),
        unit="HU",
        top_place=boxes,
    )


def test_regions_are_counted_image_by_image() -> None:
    wd, places, masks = np.zeros((4, 64, 64)), np.zeros((4, 64, 64)), np.zeros((4, 64, 64), bool)
    masks[:, 10:12, 10:30] = True
    places[0, 8:16, 8:16] = 4.5  # on the anomaly, and first
    wd[0, 40:50, 40:50] = 31.0  # elsewhere
    places[1, 8:16, 8:16] = 3.9  # on it, second: less far above its threshold than ...
    wd[1, 40:50, 40:50] = 45.0  # ... this one
    wd[1, 8:14, 24:30] = 32.0  # on it, too
    places[2, 40:44, 40:44] = 5.0
    assert region_figures(scored(wd, places), COHORT, masks) == RegionFigures(hit=2, first=1, elsewhere=0.75)


def test_without_places_there_are_regions_of_windows() -> None:
    wd, masks = np.zeros((1, 64, 64)), np.zeros((1, 64, 64), bool)
    wd[0, 8:14, 24:30], masks[0, 10, 26] = 32.0, True
    windows = ScoreMap(
        maps={"wd": np.float32(wd), "residual": np.zeros(wd.shape, np.float32)},
        per_image={},
        top_window=np.zeros((1, 4), np.int64),
        frame=np.arange(1),
        unit="HU",
    )
    assert region_figures(windows, COHORT, masks) == RegionFigures(hit=1, first=1, elsewhere=0.0)
