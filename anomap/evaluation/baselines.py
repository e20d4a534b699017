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

BASELINES = ("mean_image_mse", "train_histogram_wd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """What training images have in common.

    Attributes:
        mean: ``(H, W)`` mean picture in [-1, 1]; -1 where no training image was valid.
        distribution: ``(levels,)`` cumulative share of the grey levels; every training image counts the same.
        spec: Preprocessing of the images; others can't be compared.
    """

    mean: Float64
    distribution: Float64
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
    return Baselines(
        mean=np.where(count > 0, total / np.maximum(count, 1), -1.0),
        distribution=_distributions(train, levels).mean(axis=0),
        spec=train.spec,
    )


def baseline_scores(baselines: Baselines, prepared: Prepared) -> dict[str, Float64]:
    """Score images: higher is odder.

    Args:
        baselines: Fitted on training images of the same preprocessing.
        prepared: N images.

    Returns:
        name -> ``(N,)``: "mean_image_mse", mean squared difference from the mean picture (squared score units), and
        "train_histogram_wd", Wasserstein-1 distance of the grey levels from those of the training set (score units).

    Raises:
        AnomapError: E200 when the preprocessing differs, E108 when an image has no valid pixel.
    """
    if prepared.spec != baselines.spec:
        raise AnomapError("E200", "baselines were fitted on images of another preprocessing")
    levels = len(baselines.distribution)
    apart = np.abs(_distributions(prepared, levels) - baselines.distribution).sum(axis=1)
    valid = prepared.valid[:, 0]
    squared = np.where(valid, np.square(prepared.images[:, 0] - baselines.mean), 0.0).sum(axis=(1, 2))
    unit = prepared.spec.score_range / 2  # score units per model unit: the model's range [-1, 1] is 2 wide
    return {
        "mean_image_mse": squared / valid.sum(axis=(1, 2)) * unit**2,
        "train_histogram_wd": apart * prepared.spec.score_range / (levels - 1),
    }


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
