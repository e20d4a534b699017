"""The plain opponents: scores that need no generator.

A mean picture and a grey-level histogram separate much of what gross anomalies do to an image (Meissen et al. 2021,
Vasiliuk et al. 2023). They are always reported beside the generator's scores, because what does not beat them
is not worth its time. Both see exactly the prepared pixels the generator sees, in the same units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomap.errors import AnomapError
from anomap.scoring import quantise
from anomap.types import Float64, Prepared, PreprocessSpec

BASELINES = ("mean_image_mse", "train_histogram_wd", "mean_intensity", "pca_mse")
COMPONENTS = 64  # of the PCA: as many numbers as a rich linear model of 64 x 64 pixels needs; fewer with fewer images


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """What training images have in common.

    Attributes:
        mean: ``(H, W)`` mean picture in [-1, 1]; -1 where no training image was valid.
        distribution: ``(levels,)`` cumulative share of the grey levels; every training image counts the same.
        axes: ``(H W, F)`` principal components of the images about `mean`.
        spec: Preprocessing of the images; others can't be compared.
    """

    mean: Float64
    distribution: Float64
    axes: Float64
    spec: PreprocessSpec


def fit_baselines(train: Prepared, levels: int = 256) -> Baselines:
    """Average pictures and histograms of the training images over their valid pixels.

    Args:
        train: At least one image with valid pixels.
        levels: Grey levels over [-1, 1].

    Raises:
        AnomapError: E200 when there are no images, E108 when one has no valid pixel.
    """
    if not len(train.images):
        raise AnomapError("E200", "baselines need training images")
    valid = train.valid[:, 0]
    total = np.where(valid, train.images[:, 0], 0.0).sum(axis=0, dtype=np.float64)
    count = valid.sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), -1.0)
    centred = _centred(train, mean)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # An image less than the number of images: what all of them together span, a linear model merely copies.
    return Baselines(
        mean=mean,
        axes=axes[: max(0, min(COMPONENTS, len(centred) - 1))].T,
        distribution=_distributions(train, levels).mean(axis=0),
        spec=train.spec,
    )


def baseline_scores(baselines: Baselines, prepared: Prepared) -> dict[str, Float64]:
    """Score images: higher is odder.

    Args:
        baselines: Fitted on training images of the same preprocessing.
        prepared: N images.

    Returns:
        name -> ``(N,)``: "mean_image_mse", mean squared difference from the mean picture; "pca_mse", the same from the
        nearest picture of a linear model (both in squared score units); "train_histogram_wd", Wasserstein-1 distance of
        the grey levels from those of the training set; "mean_intensity", how far the mean grey value is from theirs
        (both in score units).

    Raises:
        AnomapError: E200 when the preprocessing differs, E108 when an image has no valid pixel.
    """
    if prepared.spec != baselines.spec:
        raise AnomapError("E200", "baselines were fitted on images of another preprocessing")
    levels = len(baselines.distribution)
    distributions = _distributions(prepared, levels)
    apart = np.abs(distributions - baselines.distribution).sum(axis=1)
    pixels = prepared.valid.sum(axis=(1, 2, 3))
    centred = _centred(prepared, baselines.mean)
    left = np.where(prepared.valid.reshape(centred.shape), centred - centred @ baselines.axes @ baselines.axes.T, 0.0)
    level = np.arange(levels)
    grey = np.diff(distributions, prepend=0) @ level
    usual = np.diff(baselines.distribution, prepend=0) @ level
    unit = prepared.spec.score_range / 2  # score units per model unit: the model's range [-1, 1] is 2 wide
    return {
        "mean_image_mse": np.square(centred).sum(axis=1) / pixels * unit**2,
        "train_histogram_wd": apart * prepared.spec.score_range / (levels - 1),
        "mean_intensity": np.abs(grey - usual) * prepared.spec.score_range / (levels - 1),
        "pca_mse": np.square(left).sum(axis=1) / pixels * unit**2,
    }


def _centred(prepared: Prepared, mean: Float64) -> Float64:
    """``(N, H W)`` differences from the mean picture; nothing differs where an image is not valid."""
    difference = np.where(prepared.valid[:, 0], prepared.images[:, 0] - mean, 0.0)
    return difference.reshape(len(difference), -1)


def _distributions(prepared: Prepared, levels: int) -> Float64:
    """``(N, levels)`` cumulative share of the grey levels of every image's valid pixels."""
    grey = quantise(prepared.images[:, 0], levels)
    counts = np.stack(
        [np.bincount(image[inside], minlength=levels) for image, inside in zip(grey, prepared.valid[:, 0], strict=True)]
    )
    pixels = counts.sum(axis=1, keepdims=True)
    if (pixels == 0).any():
        raise AnomapError("E108", "an image has no valid pixel to compare")
    result: Float64 = counts.cumsum(axis=1) / pixels
    return result
