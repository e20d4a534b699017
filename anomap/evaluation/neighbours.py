"""Slices among the slices beside them, in sets that mix slices of many patients.

In a series a slice has its neighbours at hand (`anomap.projection.neighbours`). In an evaluation they are looked for by
patient: first among the normal slices, so that an altered one is compared with slices as they were; then among those
of its own category, as a whole series of something else has only such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from anomap.bundle import Bundle
from anomap.evaluation.scores import Scores, choose, subset
from anomap.projection.neighbours import PlaceFeatures, beside, neighbour_map, place_features
from anomap.projection.places import PlaceStatistics
from anomap.scoring import of_neighbours
from anomap.training.data import ImageSet
from anomap.types import Float32, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourBank:
    """Normal slices that others may lie beside.

    Attributes:
        images: M of them.
        features: Theirs.
        statistics: Of the training images.
    """

    images: ImageSet
    features: PlaceFeatures
    statistics: tuple[PlaceStatistics, ...]

    def places(self, bundle: Bundle, images: ImageSet) -> Float32:
        """How far each place is from those beside it, ``(N, S, S)``; NaN for images that have none."""
        own = self.features if images is self.images else _features(bundle, images, self.statistics)
        among = {side: torch.cat([maps, own[side]]) for side, maps in self.features.items()}
        return neighbour_map(own, among, _rows(images, self.images), self.statistics, bundle.device)


def fit_neighbours(bundle: Bundle, normal: ImageSet) -> NeighbourBank | None:
    """Features of the normal slices; None where the model knows no places, or there are no stacks of slices."""
    known = bundle.feature_statistics
    if bundle.discriminator is None or known is None or not known.places:
        return None
    if bundle.spec.kind != "ct" or not any(normal.stacks):
        return None
    features = _features(bundle, normal, known.places)
    return NeighbourBank(images=normal, features=features, statistics=known.places)


def with_neighbours(scores: Scores, places: Float32 | None) -> Scores:
    """The same scores with `SERIES_SCORES` among them, NaN where an image has no neighbour, if any has one."""
    if places is None or np.isnan(places).all():
        return scores
    return replace(scores, per_image={**scores.per_image, **of_neighbours(places)})


def choose_beside(images: ImageSet, places: Float32 | None, count: int) -> Int64:
    """Rows of up to `count` images that have neighbours, as many of each patient, chosen by the hash of their names.

    Args:
        images: Where from.
        places: Of `NeighbourBank.places`.
        count: How many, if there are so many.
    """
    if places is None:
        return np.empty(0, np.int64)
    inside = np.flatnonzero(~np.isnan(places).any(axis=(1, 2)))
    of = np.array(images.patients)[inside]
    patients = np.unique(of)
    chosen = [np.empty(0, np.int64)]
    for patient in patients:
        own = inside[of == patient]
        chosen.append(own[choose(subset(images, own), count // len(patients))])
    return np.sort(np.concatenate(chosen))


def _features(bundle: Bundle, images: ImageSet, statistics: tuple[PlaceStatistics, ...]) -> PlaceFeatures:
    assert bundle.discriminator is not None  # noqa: S101 (fit_neighbours looked)
    return place_features(images.images, bundle.discriminator, statistics, bundle.device)


def _rows(images: ImageSet, normal: ImageSet) -> Int64:
    """Neighbours of `images` as rows of both sets one after the other, ``(N, 2)``."""
    stacks = np.array([*normal.stacks, *images.stacks])
    positions = np.concatenate([normal.positions_mm, images.positions_mm])
    own = stacks[len(normal.stacks) :]
    rows = np.full((len(own), 2), -1, np.int64)
    for stack in set(own.tolist()) - {""}:
        of_images, among = np.flatnonzero(own == stack), np.flatnonzero(stacks == stack)
        found = beside(images.positions_mm[of_images], positions[among])
        rows[of_images] = np.where(found < 0, -1, among[found])
    return rows
