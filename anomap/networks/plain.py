"""The synthesis as it is usually computed: one kernel per image and a grouped convolution. Slow, easy to check.

It is the twin that the tests hold the fast paths to, and the baseline of ``benchmarks/generator.py``. The gradient
to w goes through the kernels, so each image costs a weight gradient more than it needs.

Shapes: as in `anomap.networks.ops`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.networks.ops import FIR_TAPS, lrelu, upsample
from anomap.networks.stylegan2 import Synthesis, SynthesisBlock, SynthesisLayer


def grouped_modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """`anomap.networks.ops.modulated_conv2d` with N kernels, run as one convolution of N groups.

    Args:
        x: ``[N, I, H, W]``.
        weight: ``[O, I, k, k]``.
        styles: ``[N, I]`` scale of each input channel.
        demodulate: Give every kernel unit norm.
        up: Double the sides.

    Returns:
        ``[N, O, H, W]`` or ``[N, O, 2H, 2W]``.
    """
    n, (channels_out, channels_in, k, _) = len(x), weight.shape
    kernels = weight[None] * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, n * channels_in, *x.shape[2:])
    if up:
        kernels = kernels.transpose(1, 2).reshape(n * channels_in, channels_out, k, k)
        x = F.conv_transpose2d(x, kernels, stride=2, groups=n)
        taps = torch.tensor(FIR_TAPS, dtype=x.dtype, device=x.device) * (2 / sum(FIR_TAPS))
        smooth = torch.outer(taps, taps).repeat(n * channels_out, 1, 1, 1)  # [N * O, 1, 4, 4]
        x = F.conv2d(x, smooth, padding=1, groups=n * channels_out)
    else:
        x = F.conv2d(x, kernels.reshape(n * channels_out, channels_in, k, k), padding=k // 2, groups=n)
    return x.reshape(n, channels_out, *x.shape[2:])


def plain_synthesis(synthesis: Synthesis, w: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
    """``[N, D] -> [N, C, r, r]``: what ``synthesis(w, noise or "const")`` computes.

    Args:
        synthesis: Its parameters are used as they are.
        w: ``[N, D]``.
        noise: One ``[N, 1, r, r]`` map a layer, coarse to fine; the trained maps when empty.
    """
    x, image = torch.empty(0), torch.empty(0)  # block b4 fills both
    maps: Iterator[Tensor | None] = iter(noise) if noise else repeat(None)
    for resolution in synthesis.config.resolutions:
        block: SynthesisBlock = getattr(synthesis, f"b{resolution}")
        x = block.const.expand(len(w), -1, -1, -1) if block.first else _layer(block.conv0, x, w, next(maps))
        x = _layer(block.conv1, x, w, next(maps))
        styles = block.torgb.affine(w) / math.sqrt(x.shape[1])
        rgb = grouped_modulated_conv2d(x, block.torgb.weight, styles, demodulate=False)
        rgb = rgb + block.torgb.bias[:, None, None]
        image = rgb if block.first else upsample(image) + rgb
    return image


def _layer(layer: SynthesisLayer, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
    x = grouped_modulated_conv2d(x, layer.weight, layer.affine(w), up=layer.up)
    return lrelu(x + (layer.noise_const if noise is None else noise) * layer.noise_strength + layer.bias[:, None, None])
