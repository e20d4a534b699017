"""Slices among the slices beside them: which these are, numpy by hand, and None where there is nothing to compare."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from anomap.bundle import load_bundle
from anomap.errors import AnomapError
from anomap.projection.neighbours import beside, neighbour_map, place_features, series_neighbours
from tests.evaluation.pictures import trunks


@pytest.fixture(scope="module")
def bundle(toy_models):
    return load_bundle(toy_models / "toy-ct")


def slices(count, seed=1):
    """The same trunk everywhere: nothing changes from slice to slice."""
    one = trunks(1, seed=seed, kind="ct", fit="body")
    return replace(
        one,
        **{name: np.repeat(getattr(one, name), count, axis=0) for name in ("images", "valid", "body", "to_source")},
        gain=np.ones(count),
        offset=np.zeros(count),
        frame=np.arange(count),
        frame_ids=tuple(f"s{n}" for n in range(count)),
    )


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([0, 3, 6, 9, 12], [[-1, 2], [-1, 3], [0, 4], [1, -1], [2, -1]]),  # 3 mm is too near, 6 mm is not
        ([0, 8, 16], [[-1, 1], [0, 2], [1, -1]]),
        ([16, 8, 0], [[1, -1], [2, 0], [-1, 1]]),  # the other way round
        ([0, 25, 51], [[-1, 1], [0, -1], [-1, -1]]),  # 26 mm is too far
        ([0, 5.0 - 1e-4], [[-1, 1], [0, -1]]),  # what headers round
        ([0, 1, 2], [[-1, -1]] * 3),
        ([float("nan"), 0, 5], [[-1, -1], [-1, 2], [1, -1]]),
        ([7], [[-1, -1]]),
    ],
)
def test_neighbours_are_the_nearest_on_either_side_but_not_too_near(positions, expected) -> None:
    places = np.array(positions, np.float64)
    assert beside(places, places).tolist() == expected


def test_of_equally_near_slices_the_first_is_taken_and_without_any_there_is_none() -> None:
    assert beside(np.array([0.0]), np.array([6.0, 6.0, -6.0, -6.0])).tolist() == [[2, 0]]
    assert beside(np.array([0.0]), np.array([])).tolist() == [[-1, -1]]


def test_the_distance_is_from_the_mean_of_the_neighbours_by_hand(bundle) -> None:
    known, network = bundle.feature_statistics.places, bundle.discriminator
    images = trunks(3, seed=4).images
    features = place_features(images, network, known, "cpu")
    rows = np.array([[-1, 1], [0, 2], [-1, -1]])
    found = neighbour_map(features, features, rows, known, "cpu")
    with torch.no_grad():
        maps = {m.shape[-1]: m.double().numpy() for m in network.features(torch.from_numpy(images))}
    for n, others in ((0, [1]), (1, [0, 2])):
        squares = []
        for one in known:
            channels = len(one.mean)
            apart = (maps[one.side][n] - maps[one.side][others].mean(axis=0))[:channels]
            whitened = np.einsum("cij,ijcd->ijd", apart, one.whiten.double().numpy())
            squares.append(np.kron((whitened**2).mean(axis=2), np.ones((16 // one.side, 16 // one.side))))
        np.testing.assert_allclose(found[n], np.sqrt(np.mean(squares, axis=0)), rtol=1e-3, atol=1e-5)
    assert np.isnan(found[2]).all()


def test_a_spot_in_one_slice_is_found_there_and_equal_slices_differ_by_nothing(bundle) -> None:
    series = slices(6)
    positions = np.arange(6) * 5.0
    quiet = series_neighbours(series, positions, bundle, "cpu")
    np.testing.assert_allclose(quiet, 0.0, atol=1e-5)
    images = series.images.copy()
    images[3, :, 18:22, 10:14] = 1.0
    found = series_neighbours(replace(series, images=images), positions, bundle, "cpu")
    assert found.shape == (6, 16, 16)
    assert found.max(axis=(1, 2)).argmax() == 3
    row, column = np.unravel_index(found[3].argmax(), (16, 16))
    assert abs(row - 9.5) <= 1.5
    assert abs(column - 5.5) <= 1.5
    np.testing.assert_allclose(found[[0, 1, 5]], 0.0, atol=1e-5)  # not their neighbour


def test_parts_of_many_images_are_joined_in_order(bundle, monkeypatch) -> None:
    images, known = trunks(5, seed=4).images, bundle.feature_statistics.places
    whole = place_features(images, bundle.discriminator, known, "cpu")
    monkeypatch.setattr("anomap.projection.parts._PIXELS", 2 * 32**2)
    for side, maps in place_features(images, bundle.discriminator, known, "cpu").items():
        torch.testing.assert_close(maps, whole[side], rtol=1e-4, atol=1e-5)


def test_without_neighbours_places_or_slices_there_is_no_map(bundle, toy_bundle) -> None:
    series, positions = slices(4), np.arange(4) * 5.0
    assert series_neighbours(series, positions, bundle, "cpu") is not None
    assert series_neighbours(series, np.arange(4) * 1.0, bundle, "cpu") is None
    assert series_neighbours(series, np.array([0.0, 5.0, 10.0, 90.0]), bundle, "cpu") is None, "one is alone"
    for model in (
        replace(bundle, discriminator=None),
        replace(bundle, feature_statistics=replace(bundle.feature_statistics, places=())),
        replace(bundle, feature_statistics=None),
    ):
        assert series_neighbours(series, positions, model, "cpu") is None
    assert series_neighbours(trunks(4), positions, toy_bundle, "cpu") is None, "radiographs are no slices"


def test_what_overflows_is_an_error_not_an_absent_score(bundle) -> None:
    known = bundle.feature_statistics.places
    features = place_features(np.full((2, 1, 32, 32), np.float32(3e38)), bundle.discriminator, known, "cpu")
    with pytest.raises(AnomapError, match="E501"):
        neighbour_map(features, features, np.array([[-1, 1], [0, -1]]), known, "cpu")
