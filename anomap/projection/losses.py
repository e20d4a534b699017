"""What "alike" means while an image is fitted. Every loss returns one number an image.

The reference compares VGG16 features with LPIPS weights, which we may not ship. ``pyramid`` compares pixels at
several scales; ``discriminator`` compares the residual blocks of the model's own discriminator (as f-AnoGAN
does), normalised like LPIPS; ``vgg`` takes the user's own TorchScript file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import Discriminator

Features = Callable[[Tensor], list[Tensor]]
VGG_SIDE = 256  # the reference shrinks larger images to this before the network


def pyramid_features(images: Tensor) -> list[Tensor]:
    """``[N, C, H, W]`` at full, half, quarter and eighth size, each scaled so that scales weigh the same."""
    maps = [images]
    for _ in range(3):
        maps.append(F.avg_pool2d(maps[-1], 2))
    return [m / (m[0].numel() * len(maps)) ** 0.5 for m in maps]


def discriminator_features(network: Discriminator) -> Features:
    """Residual block outputs, unit length along channels, averaged over positions (as LPIPS does).

    The blocks before the minibatch statistics only: an image's features never depend on its neighbours.
    """

    def features(images: Tensor) -> list[Tensor]:
        maps = network.features(images)
        return [F.normalize(m.float(), dim=1, eps=1e-8) / (m.shape[2] * m.shape[3]) ** 0.5 for m in maps]

    return features


def vgg_features(path: Path, device: str) -> Features:
    """The user's own TorchScript perceptual network, called as the reference does.

    Args:
        path: TorchScript file: ``f(images [N, 3, H, W] in 0..255, resize_images=False, return_lpips=True)``.
        device: Where to run it.

    Raises:
        AnomapError: E200 when the file can't be loaded.
    """
    try:
        network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise AnomapError("E200", f"loss file {path.name} is not a readable TorchScript file") from error

    def features(images: Tensor) -> list[Tensor]:
        grey = (images + 1) * 127.5
        if grey.shape[-1] > VGG_SIDE:
            grey = F.interpolate(grey, size=(VGG_SIDE, VGG_SIDE), mode="area")
        return [network(grey.expand(-1, 3, -1, -1), resize_images=False, return_lpips=True)]

    return features


def distance(
    features: Features, images: Tensor, target: Tensor, valid: Tensor, known: list[Tensor] | None = None
) -> Tensor:
    """Squared feature distance of each image to its target, ``[N]``.

    Where the target holds no data (`valid` False) it takes the image's own pixels, so padding pulls at nothing.

    Args:
        features: What is compared.
        images: ``[N, C, H, W]``.
        target: Ditto.
        valid: Ditto, boolean.
        known: Features of `target`, for a target that is valid everywhere: they needn't be computed at every step.
    """
    wanted = features(torch.where(valid, target, images.detach())) if known is None else known
    pairs = zip(features(images), wanted, strict=True)
    return torch.stack([(a - b).square().flatten(1).sum(dim=1) for a, b in pairs]).sum(dim=0)


def noise_regulariser(maps: Sequence[Tensor]) -> Tensor:
    """Autocorrelation of noise maps over a pyramid down to 8 x 8 (Karras et al. 2020, appendix D), ``[N]``.

    Args:
        maps: One ``[N, 1, r, r]`` a layer.
    """
    total = torch.zeros(len(maps[0]), device=maps[0].device)
    for level in maps:
        while True:
            for axis in (2, 3):
                total = total + (level * level.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square()
            if level.shape[2] <= 8:
                break
            level = F.avg_pool2d(level, 2)
    return total
