"""The distance in the discriminator's features: zero for the same picture, else cosines; NaN without a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from anomap.evaluation.scores import score_images
from anomap.projection.features import feature_distance
from tests.evaluation.pictures import trunks
from tests.evaluation.test_scores import QUICK


def test_it_is_zero_for_a_perfect_reconstruction_and_of_the_right_size(toy_bundle) -> None:
    prepared, network = trunks(67), toy_bundle.discriminator
    other = score_images(toy_bundle, prepared, QUICK).reconstruction
    same = feature_distance(prepared.images, prepared.images, prepared.valid, network, "cpu")
    np.testing.assert_allclose(same, 0, atol=1e-9)
    pairs = zip(
        network.features(torch.from_numpy(prepared.images)),
        network.features(torch.from_numpy(other.images)),
        strict=True,
    )
    # Unit vectors: |a - b|^2 = 2 - 2 cos.
    by_hand = sum(2 - 2 * torch.cosine_similarity(a, b).mean(dim=(1, 2)) for a, b in pairs)
    np.testing.assert_allclose(other.feature_distance, by_hand.numpy(), rtol=1e-3)
    alone = feature_distance(prepared.images[66:], other.images[66:], prepared.valid[66:], network, "cpu")
    assert alone[0] == pytest.approx(other.feature_distance[66], rel=1e-4)


def test_padding_does_not_count(toy_bundle) -> None:
    prepared = trunks(2)
    valid = prepared.valid.copy()
    valid[:, :, :, :5] = False
    padded = np.where(valid, prepared.images, -1).astype(np.float32)
    filled = np.where(valid, prepared.images, 1).astype(np.float32)
    found = feature_distance(padded, filled, valid, toy_bundle.discriminator, "cpu")
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_a_model_without_discriminator_gives_nan(toy_bundle) -> None:
    fit = score_images(replace(toy_bundle, discriminator=None), trunks(2), QUICK).reconstruction
    assert np.isnan(fit.feature_distance).all()
