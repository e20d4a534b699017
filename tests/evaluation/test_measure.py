from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import zscore

from anomap.calibration import COMBINED
from anomap.evaluation.features import FEATURE_KNN
from anomap.evaluation.measure import ALL_SCORES, MAPS, OPPONENTS, Ruler, fit_ruler
from anomap.evaluation.more import MORE
from anomap.evaluation.scores import score_on_model_grid
from anomap.scoring import SCORES, SERIES_SCORES
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK


@pytest.fixture(scope="module")
def fitted(toy_bundle):
    return fit_ruler(toy_bundle, image_set(trunks(12, seed=1)), image_set(trunks(10, seed=2), images_each=2), QUICK)


def test_every_score_has_a_unit_a_direction_and_a_place(fitted) -> None:
    _, normal = fitted
    assert list(ALL_SCORES) == [*SCORES, COMBINED, *MORE, *OPPONENTS]
    assert all(score.unit and score.direction == "higher" and score.description for score in ALL_SCORES.values())
    assert set(normal.scores) == set(ALL_SCORES) - {"wd_patch_seeds", "seed_spread", *SERIES_SCORES}
    assert all(np.isfinite(values).all() and values.shape == (10,) for values in normal.scores.values())


def test_the_normal_images_standardise_the_combined_score(fitted, toy_bundle) -> None:
    _, normal = fitted
    by_hand = np.max([zscore(normal.scores[name]) for name in toy_bundle.cohort.combines], axis=0)
    np.testing.assert_allclose(normal.scores[COMBINED], by_hand)


def test_measuring_the_normal_images_again_gives_the_same(fitted) -> None:
    ruler, normal = fitted
    again = ruler.measure(normal.images)
    for name, values in normal.scores.items():
        np.testing.assert_allclose(again.scores[name], values, rtol=1e-6, err_msg=name)


def test_maps_are_those_of_the_scoring_on_the_models_pixels(fitted, toy_bundle) -> None:
    ruler, normal = fitted
    fit = normal.found.reconstruction
    maps = ruler.maps(normal.images, fit, ruler.scored(normal.images, fit))
    assert set(maps) == set(MAPS) - {"neighbours"}
    assert {values.shape for values in maps.values()} == {(10, 32, 32)}
    dense = score_on_model_grid(toy_bundle, normal.images.prepared, fit).maps
    np.testing.assert_array_equal(maps["wd"], dense["wd"])
    residual = np.abs(dense["residual"])
    np.testing.assert_allclose(maps["residual"], residual, atol=1e-3)
    difference = np.abs(normal.images.images[:, 0] - ruler.baselines.mean) * 127.5
    np.testing.assert_allclose(maps["mean_image"], difference, atol=1e-3)


def test_a_bundle_without_discriminator_and_a_single_patient_lose_some_scores(toy_bundle) -> None:
    bundle = replace(toy_bundle, discriminator=None)
    lone = image_set(trunks(4), images_each=4)
    ruler, normal = fit_ruler(bundle, image_set(trunks(5, seed=1)), lone, QUICK)
    assert isinstance(ruler, Ruler)
    assert not {FEATURE_KNN, "feature_residual", "residual_z"} & set(normal.scores)
    fit = normal.found.reconstruction
    assert not {"residual_z", "feature"} & set(ruler.maps(lone, fit, ruler.scored(lone, fit)))
