"""Neighbours and clusters in latent space."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from anomap.curation.clusters import NEIGHBOURS, neighbourhood


def blobs(sizes, dimension=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 4, (len(sizes), dimension))
    return np.concatenate([rng.normal(c, 0.3, (n, dimension)) for c, n in zip(centres, sizes, strict=True)])


def test_kinds_of_outliers_are_clusters_the_largest_first():
    sizes = (7, 20, 12)
    w = blobs(sizes)
    found = neighbourhood([row.tolist() for row in w], ["a"] * len(w), np.ones(len(w), bool))
    expected = np.repeat([3, 1, 2], sizes)
    placed = found.cluster > 0
    assert placed.mean() > 0.8, "HDBSCAN leaves a few apart"
    np.testing.assert_array_equal(found.cluster[placed], expected[placed])


def test_images_that_are_no_outliers_or_were_not_projected_are_in_no_cluster():
    w = [row.tolist() for row in blobs((15, 15))]
    w[3] = None
    odd = np.ones(30, bool)
    odd[20:] = False
    found = neighbourhood(w, ["a"] * 30, odd)
    assert found.cluster[3] == -1
    assert set(found.cluster[20:]) == {-1}
    assert (found.nearest[3] == -1).all()
    assert 3 not in found.nearest


def test_models_are_not_mixed():
    w = [row.tolist() for row in blobs((12, 12), seed=3)] * 2  # the same vectors, by two models
    models = ["a"] * 24 + ["b"] * 24
    found = neighbourhood(w, models, np.ones(48, bool))
    assert (found.nearest[:24] < 24).all()
    assert (found.nearest[24:] >= 24).all()
    assert not set(found.cluster[:24]) & set(found.cluster[24:]) - {0}
    assert found.cluster.max() == 4


@pytest.mark.parametrize("count", [1, 2, 6, 700])
def test_the_nearest_are_those_of_scikit_learn(count):
    w = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)
    found = neighbourhood([row.tolist() for row in w], ["a"] * count, np.zeros(count, bool))
    there = min(NEIGHBOURS, count - 1)
    assert (found.nearest[:, there:] == -1).all()
    assert np.isnan(found.distance[:, there:]).all()
    if there:
        far, near = NearestNeighbors(n_neighbors=there).fit(w).kneighbors()
        np.testing.assert_array_equal(found.nearest[:, :there], near)
        np.testing.assert_allclose(found.distance[:, :there], far, rtol=1e-5)


def test_few_outliers_make_no_cluster_and_nothing_gives_nothing():
    w = [row.tolist() for row in blobs((4, 4))]
    assert set(neighbourhood(w, ["a"] * 8, np.ones(8, bool)).cluster) == {0}
    empty = neighbourhood([], [], np.zeros(0, bool))
    assert empty.cluster.shape == (0,)
    assert empty.nearest.shape == (0, NEIGHBOURS)
