"""Scores of prepared images that belong to no series: the middle of the house, run on a labelled set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anomap.bundle import Bundle
from anomap.errors import AnomapError
from anomap.evaluation.store import Store, joined
from anomap.projection import project
from anomap.projection.schedule import ProjectionConfig
from anomap.scoring import ScoreConfig, score
from anomap.training.data import ImageSet, by_hash
from anomap.types import Float32, Float64, Int64, Prepared, Reconstruction, ScoreMap

Progress = Callable[[int, int], None]  # images done, images in all
_BETWEEN_WRITES = 32  # images projected before they go into the store
_AT_ONCE = 64  # images scored together; bounds memory, changes no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of N images.

    Attributes:
        per_image: Name of `anomap.scoring.SCORES` -> ``(N,)``.
        top_window: ``(N, 4)`` as `ScoreMap.top_window`.
        map_peak: ``(N,)`` highest value of any window of the WD map, inside the body or not.
        reconstruction: What the scores were taken from.
    """

    per_image: dict[str, Float64]
    top_window: Int64
    map_peak: Float64
    reconstruction: Reconstruction


def score_images(
    bundle: Bundle,
    prepared: Prepared,
    projection: ProjectionConfig,
    progress: Progress | None = None,
    store: Store | None = None,
) -> Scores:
    """Project and score images with a bundle's own settings.

    Args:
        bundle: Loaded on its device.
        prepared: N >= 1 images of the bundle's preprocessing.
        projection: Preset.
        progress: Told (images done, images in all).
        store: Where reconstructions are looked up and kept; of this bundle and preset.

    Raises:
        AnomapError: As `anomap.projection.project` and `anomap.scoring.score`; E200 without images.
    """
    total = len(prepared.images)
    if not total:
        raise AnomapError("E200", "there are no images to score")
    windows, peaks = np.empty((total, 4), np.int64), np.empty(total)
    parts: list[Mapping[str, Float64]] = []
    fits = []
    for start in range(0, total, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, total))
        part = take(prepared, rows)
        fit = _reconstruct(bundle, part, projection, store)
        found = score_on_model_grid(bundle, part, fit)
        fits.append(fit)
        parts.append(found.per_image)
        windows[rows] = found.top_window
        peaks[rows] = map_peaks(found)
        if progress is not None:
            progress(int(rows[-1]) + 1, total)
    return Scores(
        per_image={name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        top_window=windows,
        map_peak=peaks,
        reconstruction=joined(fits),
    )


def map_peaks(scores: ScoreMap) -> Float64:
    """Highest value of any window of the WD map of each image, inside the body or not, ``(N,)``."""
    dense = np.nan_to_num(scores.maps["wd"], nan=-np.inf).max(axis=(1, 2))[scores.frame]
    # Between pixels the map is interpolated, which can only lower it: the window score is its true peak.
    peaks: Float64 = np.maximum(dense, scores.per_image["wd_patch"])
    return peaks


def score_on_model_grid(
    bundle: Bundle, prepared: Prepared, fit: Reconstruction, neighbours: Float32 | None = None
) -> ScoreMap:
    """Scores, and maps ``(N, H, W)`` on the model's own pixels, with a bundle's settings; see `score`."""
    grid = on_model_grid(prepared)
    config = ScoreConfig(window=bundle.info.window, levels=bundle.info.levels)
    return score(grid, fit, grid.images[:, 0].shape, config, neighbours)


def _reconstruct(
    bundle: Bundle, prepared: Prepared, projection: ProjectionConfig, store: Store | None
) -> Reconstruction:
    """Project what the store does not hold yet, some images at a time: a cut costs no more than these."""
    if store is None:
        return project(prepared, bundle, projection, bundle.device)
    fits = [store.get(prepared, row) for row in range(len(prepared.images))]
    missing = np.flatnonzero([fit is None for fit in fits])
    for start in range(0, len(missing), _BETWEEN_WRITES):
        rows = missing[start : start + _BETWEEN_WRITES]
        batch = take(prepared, rows)
        fit = project(batch, bundle, projection, bundle.device)
        for place, row in enumerate(rows):
            store.put(batch, place, fit)
            fits[row] = store.get(batch, place)
    if any(fit is None for fit in fits):
        raise AnomapError("E202", "the cache does not give back what was written to it")
    return joined([fit for fit in fits if fit is not None])


def on_model_grid(prepared: Prepared) -> Prepared:
    """The same images with the model's own pixels as source: sets mix sources of different sizes."""
    count = len(prepared.images)
    return replace(prepared, frame=np.arange(count, dtype=np.int64), to_source=np.tile(np.eye(3), (count, 1, 1)))


def take(prepared: Prepared, rows: Int64) -> Prepared:
    """Some of the images, in the order of `rows`; `frame` then counts them."""
    return replace(prepared.chosen(rows), frame=np.arange(len(rows), dtype=np.int64))


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
        stacks=labels(images.stacks),
        positions_mm=images.positions_mm[rows],
    )


def choose(images: ImageSet, count: int, *, per_patient: bool = False) -> Int64:
    """Rows of `count` images chosen by the hash of their names: always the same, and not by their looks.

    Args:
        images: Where from.
        count: How many, if there are so many.
        per_patient: At most one image of each patient.
    """
    order = sorted(range(len(images.names)), key=lambda row: by_hash(images.names[row]))
    if per_patient:
        first = {images.patients[row]: row for row in reversed(order)}
        order = [row for row in order if first[images.patients[row]] == row]
    return np.array(sorted(order[:count]), np.int64)
