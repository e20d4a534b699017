"""The training cloud in W: where the latent vectors of the training images' like lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anomap.networks.stylegan2 import Generator

W_SAMPLES = 10_000  # statistics of W, as the reference
W_SEED = 123  # ditto


@dataclass(frozen=True, slots=True, kw_only=True)
class WStatistics:
    """The training cloud in W.

    Attributes:
        mean: ``[D]``.
        spread: Root of the mean squared distance from the mean.
        whiten: ``[D, D]``; ``|(w - mean) @ whiten|^2 / D`` averages 1 over the cloud.
    """

    mean: Tensor
    spread: float
    whiten: Tensor

    def distance(self, w: Tensor) -> Tensor:
        """Mahalanobis distance of ``[N, D]`` per sqrt(D), ``[N]``."""
        return ((w - self.mean) @ self.whiten).square().mean(dim=1).clamp_min(1e-12).sqrt()


@torch.no_grad()
def measure_w(generator: Generator, samples: int = W_SAMPLES, seed: int = W_SEED) -> WStatistics:
    """Mean, spread and whitening of W from random latents.

    Directions with less than 1 % of the mean variance count as if they had that much: W is nearly flat in
    many directions, and dividing by almost nothing would make the distance a measure of rounding.
    """
    z = np.random.RandomState(seed).randn(samples, generator.config.z_dim)
    device = next(generator.parameters()).device
    w = generator.mapping(torch.from_numpy(z).float().to(device)).double()  # [S, D]
    mean = w.mean(dim=0)
    centred = w - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / samples)
    variance = variance.clamp_min(0.01 * float(variance.mean()))
    whiten = axes / variance.sqrt()
    whiten = whiten / (centred @ whiten).square().mean().sqrt()
    return WStatistics(
        mean=mean.float(), spread=float(centred.square().sum(dim=1).mean().sqrt()), whiten=whiten.float()
    )
