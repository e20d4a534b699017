from dataclasses import replace

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from anomap.evaluation.features import feature_knn, fit_features
from anomap.projection.features import pooled_features
from tests.evaluation.pictures import trunks


def test_the_score_is_the_mean_distance_to_the_nearest_as_sklearn_finds_them(toy_bundle) -> None:
    train, images = trunks(20, seed=1), trunks(4, seed=2)
    bank = fit_features(toy_bundle, train)
    known, new = (pooled_features(part.images, toy_bundle.discriminator, "cpu") for part in (train, images))
    scaler = StandardScaler().fit(known)
    nearest = NearestNeighbors(n_neighbors=3).fit(scaler.transform(known))
    distances, _ = nearest.kneighbors(scaler.transform(new))
    np.testing.assert_allclose(feature_knn(toy_bundle, bank, images, 3), distances.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(feature_knn(toy_bundle, bank, train, 1), 0, atol=1e-6)


def test_fewer_training_images_than_neighbours_will_do(toy_bundle) -> None:
    bank = fit_features(toy_bundle, trunks(2))
    assert np.isfinite(feature_knn(toy_bundle, bank, trunks(3, seed=1))).all()


def test_without_a_discriminator_there_is_none(toy_bundle) -> None:
    assert fit_features(replace(toy_bundle, discriminator=None), trunks(2)) is None
