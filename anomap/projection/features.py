"""How far an image is from its reconstruction for the model's own discriminator (after f-AnoGAN, Schlegl 2019)."""

from __future__ import annotations

import numpy as np
import torch

from anomap.networks.stylegan2 import Discriminator
from anomap.projection.losses import discriminator_features, distance
from anomap.types import Bool, Float32, Float64

_AT_ONCE = 64


@torch.no_grad()
def feature_distance(
    images: Float32, other: Float32, valid: Bool, discriminator: Discriminator | None, device: str
) -> Float64:
    """Distance in the discriminator's features, that of the projection's loss "discriminator", ``(N,)``.

    Pixels say by how much two pictures differ, these features also whether a difference matters to a network that
    learned to tell real images of the kind. Unit vectors along channels are compared: between 0 and 4 a block.

    Args:
        images: ``(N, 1, H, W)`` in [-1, 1].
        other: Their reconstructions.
        valid: Where images hold data.
        discriminator: On `device`; without one everything is NaN.
        device: Torch device.
    """
    if discriminator is None:
        return np.full(len(images), np.nan)
    features = discriminator_features(discriminator)
    parts = [np.zeros(0)]
    for start in range(0, len(images), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        image, picture, data = (torch.from_numpy(values[rows]).to(device) for values in (images, other, valid))
        parts.append(distance(features, picture, image, data).double().cpu().numpy())
    return np.concatenate(parts)
