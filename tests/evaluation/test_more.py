from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from anomap.errors import AnomapError
from anomap.evaluation.more import (
    MORE,
    absolute_residual,
    contrast_map,
    fit_residuals,
    local_mean,
    more_scores,
    seed_scores,
)
from anomap.evaluation.scores import score_images
from anomap.types import Reconstruction
from tests.evaluation.pictures import trunks
from tests.evaluation.test_scores import QUICK


def made(images: np.ndarray) -> Reconstruction:
    count = len(images)
    return Reconstruction(
        images=images.astype(np.float32),
        w=np.zeros((count, 4), np.float32),
        loss=np.zeros(count),
        prior_distance=np.ones(count),
        feature_residual=np.full(count, np.nan),
        feature_distance=np.full(count, np.nan),
        feature_map=np.full((count, 1, 1), np.nan, np.float32),
        steps=0,
        converged=np.ones(count, bool),
        seeds=np.zeros(count, np.int64),
    )


def test_the_contrast_term_is_that_of_ssim_where_nothing_else_differs() -> None:
    # One wave of half the height of the other, both far above zero: luminance and structure terms of SSIM are 1.
    wave = 0.7 * np.sign(np.indices((32, 32)).sum(axis=0) % 2 - 0.5)
    one, other = 5 + wave, 5 + wave / 2
    settings = {"win_size": 7, "data_range": 2, "use_sample_covariance": False, "full": True}
    _, full = structural_similarity(one, other, **settings)
    found = 1 - contrast_map(one[None].astype(np.float32), other[None].astype(np.float32), 7)[0]
    inside = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(found[inside], full[inside], rtol=1e-3)


def test_contrast_is_alike_for_shifted_grey_levels_and_lost_for_a_flat_reconstruction() -> None:
    images = trunks(2).images[:, 0] * 0.5
    np.testing.assert_allclose(contrast_map(images, images + 0.3, 5), 0, atol=1e-5)
    np.testing.assert_allclose(contrast_map(images, -images, 5), 0, atol=1e-5)
    noise = np.random.default_rng(0).normal(0, 0.5, (1, 16, 16)).astype(np.float32)
    assert contrast_map(noise, np.zeros_like(noise), 5).min() > 0.9


def test_a_local_mean_is_that_of_the_window() -> None:
    values = np.random.default_rng(0).normal(size=(2, 9, 9))
    assert local_mean(values, 3)[1, 4, 5] == pytest.approx(values[1, 3:6, 4:7].mean())
    assert local_mean(values, 3)[0, 0, 0] == pytest.approx(np.pad(values[0], 1, mode="reflect")[:3, :3].mean())


def test_the_residual_is_in_score_units_and_zero_in_padding() -> None:
    images = trunks(1)
    valid = images.valid.copy()
    valid[:, :, :3] = False
    images = replace(images, valid=valid, body=images.body & valid)
    found = absolute_residual(images, made(images.images - 0.1))
    assert found[0, 10, 10] == pytest.approx(0.1 * 127.5, rel=1e-5)
    assert not found[0, :3].any()


def test_deviations_come_from_the_other_half_of_the_patients() -> None:
    images = trunks(40)
    patients = tuple(f"p{n // 2}" for n in range(40))
    noise = np.random.default_rng(0).normal(0, 0.2, images.images.shape)
    fit = made(np.clip(images.images + noise, -1, 1))
    cohort = fit_residuals(images, fit, patients, 4)
    smooth = local_mean(absolute_residual(images, fit), 4)
    z = cohort.z_map(images, fit, patients)
    for n in (0, 7, 33):
        half = next(part for part in cohort.patients if patients[n] not in part)
        rows = [k for k in range(40) if patients[k] in half]
        spread = smooth[rows].std(axis=0)
        spread = np.maximum(spread, np.median(spread) / 2)
        np.testing.assert_allclose(z[n], (smooth[n] - smooth[rows].mean(axis=0)) / spread, rtol=1e-9)
    assert np.abs(np.median(z)) < 0.3
    assert cohort.patients[0] | cohort.patients[1] == set(patients)
    stranger = cohort.z_map(images, fit, ("somebody else",) * 40)
    assert any(np.array_equal(stranger[0], cohort.z_map(images, fit, (own,) * 40)[0]) for own in ("p0", "p1", "p2"))


def test_one_patient_makes_no_cohort() -> None:
    images = trunks(3)
    assert fit_residuals(images, made(images.images), ("p",) * 3, 4) is None


def test_a_spot_that_the_reconstruction_lacks_stands_out(toy_bundle) -> None:
    normal = trunks(20)
    patients = tuple(normal.frame_ids)
    noise = np.random.default_rng(0).normal(0, 0.1, normal.images.shape)
    fit = made(np.clip(normal.images + noise, -1, 1))
    cohort = fit_residuals(normal, fit, patients, toy_bundle.info.window)
    marked = normal.images.copy()
    marked[:, 0, 14:18, 14:18] = 1.0
    scores = [more_scores(toy_bundle, part, fit, cohort, patients) for part in (normal, replace(normal, images=marked))]
    assert set(scores[0]) == set(MORE) - {"wd_patch_seeds", "seed_spread"}
    assert (scores[1]["residual_z"] > scores[0]["residual_z"].max()).all()
    without = more_scores(replace(toy_bundle, discriminator=None), normal, fit, None, patients)
    assert set(without) == {"ssim_contrast"}


def test_seeds_differ_and_their_mean_and_spread_are_told(toy_bundle, tmp_path) -> None:
    images = trunks(2)
    found, windows = seed_scores(toy_bundle, images, QUICK, 3, None)
    noisy = replace(QUICK, w_noise=0.05)
    each = [
        score_images(
            toy_bundle, replace(images, frame_ids=tuple(f"{name}#seed{k}" for name in images.frame_ids)), noisy
        )
        for k in range(3)
    ]
    rows = [scores.per_image["wd_patch"] for scores in each]
    np.testing.assert_array_equal(windows, np.stack([scores.top_window for scores in each]))
    np.testing.assert_allclose(found["wd_patch_seeds"], np.mean(rows, axis=0))
    np.testing.assert_allclose(found["seed_spread"], np.std(rows, axis=0, ddof=1))
    assert (found["seed_spread"] > 0).all()
    with pytest.raises(AnomapError, match="E200"):
        seed_scores(toy_bundle, images, QUICK, 1, None)
