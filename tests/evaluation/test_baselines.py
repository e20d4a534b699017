from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA

from anomap.errors import AnomapError
from anomap.evaluation.baselines import BASELINES, COMPONENTS, baseline_scores, fit_baselines
from anomap.evaluation.synthetic.acquisition import inverted
from anomap.types import Prepared
from tests.evaluation.pictures import trunks


def holes(prepared: Prepared) -> Prepared:
    """Some pixels of every image are padding."""
    valid = prepared.valid.copy()
    valid[:, :, :5] = False
    valid[::2, :, :, -3:] = False
    return replace(prepared, valid=valid)


@pytest.mark.parametrize("kind", ["radiograph", "ct"])
def test_scores_equal_plain_formulas_in_the_units_of_the_model(kind: str) -> None:
    train, test = holes(trunks(7, kind=kind)), holes(trunks(4, seed=1, kind=kind))
    scale = test.spec.score_range / 2
    pictures, valid = train.images[:, 0], train.valid[:, 0]
    mean = np.ma.masked_array(pictures, ~valid).mean(axis=0).filled(-1.0)

    def greys(image: np.ndarray) -> np.ndarray:
        return np.rint((image.astype(np.float64) + 1) * 127.5)

    # Every training image counts the same, however many pixels of it are valid.
    pooled = np.concatenate([greys(image[inside]) for image, inside in zip(pictures, valid, strict=True)])
    weight = np.concatenate([np.full(inside.sum(), 1 / inside.sum()) for inside in valid])
    found = baseline_scores(fit_baselines(train), test)
    for n, (image, inside) in enumerate(zip(test.images[:, 0], test.valid[:, 0], strict=True)):
        assert found["mean_image_mse"][n] == pytest.approx(np.square((image - mean)[inside] * scale).mean())
        apart = wasserstein_distance(greys(image[inside]), pooled, v_weights=weight)
        assert found["train_histogram_wd"][n] == pytest.approx(apart * test.spec.score_range / 255)
        usual = np.average(pooled, weights=weight)
        gap = abs(greys(image[inside]).mean() - usual)
        assert found["mean_intensity"][n] == pytest.approx(gap * test.spec.score_range / 255)


def test_the_linear_model_is_the_pca_of_sklearn() -> None:
    train, test = trunks(20), trunks(4, seed=1)
    pca = PCA(n_components=19).fit(train.images.reshape(20, -1).astype(np.float64))
    flat = test.images.reshape(4, -1).astype(np.float64)
    left = np.square(flat - pca.inverse_transform(pca.transform(flat))).mean(axis=1) * 127.5**2
    np.testing.assert_allclose(baseline_scores(fit_baselines(train), test)["pca_mse"], left, rtol=1e-6)
    assert fit_baselines(trunks(COMPONENTS + 9)).axes.shape == (32 * 32, COMPONENTS)
    one = baseline_scores(fit_baselines(trunks(1)), test)
    np.testing.assert_allclose(one["pca_mse"], one["mean_image_mse"])


def test_inverted_images_score_higher_than_others() -> None:
    test = trunks(10, seed=1)
    fitted = fit_baselines(trunks(20))
    for name in BASELINES:
        assert (baseline_scores(fitted, inverted(test))[name] > baseline_scores(fitted, test)[name].max()).all()


def test_images_do_not_influence_each_other() -> None:
    fitted, test = fit_baselines(trunks(5)), trunks(6, seed=3)
    together = baseline_scores(fitted, test)
    alone = baseline_scores(fitted, trunks(1, seed=3))
    for name in BASELINES:
        assert alone[name][0] == pytest.approx(together[name][0], rel=1e-9)


def test_other_preprocessing_and_images_without_pixels_are_refused() -> None:
    fitted = fit_baselines(trunks(3))
    with pytest.raises(AnomapError, match="another preprocessing"):
        baseline_scores(fitted, trunks(1, fit="pad"))
    nothing = replace(trunks(1), valid=np.zeros((1, 1, 32, 32), bool))
    with pytest.raises(AnomapError, match="E108"):
        baseline_scores(fitted, nothing)
    with pytest.raises(AnomapError, match="training images"):
        fit_baselines(replace_none())


def replace_none() -> Prepared:
    one = trunks(1)
    cut = {n: getattr(one, n)[:0] for n in ("images", "valid", "body", "frame", "to_source", "gain", "offset")}
    return replace(one, **cut, frame_ids=())
