"""Outliers that resemble each other: their neighbours in the model's latent space, and clusters there.

HDBSCAN (Campello, Moulavi and Sander 2013, doi 10.1007/978-3-642-37456-2_14) as scikit-learn has it: it needs no
number of clusters and leaves apart what belongs nowhere. Latent vectors of different models are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomap.types import Bool, Float32, Int64

NEIGHBOURS = 5  # shown of an image
_LEAST = 5  # images that make a cluster
_CHUNK = 512  # images whose distances to all others are in memory at a time

Vector = Sequence[float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """Where M images lie among each other.

    Attributes:
        cluster: ``(M,)`` 1 for the largest cluster, 2 for the next; 0 for an image in none, -1 for one left out.
        nearest: ``(M, NEIGHBOURS)`` places of the nearest images, -1 where there are no more.
        distance: ``(M, NEIGHBOURS)`` their distances in W, NaN where there are no more.
    """

    cluster: Int64
    nearest: Int64
    distance: Float32


def neighbourhood(vectors: Sequence[Vector], models: Sequence[str], odd: Bool) -> Neighbourhood:
    """Clusters of the odd images, and the nearest images of each.

    Args:
        vectors: M latent vectors, None for an image that was not projected.
        models: M names of the models they belong to.
        odd: ``(M,)`` images that take part in clusters.
    """
    cluster = np.full(len(vectors), -1, np.int64)
    nearest = np.full((len(vectors), NEIGHBOURS), -1, np.int64)
    distance = np.full((len(vectors), NEIGHBOURS), np.nan, np.float32)
    found = 0
    for model in sorted(set(models)):
        places = np.array([n for n, w in enumerate(vectors) if w is not None and models[n] == model], np.int64)
        if not len(places):
            continue
        w = np.array([vectors[n] for n in places], np.float32)
        near, far = _nearest(w)
        nearest[places, : near.shape[1]], distance[places, : far.shape[1]] = places[near], far
        label = _clusters(w[odd[places]])
        cluster[places[odd[places]]] = np.where(label < 0, 0, label + 1 + found)
        found += int(label.max(initial=-1)) + 1
    return Neighbourhood(cluster=_by_size(cluster), nearest=nearest, distance=distance)


def _clusters(w: Float32) -> Int64:
    """Numbers of clusters from 0, -1 for none. ``(M, D)`` -> ``(M,)``."""
    if len(w) < 2 * _LEAST:
        return np.full(len(w), -1, np.int64)
    from sklearn.cluster import HDBSCAN

    labels: Int64 = HDBSCAN(min_cluster_size=_LEAST, copy=True).fit_predict(w.astype(np.float64)).astype(np.int64)
    return labels


def _by_size(cluster: Int64) -> Int64:
    """The same clusters, the largest first; of equal ones the one that comes first."""
    numbers, first, size = np.unique(cluster, return_index=True, return_counts=True)
    real = numbers > 0
    order = numbers[real][np.lexsort((first[real], -size[real]))]
    renamed = {int(old): new for new, old in enumerate(order, start=1)}
    return np.array([renamed.get(int(number), int(number)) for number in cluster], np.int64)


def _nearest(w: Float32) -> tuple[Int64, npt.NDArray[np.float32]]:
    """The nearest others of each vector and their Euclidean distances. ``(M, D)`` -> ``(M, K)`` twice."""
    count = min(NEIGHBOURS, len(w) - 1)
    squares = (w**2).sum(axis=1)
    near = np.empty((len(w), count), np.int64)
    for start in range(0, len(w), _CHUNK):
        part = slice(start, start + _CHUNK)
        apart = squares[part, None] + squares - 2 * w[part] @ w.T
        apart[np.arange(len(apart)), np.arange(len(apart)) + start] = np.inf
        near[part] = np.argsort(apart, axis=1, kind="stable")[:, :count]
    far = np.linalg.norm(w[:, None] - w[near], axis=2) if count else np.empty((len(w), 0), np.float32)
    return near, far.astype(np.float32)
