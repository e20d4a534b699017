"""What the model's own discriminator says of an image, beside all that a projection shows.

Its blocks have learned what tells real images of the kind from others. Two questions are put to them: how far is an
image from its reconstruction (after f-AnoGAN, Schlegl 2019), and how far from the training images (Mahalanobis distance
of pooled features, as Lee et al. 2018, arXiv 1807.03888, and Woodland et al. 2023, arXiv 2308.03723, take it from
networks made for other tasks). The second needs no projection: it is the second opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anomap.networks.stylegan2 import Discriminator
from anomap.projection.losses import discriminator_features, distance
from anomap.projection.parts import in_parts
from anomap.projection.places import PlaceStatistics, measure_places
from anomap.types import Bool, Float32, Float64

RIDGE = 0.01  # of the features' variance, which is 1: directions in which training images hardly differ would rule
MOST_AXES = 1024  # bounds the size of a bundle with wide networks


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureStatistics:
    """Where the training images lie among the discriminator's features. No single image can be told from it.

    Attributes:
        mean: ``[F]``.
        whiten: ``[F, A]``; ``|(features - mean) @ whiten|^2 / A`` averages about 1 over the training images.
        places: The same for every place of some grids; bundles of earlier versions have none.
    """

    mean: Tensor
    whiten: Tensor
    places: tuple[PlaceStatistics, ...] = ()

    def distance(self, features: Tensor) -> Tensor:
        """Mahalanobis distance of ``[N, F]`` per sqrt(A), ``[N]``."""
        return ((features - self.mean) @ self.whiten).square().mean(dim=1).sqrt()


def measure_features(
    images: Float32, discriminator: Discriminator, patients: Sequence[str] = (), device: str = "cpu"
) -> FeatureStatistics:
    """Statistics of the training images ``(M, C, H, W)``.

    Each feature counts by its own spread; `RIDGE` is added to the variance of every direction.

    Args:
        images: Training images.
        discriminator: Frozen, on `device`.
        patients: Whose each is, for `measure_places`; empty: of as many patients.
        device: Torch device.
    """
    features = pooled_features(images, discriminator, device)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    standard = (features - mean) / spread
    variance, axes = np.linalg.eigh(standard.T @ standard / len(standard) + RIDGE * np.eye(len(mean)))
    chosen = slice(None, -MOST_AXES - 1, -1)  # largest variance first
    whiten = axes[:, chosen] / np.sqrt(variance[chosen]) / spread[:, None]
    return FeatureStatistics(
        mean=torch.from_numpy(mean).float(),
        whiten=torch.from_numpy(whiten).float(),
        places=measure_places(images, patients or [str(n) for n in range(len(images))], discriminator, device),
    )


def feature_distance(
    images: Float32, discriminator: Discriminator | None, statistics: FeatureStatistics | None, device: str
) -> Float64:
    """Distance of images from the training images in features, in standard deviations, ``(N,)``.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        discriminator: On `device`.
        statistics: On `device`; without them, or without the discriminator, everything is NaN.
        device: Torch device.
    """
    if discriminator is None or statistics is None:
        return np.full(len(images), np.nan)
    return in_parts((images,), device, lambda part: statistics.distance(_pooled(discriminator, part)))


def pooled_features(images: Float32, discriminator: Discriminator, device: str) -> Float64:
    """``(N, F)`` means over positions of all blocks' outputs, then their standard deviations.

    The deviations see what is small and strong, as needles are, where means drown it.
    """
    return in_parts((images,), device, lambda part: _pooled(discriminator, part))


def feature_residual(
    images: Float32, other: Float32, valid: Bool, discriminator: Discriminator | None, device: str
) -> Float64:
    """Distance of images and reconstructions in features, that of the projection's loss "discriminator", ``(N,)``.

    Pixels say by how much two pictures differ, these features also whether a difference matters to a network that
    learned to tell real images of the kind. Unit vectors along channels are compared: between 0 and 4 a block.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        other: Their reconstructions.
        valid: Where images hold data.
        discriminator: On `device`; without one everything is NaN.
        device: Torch device.
    """
    if discriminator is None:
        return np.full(len(images), np.nan)
    features = discriminator_features(discriminator)
    return in_parts((images, other, valid), device, lambda a, b, data: distance(features, b, a, data))


def _pooled(discriminator: Discriminator, images: Tensor) -> Tensor:
    maps = discriminator.features(images)
    means, deviations = ([pool(values, dim=(2, 3)) for values in maps] for pool in (torch.mean, torch.std))
    return torch.cat([*means, *deviations], dim=1)
