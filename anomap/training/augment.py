"""Adaptive discriminator augmentation for one-channel medical images (Karras et al. 2020, arXiv 2006.06676).

Every picture shown to the discriminator, real or generated, is changed with probability `p`, so that few
images can't be learned by heart. `p` follows the sign of the discriminator's answer on real images. The
transforms are those a medical image survives: shifts by whole pixels (the paper's blit) and by parts of one, small
rotations and scalings, brightness and contrast. Left out of the paper's list: hue and saturation (one channel), luma
flips (an inverted grey scale must stay detectable), noise and cutout (the paper found them of no use).
**No right-angle turns, and left-right flips only when asked for**: a flipped or turned image must stay detectable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Standard deviations of the transforms (applied each with probability p) and the control loop."""

    blit: float = 0.08  # shift by whole pixels, uniform up to this share of the side: nothing is smoothed
    shift: float = 0.08  # share of the side
    rotation_rad: float = 0.10  # about 6 degrees
    log2_scale: float = 0.15  # both axes alike
    log2_aspect: float = 0.08  # rows against columns
    brightness: float = 0.10  # of the half range
    log2_contrast: float = 0.25
    flip: bool = False  # left-right flips of half the images; makes a flipped image normal to the model
    target: float = 0.6  # wanted mean sign of D(real); the ADA paper's r_t
    adjust_kimg: float = 100.0  # p can move from 0 to 1 within this many thousand images
    adjust_steps: int = 4  # p moves every so many steps
    maximum: float = 0.8  # the ADA paper sees leaks above


def _gate(values: Tensor, p: float) -> Tensor:
    """Keep each row of `values` ``[N, ...]`` with probability `p`, else zero."""
    keep = torch.rand(len(values), *[1] * (values.ndim - 1), device=values.device) < p
    return values * keep


def augment(images: Tensor, p: float, config: AugmentConfig) -> Tensor:
    """Change pictures at random; differentiable.

    Args:
        images: ``[N, C, H, W]`` in [-1, 1].
        p: Probability of each transform.
        config: Their strengths.

    Returns:
        ``[N, C, H, W]``; the images themselves when `p` is 0. Moved pixels stay within the range of the image (its
        border is reflected); brightness and contrast may leave [-1, 1], for real and generated images alike: clipping
        would stop gradients.
    """
    if p <= 0:
        return images
    n, device = len(images), images.device
    sides = torch.tensor([images.shape[3], images.shape[2]], device=device)

    def draw(*shape: int) -> Tensor:
        return torch.randn(n, *shape, device=device)

    angle = _gate(draw(), p) * config.rotation_rad
    scale = torch.exp2(_gate(draw(), p) * config.log2_scale)
    aspect = torch.exp2(_gate(draw(), p) * config.log2_aspect)
    reach = (2 * torch.rand(n, 2, device=device) - 1) * config.blit * sides
    blit = _gate(reach.round() / sides, p)
    shift = (_gate(draw(2), p) * config.shift + blit) * 2  # grid_sample counts the side as 2
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [
            torch.stack([cos * aspect, -sin * aspect, shift[:, 0]], dim=1),
            torch.stack([sin / aspect, cos / aspect, shift[:, 1]], dim=1),
        ],
        dim=1,
    )  # [N, 2, 3]
    if config.flip:
        theta[:, :, 0] *= 1 - 2 * _gate(torch.randint(0, 2, (n, 1), device=device), p)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast = torch.exp2(_gate(draw(1, 1, 1), p) * config.log2_contrast)
    brightness = _gate(draw(1, 1, 1), p) * config.brightness
    return moved * contrast + brightness


def adapt(p: float, mean_sign: float, images_seen: int, config: AugmentConfig) -> float:
    """The next `p`: up when D is too sure of real images, down otherwise.

    Args:
        p: Present probability.
        mean_sign: Mean of sign(D(real)) since the last call.
        images_seen: Real images behind that mean.
        config: Target and speed.

    Returns:
        Probability in [0, `config.maximum`].
    """
    step = images_seen / (config.adjust_kimg * 1000)
    return min(max(p + math.copysign(step, mean_sign - config.target), 0.0), config.maximum)
