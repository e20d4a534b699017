"""One Gaussian a place: numpy and scipy by hand, and NaN without what it needs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from anomap.bundle import load_bundle
from anomap.errors import AnomapError
from anomap.evaluation.scores import score_images
from anomap.projection import places as module
from anomap.projection.places import PRIOR_PATIENTS, RIDGE, measure_places, place_map
from tests.evaluation.pictures import trunks
from tests.evaluation.test_scores import QUICK


def maps_of(network, images, side):
    """``(N, C, side, side)``."""
    with torch.no_grad():
        found = [m.numpy() for m in network.features(torch.from_numpy(images)) if m.shape[-1] == side]
    return found[0].astype(np.float64)


def by_hand(known, new, weights, patients):
    """Squared distance per channel of one place: ``(N, C)`` of the training images, ``(C,)`` of one image."""
    count, channels = known.shape[:2]
    covariance = np.stack(
        [
            [np.cov(known[:, :, i, j].T, aweights=weights, ddof=0).reshape(channels, channels) for j in range(8)]
            for i in range(8)
        ]
    )
    spread = np.sqrt(np.einsum("ijcc->c", covariance) / 64)
    correlation = covariance / np.outer(spread, spread)
    drawn = (patients * correlation + PRIOR_PATIENTS * correlation.mean(axis=(0, 1))) / (patients + PRIOR_PATIENTS)
    mean = np.average(known, axis=0, weights=weights)
    assert count == len(weights)
    return np.array(
        [
            [
                mahalanobis(
                    new[:, i, j] / spread,
                    mean[:, i, j] / spread,
                    np.linalg.inv(drawn[i, j] + RIDGE * np.eye(channels)),
                )
                ** 2
                / channels
                for j in range(8)
            ]
            for i in range(8)
        ]
    )


def test_each_place_has_the_mahalanobis_distance_of_its_own_gaussian(toy_bundle, monkeypatch) -> None:
    monkeypatch.setattr(module, "SIDES", (8,))
    train, images, network = trunks(90, seed=1).images, trunks(3, seed=2).images, toy_bundle.discriminator
    patients = ["often"] * 30 + [f"p{n}" for n in range(60)]
    weights = np.array([1 / 30] * 30 + [1.0] * 60) / 61
    known, new = maps_of(network, train, 8), maps_of(network, images, 8)
    found = place_map(images, network, measure_places(train, patients, network), "cpu")
    assert found.shape == (3, 8, 8)
    for n in range(3):
        np.testing.assert_allclose(found[n] ** 2, by_hand(known, new[n], weights, 61), rtol=0.02)  # half precision


def test_grids_are_averaged_on_the_finest(toy_bundle, monkeypatch) -> None:
    train, images, network = trunks(60, seed=1).images, trunks(20, seed=2).images, toy_bundle.discriminator
    patients = [str(n) for n in range(60)]
    both = place_map(images, network, measure_places(train, patients, network), "cpu")
    assert both.shape == (20, 16, 16)
    alone = []
    for side in (16, 8):
        monkeypatch.setattr(module, "SIDES", (side,))
        alone.append(place_map(images, network, measure_places(train, patients, network), "cpu"))
    spread = np.kron(alone[1], np.ones((1, 2, 2)))
    np.testing.assert_allclose(both, np.sqrt((alone[0] ** 2 + spread**2) / 2), rtol=1e-4)


def test_wide_networks_are_looked_at_in_part(toy_bundle, monkeypatch) -> None:
    train, network = trunks(40, seed=1).images, toy_bundle.discriminator
    monkeypatch.setattr(module, "MOST_NUMBERS", 3 * 3 * 64)
    fine, coarse = measure_places(train, [str(n) for n in range(40)], network)
    assert fine.whiten.shape == (16, 16, 1, 1)
    assert coarse.whiten.shape == (8, 8, 3, 3)
    assert np.isfinite(place_map(train, network, (fine, coarse), "cpu")).all()


def test_a_spot_is_found_where_it_is(toy_bundle) -> None:
    train, images, network = trunks(200, seed=1).images, trunks(6, seed=2).images.copy(), toy_bundle.discriminator
    statistics = measure_places(train, [str(n) for n in range(200)], network)
    before = place_map(images, network, statistics, "cpu")
    images[:, :, 18:22, 10:14] = 1.0
    after = place_map(images, network, statistics, "cpu")
    rise = (after - before).mean(axis=0)
    row, column = np.unravel_index(rise.argmax(), rise.shape)
    assert abs(row - 9.5) <= 1.5
    assert abs(column - 5.5) <= 1.5


def test_a_bundle_keeps_them_to_the_last_digit(toy_bundle) -> None:
    again = load_bundle(toy_bundle.info.folder)
    for mine, theirs in zip(toy_bundle.feature_statistics.places, again.feature_statistics.places, strict=True):
        torch.testing.assert_close(mine.mean, theirs.mean, rtol=0, atol=0)
        torch.testing.assert_close(mine.whiten, theirs.whiten, rtol=0, atol=0)
    assert [len(one.whiten) for one in again.feature_statistics.places] == [16, 8]


def test_a_model_that_does_not_know_them_gives_nan_and_no_score(toy_bundle) -> None:
    for model in (
        replace(toy_bundle, discriminator=None),
        replace(toy_bundle, feature_statistics=replace(toy_bundle.feature_statistics, places=())),
        replace(toy_bundle, feature_statistics=None),
    ):
        found = score_images(model, trunks(2), QUICK)
        assert np.isnan(found.reconstruction.feature_map).all()
        assert "feature_patch" not in found.per_image
    assert "feature_patch" in score_images(toy_bundle, trunks(2), QUICK).per_image


def test_what_overflows_is_an_error_not_an_absent_score(toy_bundle) -> None:
    images = np.full((2, 1, 32, 32), np.float32(3e38))
    with pytest.raises(AnomapError, match="E501"):
        place_map(images, toy_bundle.discriminator, toy_bundle.feature_statistics.places, "cpu")
