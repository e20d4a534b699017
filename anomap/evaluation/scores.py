"""Scores of prepared images that belong to no series: the middle of the house, run on a labelled set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anomap.bundle import Bundle
from anomap.projection import project
from anomap.projection.schedule import ProjectionConfig
from anomap.scoring import SCORES, ScoreConfig, score
from anomap.training.data import ImageSet
from anomap.types import Float64, Int64, Prepared

Progress = Callable[[int, int], None]  # images done, images in all
_AT_ONCE = 64  # images scored together; bounds memory, changes no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of N images.

    Attributes:
        per_image: Name of `anomap.scoring.SCORES` -> ``(N,)``.
        top_window: ``(N, 4)`` as `ScoreMap.top_window`.
        map_peak: ``(N,)`` highest value of any window of the WD map, inside the body or not.
    """

    per_image: dict[str, Float64]
    top_window: Int64
    map_peak: Float64


def score_images(
    bundle: Bundle, prepared: Prepared, projection: ProjectionConfig, progress: Progress | None = None
) -> Scores:
    """Project and score images with a bundle's own settings.

    Args:
        bundle: Loaded on its device.
        prepared: N images of the bundle's preprocessing.
        projection: Preset.
        progress: Told (images done, images in all).

    Raises:
        AnomapError: As `anomap.projection.project` and `anomap.scoring.score`.
    """
    total = len(prepared.images)
    config = ScoreConfig(window=bundle.info.window, levels=bundle.info.levels)
    names = list(SCORES)
    columns, windows, peaks = np.empty((total, len(names))), np.empty((total, 4), np.int64), np.empty(total)
    for start in range(0, total, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, total))
        part = on_model_grid(take(prepared, rows))
        fit = project(part, bundle, projection, bundle.device)
        found = score(part, fit, part.images[:, 0].shape, config)
        columns[rows] = np.stack([found.per_image[name] for name in names], axis=1)
        windows[rows] = found.top_window
        # Between pixels the map is interpolated, which can only lower it: the window score is its true peak.
        dense = np.nan_to_num(found.maps["wd"], nan=-np.inf).max(axis=(1, 2))
        peaks[rows] = np.maximum(dense, found.per_image["wd_patch"])
        if progress is not None:
            progress(int(rows[-1]) + 1, total)
    return Scores(per_image=dict(zip(names, columns.T.copy(), strict=True)), top_window=windows, map_peak=peaks)


def on_model_grid(prepared: Prepared) -> Prepared:
    """The same images with the model's own pixels as source: sets mix sources of different sizes."""
    count = len(prepared.images)
    return replace(prepared, frame=np.arange(count, dtype=np.int64), to_source=np.tile(np.eye(3), (count, 1, 1)))


def take(prepared: Prepared, rows: Int64) -> Prepared:
    """Some of the images, in the order of `rows`; `frame` then counts them."""
    arrays: dict[str, Any] = {
        name: getattr(prepared, name)[rows] for name in ("images", "valid", "body", "to_source", "gain", "offset")
    }
    names = tuple(prepared.frame_ids[row] for row in rows)
    return replace(prepared, **arrays, frame=np.arange(len(rows), dtype=np.int64), frame_ids=names)


def subset(images: ImageSet, rows: Int64) -> ImageSet:
    """Some images of a set with their labels."""

    def labels(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(values[row] for row in rows)

    return ImageSet(
        prepared=take(images.prepared, rows),
        names=labels(images.names),
        patients=labels(images.patients),
        categories=labels(images.categories),
        sources=labels(images.sources),
    )


def choose(images: ImageSet, count: int, *, per_patient: bool = False) -> Int64:
    """Rows of `count` images chosen by the hash of their names: always the same, and not by their looks.

    Args:
        images: Where from.
        count: How many, if there are so many.
        per_patient: At most one image of each patient.
    """
    order = sorted(range(len(images.names)), key=lambda row: hashlib.sha256(images.names[row].encode()).digest())
    if per_patient:
        first = {images.patients[row]: row for row in reversed(order)}
        order = [row for row in order if first[images.patients[row]] == row]
    return np.array(sorted(order[:count]), np.int64)
