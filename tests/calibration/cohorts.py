"""Cohorts, scores and series made up for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anomap.calibration import SiteCohort
from anomap.types import Cohort, ImageSeries, ScoreMap

PROVENANCE = {"bundle_sha256": "ab" * 32}
NAMES = ("mse_full", "wd_patch", "w_distance")
BESIDE = ("mse_full", "wd_patch", "neighbour_patch")


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


def cohort_of_two_kinds(size, stacked):
    """The last column is there for the first `stacked` images only."""
    values = np.random.default_rng(3).normal(size=(size, 3))
    values[stacked:, 2] = np.nan
    return replace(cohort(values, names=BESIDE), combines=("wd_patch", "neighbour_patch"))
