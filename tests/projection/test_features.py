"""The discriminator's two answers: cosines and covariances by hand, and none without what they need."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.preprocessing import StandardScaler

from anomap.errors import AnomapError
from anomap.evaluation.scores import score_images
from anomap.projection import features as module
from anomap.projection import parts
from anomap.projection.features import (
    RIDGE,
    feature_distance,
    feature_residual,
    measure_features,
    pooled_features,
)
from tests.evaluation.pictures import trunks
from tests.evaluation.test_scores import QUICK


def test_the_residual_is_zero_for_a_perfect_reconstruction_and_of_the_right_size(toy_bundle) -> None:
    prepared, network = trunks(67), toy_bundle.discriminator
    other = score_images(toy_bundle, prepared, QUICK).reconstruction
    same = feature_residual(prepared.images, prepared.images, prepared.valid, network, "cpu")
    np.testing.assert_allclose(same, 0, atol=1e-9)
    pairs = zip(
        network.features(torch.from_numpy(prepared.images)),
        network.features(torch.from_numpy(other.images)),
        strict=True,
    )
    # Unit vectors: |a - b|^2 = 2 - 2 cos.
    by_hand = sum(2 - 2 * torch.cosine_similarity(a, b).mean(dim=(1, 2)) for a, b in pairs)
    np.testing.assert_allclose(other.feature_residual, by_hand.numpy(), rtol=1e-3)
    alone = feature_residual(prepared.images[66:], other.images[66:], prepared.valid[66:], network, "cpu")
    assert alone[0] == pytest.approx(other.feature_residual[66], rel=1e-4)


def test_padding_does_not_count_in_the_residual(toy_bundle) -> None:
    prepared = trunks(2)
    valid = prepared.valid.copy()
    valid[:, :, :, :5] = False
    padded = np.where(valid, prepared.images, -1).astype(np.float32)
    filled = np.where(valid, prepared.images, 1).astype(np.float32)
    found = feature_residual(padded, filled, valid, toy_bundle.discriminator, "cpu")
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_features_are_means_and_deviations_over_positions_of_all_blocks(toy_bundle) -> None:
    images = trunks(70).images
    found = pooled_features(images, toy_bundle.discriminator, "cpu")
    maps = [m[0].flatten(1).numpy() for m in toy_bundle.discriminator.features(torch.from_numpy(images[66:67]))]
    by_hand = np.concatenate([m.mean(axis=1) for m in maps] + [m.std(axis=1, ddof=1) for m in maps])
    np.testing.assert_allclose(found[66], by_hand, rtol=1e-4, atol=1e-6)


def test_the_distance_is_sklearns_mahalanobis_with_a_ridge(toy_bundle) -> None:
    train, images, network = trunks(200, seed=1).images, trunks(5, seed=2).images, toy_bundle.discriminator
    known, new = (pooled_features(part, network, "cpu") for part in (train, images))
    scaler = StandardScaler().fit(known)
    fitted = EmpiricalCovariance(assume_centered=True).fit(scaler.transform(known))
    precision = np.linalg.inv(fitted.covariance_ + RIDGE * np.eye(known.shape[1]))
    standard = scaler.transform(new)
    by_hand = np.sqrt(np.einsum("na,ab,nb->n", standard, precision, standard) / known.shape[1])
    found = feature_distance(images, network, measure_features(train, network), "cpu")
    np.testing.assert_allclose(found, by_hand, rtol=1e-3)


def test_of_many_axes_those_of_the_largest_variance_stay(toy_bundle, monkeypatch) -> None:
    train, network = trunks(60, seed=1).images, toy_bundle.discriminator
    whole = measure_features(train, network)
    monkeypatch.setattr(module, "MOST_AXES", 7)
    few = measure_features(train, network)
    assert few.whiten.shape == (whole.whiten.shape[0], 7)
    torch.testing.assert_close(few.whiten, whole.whiten[:, :7])
    assert (whole.whiten[:, 0].norm() < whole.whiten[:, -1].norm()).item()


def test_what_overflows_is_an_error_not_an_absent_score(toy_bundle) -> None:
    images = np.full((2, 1, 32, 32), np.float32(3e38))
    with pytest.raises(AnomapError, match="E501"):
        feature_distance(images, toy_bundle.discriminator, toy_bundle.feature_statistics, "cpu")


def test_the_parts_change_nothing(toy_bundle, monkeypatch) -> None:
    images = trunks(9).images
    whole = pooled_features(images, toy_bundle.discriminator, "cpu")
    monkeypatch.setattr(parts, "_PIXELS", 4 * 32**2)
    np.testing.assert_allclose(pooled_features(images, toy_bundle.discriminator, "cpu"), whole, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(parts, "_PIXELS", 1)
    np.testing.assert_allclose(pooled_features(images, toy_bundle.discriminator, "cpu"), whole, rtol=1e-4, atol=1e-6)


def test_a_model_without_discriminator_or_statistics_gives_nan(toy_bundle) -> None:
    fit = score_images(replace(toy_bundle, discriminator=None), trunks(2), QUICK).reconstruction
    assert np.isnan(fit.feature_residual).all()
    assert np.isnan(fit.feature_distance).all()
    fit = score_images(replace(toy_bundle, feature_statistics=None), trunks(2), QUICK).reconstruction
    assert np.isfinite(fit.feature_residual).all()
    assert np.isnan(fit.feature_distance).all()
