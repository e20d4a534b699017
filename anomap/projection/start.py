"""Where the search begins: the first w of every image."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from anomap.networks.stylegan2 import Generator
from anomap.projection.cloud import W_SEED
from anomap.projection.model import Model
from anomap.projection.schedule import ProjectionConfig
from anomap.types import Float32

LIBRARY_SIZE = 4096
_AT_ONCE = 64  # images or samples


@torch.no_grad()
def first_w(images: Float32, model: Model, config: ProjectionConfig, device: str) -> Tensor:
    """First w of N images.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        model: Networks on `device`.
        config: Says where to begin.
        device: Torch device.

    Returns:
        ``[N, D]`` on `device`; the mean of W where an encoder is wanted and the bundle, as an imported one, has none.
    """
    if config.start == "mean" or (config.start == "encoder" and model.encoder is None):
        return model.w_statistics.mean.expand(len(images), -1).clone()
    parts = torch.split(torch.from_numpy(images), _AT_ONCE)
    if config.start == "library":
        return _nearest_samples(parts, model.generator, device)
    assert model.encoder is not None  # noqa: S101 (see above)
    return torch.cat([model.encoder(part.to(device)) for part in parts])


def _nearest_samples(targets: tuple[Tensor, ...], generator: Generator, device: str) -> Tensor:
    """The w of the random sample whose picture is nearest in pixels; every sample is drawn once for all images."""
    z = np.random.RandomState(W_SEED).randn(LIBRARY_SIZE, generator.config.z_dim)
    best = [torch.full((len(part),), math.inf, device=device) for part in targets]
    chosen = [torch.zeros(len(part), generator.config.w_dim, device=device) for part in targets]
    for samples in np.split(z, LIBRARY_SIZE // _AT_ONCE):
        w = generator.mapping(torch.from_numpy(samples).float().to(device))
        pictures = generator.synthesis(w, "const").flatten(1)
        for number, part in enumerate(targets):
            gap, index = torch.cdist(part.to(device).flatten(1), pictures).min(dim=1)
            nearer = gap < best[number]
            chosen[number][nearer] = w[index[nearer]]
            best[number] = torch.minimum(best[number], gap)
    return torch.cat(chosen)
