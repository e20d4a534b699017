"""How far each place of an image is from the same place of the training images, in the discriminator's features.

After PaDiM (Defard et al. 2021, arXiv 2011.08785): one Gaussian a place. Theirs are of a network that learned from
photographs and need features from it; here the discriminator gives them, which knows the very kind of image. As the
feature distance of whole images it needs no projection, and unlike that it shows where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from anomap.networks.stylegan2 import Discriminator
from anomap.projection.parts import in_parts, parts
from anomap.types import Float32

SIDES = (16, 8)  # places along a side: a sixteenth is the window of the paper, an eighth that of the small models
RIDGE = 0.05  # of the features' variance, which is 1
PRIOR_PATIENTS = 8  # so many patients' worth the covariance of all places counts beside that of one
MOST_NUMBERS = 2**20  # in the covariances of one side: bounds the size of a bundle with wide networks


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceStatistics:
    """Features of the training images at each place of a square grid. No single image can be told from it.

    Attributes:
        mean: ``[C, S, S]``.
        whiten: ``[S, S, C, C]``; ``|(features - mean) @ whiten|^2 / C`` averages 1, less what the ridge takes.
    """

    mean: Tensor
    whiten: Tensor

    @property
    def side(self) -> int:
        """S."""
        return self.mean.shape[-1]

    def squares(self, features: Tensor, expected: Tensor | None = None) -> Tensor:
        """Squared Mahalanobis distance per channel of ``[N, C', S, S]``, ``[N, S, S]``; channels from C on are left.

        Args:
            features: Of N images.
            expected: What they should be, of the same shape; None: the mean of the training images.
        """
        usual = self.mean if expected is None else expected[:, : len(self.mean)]
        centred = features[:, : len(self.mean)] - usual
        return torch.einsum("nchw,hwcd->nhwd", centred, self.whiten).square().mean(dim=3)


def measure_places(
    images: Float32, patients: Sequence[str], discriminator: Discriminator, device: str = "cpu"
) -> tuple[PlaceStatistics, ...]:
    """Statistics of the training images ``(M, C, H, W)`` on the grids of `SIDES` that the network has.

    Each patient counts the same. The covariance of a place is drawn to that of all places, the more the fewer patients
    there are; `RIDGE` is added to the variance of every direction.

    Args:
        images: Training images.
        patients: Whose each is.
        discriminator: Frozen, on `device`.
        device: Torch device.
    """
    count = Counter(patients)
    weights = torch.tensor([1 / count[name] / len(count) for name in patients], dtype=torch.float64, device=device)
    sums: dict[int, tuple[Tensor, Tensor]] = {}
    for rows in parts(images):
        for side, maps in grids(discriminator, torch.from_numpy(images[rows]).to(device)).items():
            if side not in SIDES:
                continue
            values = maps[:, : _channels(maps)].double().permute(2, 3, 0, 1)  # [S, S, N, C]
            weighted = values * weights[rows, None]
            mean, products = weighted.sum(dim=2), weighted.transpose(2, 3) @ values
            if side in sums:
                mean, products = mean + sums[side][0], products + sums[side][1]
            sums[side] = mean, products
    return tuple(_statistics(mean, products, len(count)) for mean, products in sums.values())


def place_map(
    images: Float32, discriminator: Discriminator | None, statistics: tuple[PlaceStatistics, ...], device: str
) -> Float32:
    """Distance of every place from that of the training images, in standard deviations, ``(N, S, S)``.

    The finest grid's S; of several grids the root of the mean square.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        discriminator: On `device`.
        statistics: On `device`; without them, or without the discriminator, the result is NaN, ``(N, 1, 1)``.
        device: Torch device.
    """
    if discriminator is None or not statistics or not len(images):
        return np.full((len(images), 1, 1), np.nan, np.float32)
    found = in_parts((images,), device, lambda part: distances(grids(discriminator, part), statistics))
    return found.astype(np.float32)


def distances(
    features: Mapping[int, Tensor],
    statistics: tuple[PlaceStatistics, ...],
    expected: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Distance of every place in standard deviations, ``[N, S, S]`` of the finest grid known.

    Args:
        features: From `grids`.
        statistics: Of the grids that count; of several the root of the mean square is taken.
        expected: What the features should be, alike; None: the means of the training images.
    """
    side = max(known.side for known in statistics)
    total = torch.zeros(())
    for known in statistics:
        times = side // known.side
        squares = known.squares(features[known.side], None if expected is None else expected[known.side])
        total = total.to(squares) + squares.repeat_interleave(times, 1).repeat_interleave(times, 2)
    return (total / len(statistics)).sqrt()


@torch.no_grad()
def grids(discriminator: Discriminator, images: Tensor) -> dict[int, Tensor]:
    """Features ``[N, C, S, S]`` of all blocks by the number S of places along a side, the finest first."""
    return {maps.shape[-1]: maps for maps in discriminator.features(images)}


def _channels(maps: Tensor) -> int:
    """How many channels are looked at: the first ones, which are no other than the rest."""
    return min(maps.shape[1], isqrt(MOST_NUMBERS // maps.shape[-1] ** 2))


def _statistics(mean: Tensor, products: Tensor, patients: int) -> PlaceStatistics:
    """From the weighted sums ``[S, S, C]`` and ``[S, S, C, C]``, the weights adding up to 1."""
    covariance = products - mean[..., :, None] * mean[..., None, :]
    spread = covariance.diagonal(dim1=2, dim2=3).mean(dim=(0, 1)).clamp(min=1e-12).sqrt()  # [C]
    covariance /= spread[:, None] * spread
    of_all = covariance.mean(dim=(0, 1))
    drawn = (patients * covariance + PRIOR_PATIENTS * of_all) / (patients + PRIOR_PATIENTS)
    drawn += RIDGE * torch.eye(len(spread), dtype=drawn.dtype, device=drawn.device)
    whiten = torch.linalg.cholesky(torch.linalg.inv(drawn)) / spread[:, None]
    return PlaceStatistics(mean=mean.permute(2, 0, 1).float(), whiten=whiten.half().float())
