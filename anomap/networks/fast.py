"""The synthesis prepared once for many steps on a processor: frozen weights, one w for all layers.

The same function as ``Synthesis`` in float32, and as the plain twin in `anomap.networks.plain`. What is gained:

- sums of squared weights, noise maps, biases and affine layers are computed when it is built, not at every step;
- everything is channels-last, which oneDNN's convolutions prefer by a quarter, and the transposed and the
  depthwise ones by a factor of two to three;
- whatever lies between two convolutions is one function with its own backward. It works image by image, which
  stays in the cache, where single operations over a whole batch would wait for the memory.

Shapes: ``N`` images, ``I`` / ``O`` channels in / out, ``P`` pixels of a layer, ``C`` image channels, ``D`` size of w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from anomap.networks.ops import FIR_TAPS, LRELU_GAIN, LRELU_SLOPE
from anomap.networks.stylegan2 import Synthesis, SynthesisBlock, SynthesisLayer


class FastSynthesis:
    """w -> image, ``[N, D] -> [N, C, r, r]``: what a frozen `Synthesis` computes, sooner.

    Args:
        synthesis: Its parameters are copied where they are changed and shared where not, so build anew after
            changing them. No gradient flows to them.
    """

    def __init__(self, synthesis: Synthesis) -> None:
        self.config = synthesis.config
        self.blocks = [_Block(getattr(synthesis, f"b{r}")) for r in self.config.resolutions]
        affines = [(affine, gain) for block in self.blocks for affine, gain in block.affines]
        self.weight = torch.cat([a.weight.detach() * (a.weight_gain * gain) for a, gain in affines])  # [sum I, D]
        self.bias = torch.cat([a.bias.detach() * (a.bias_gain * gain) for a, gain in affines])  # [sum I]
        self.sizes = [a.bias.numel() for a, _ in affines]
        first: SynthesisBlock = getattr(synthesis, "b4")  # noqa: B009 (modules are not typed)
        self.const = _channels_last(first.const.detach()[None])
        self.doubling = [_doubling_matrix(r).to(self.bias.device) for r in self.config.resolutions[:-1]]

    def __call__(self, w: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        """Render images.

        Args:
            w: ``[N, D]``.
            noise: One ``[N, 1, r, r]`` map a layer, coarse to fine; the trained maps when empty.

        Returns:
            ``[N, C, r, r]`` float32.
        """
        styles = torch.split(F.linear(w, self.weight, self.bias), self.sizes, dim=1)  # type: ignore[no-untyped-call]
        maps: Iterator[Tensor | None] = iter(noise) if noise else repeat(None)
        x = self.const * styles[0][:, :, None, None]  # scaled already for the convolution that follows
        image, at = torch.empty(0), 0
        for number, (side, block) in enumerate(zip(self.config.resolutions, self.blocks, strict=True)):
            for layer in block.layers[:-1]:
                x, _ = layer(x, styles[at], styles[at + 1], None, next(maps))
                at += 1
            to_rgb = styles[at + 1][:, :, None] * block.rgb_weight  # [N, I, C]
            following = styles[at + 2] if at + 2 < len(styles) else None
            x, rgb = block.layers[-1](x, styles[at], following, to_rgb, next(maps))
            at += 2
            rgb = (rgb + block.rgb_bias).transpose(1, 2).reshape(len(w), -1, side, side)
            double = self.doubling[number - 1]
            image = double @ image @ double.T + rgb if number else rgb
        return image


class _Block:
    """One resolution: its layers and its contribution to the image."""

    def __init__(self, block: SynthesisBlock) -> None:
        layers = [block.conv1] if block.first else [block.conv0, block.conv1]
        self.layers = [_Layer(layer) for layer in layers]
        self.rgb_weight = block.torgb.weight.detach()[:, :, 0, 0].T  # [I, C]
        self.rgb_bias = block.torgb.bias.detach()
        self.affines = [*((layer.affine, 1.0) for layer in layers), (block.torgb.affine, block.torgb.weight_gain)]


class _Layer:
    """A modulated convolution and its activation; the leaky ReLU's gain is in the scale and the shift before it."""

    def __init__(self, layer: SynthesisLayer) -> None:
        weight = layer.weight.detach()
        self.up, self.resolution = layer.up, layer.resolution
        self.power = weight.square().sum(dim=(2, 3)).T.contiguous()  # [I, O]
        self.weight = _channels_last(weight.transpose(0, 1) if layer.up else weight)
        taps = torch.tensor(FIR_TAPS, device=weight.device) * (2 / sum(FIR_TAPS))
        self.smooth = torch.outer(taps, taps).repeat(len(weight), 1, 1, 1)  # [O, 1, 4, 4]
        self.strength = layer.noise_strength.detach() * LRELU_GAIN
        self.shift = layer.bias.detach() * LRELU_GAIN  # [O]
        self.trained = self.strength * layer.noise_const.view(-1, 1) + self.shift  # [P, O]

    def __call__(
        self, x: Tensor, style: Tensor, following: Tensor | None, to_rgb: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scaled activations in; activations scaled by the `following` style and ``[N, P, C]`` of the image out.

        What isn't asked for is None.
        """
        norm = torch.rsqrt(style.square() @ self.power + 1e-8) * LRELU_GAIN  # [N, O]
        if self.up:
            x = F.conv_transpose2d(x, self.weight, stride=2)
            x = F.conv2d(x, self.smooth, padding=1, groups=len(self.smooth))
        else:
            x = F.conv2d(x, self.weight, padding=1)
        if noise is not None:
            noise = noise.flatten(1)[:, :, None] * self.strength  # [N, P, 1]
        shift = self.trained if noise is None else self.shift.expand(self.resolution**2, -1)
        out: tuple[Tensor, Tensor] = _Activation.apply(x, norm, shift, noise, following, to_rgb)  # type: ignore[no-untyped-call]
        return out


class _Activation(torch.autograd.Function):
    """``y = lrelu(x * norm + shift + noise)``, then ``y * following`` and ``y @ to_rgb``; either may be missing."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Tensor,
        shift: Tensor,
        noise: Tensor | None,
        following: Tensor | None,
        to_rgb: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        pixels = _pixels(x)  # [N, P, O]
        y = torch.empty_like(pixels)
        scaled = None if following is None else torch.empty_like(pixels)
        rgb = None if to_rgb is None else y.new_empty(*y.shape[:2], to_rgb.shape[2])
        for i, active in enumerate(y):
            torch.addcmul(shift, pixels[i], norm[i], out=active)
            if noise is not None:
                active += noise[i]
            F.leaky_relu_(active, LRELU_SLOPE)
            if scaled is not None and following is not None:
                torch.mul(active, following[i], out=scaled[i])
            if rgb is not None and to_rgb is not None:
                torch.mm(active, to_rgb[i], out=rgb[i])
        ctx.save_for_backward(pixels, y, norm, following, to_rgb)
        ctx.noisy = noise is not None
        ctx.set_materialize_grads(False)
        return None if scaled is None else _planes(scaled), rgb

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_scaled: Tensor | None, grad_rgb: Tensor | None) -> tuple[Tensor | None, ...]:
        pixels, y, norm, following, to_rgb = ctx.saved_tensors
        grad, grad_norm = torch.empty_like(pixels), torch.empty_like(norm)
        grad_following = torch.empty(0) if grad_scaled is None else torch.empty_like(following)
        grad_to_rgb = torch.empty(0) if grad_rgb is None else torch.empty_like(to_rgb)
        grad_noise = y.new_empty(*y.shape[:2], 1)
        product = torch.empty_like(y[0])
        incoming = None if grad_scaled is None else _pixels(grad_scaled)
        for i, (active, piece) in enumerate(zip(y, grad, strict=True)):
            if incoming is not None:
                torch.sum(torch.mul(incoming[i], active, out=product), dim=0, out=grad_following[i])
                torch.mul(incoming[i], following[i], out=piece)
            else:
                piece.zero_()
            if grad_rgb is not None:
                piece.addmm_(grad_rgb[i], to_rgb[i].T)
                torch.mm(active.T, grad_rgb[i], out=grad_to_rgb[i])
            # The sign of the result tells the slope.
            torch.ops.aten.leaky_relu_backward.grad_input(piece, active, LRELU_SLOPE, True, grad_input=piece)
            if ctx.noisy:
                torch.sum(piece, dim=1, keepdim=True, out=grad_noise[i])
            torch.sum(torch.mul(piece, pixels[i], out=product), dim=0, out=grad_norm[i])
            piece *= norm[i]
        return (
            _planes(grad),
            grad_norm,
            None,
            grad_noise if ctx.noisy else None,
            None if grad_scaled is None else grad_following,
            None if grad_rgb is None else grad_to_rgb,
        )


def _pixels(x: Tensor) -> Tensor:
    """``[N, O, H, W] -> [N, P, O]``; a view of what lies channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _planes(y: Tensor) -> Tensor:
    """``[N, P, O] -> [N, O, H, W]`` of a square image, a channels-last view."""
    side = math.isqrt(y.shape[1])
    return y.view(len(y), side, side, -1).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _doubling_matrix(side: int) -> Tensor:
    """``[2 * side, side]``: `anomap.networks.ops.upsample` along one direction."""
    matrix = torch.zeros(2 * side + 2, side)
    for column in range(side):
        matrix[2 * column : 2 * column + 4, column] = torch.tensor(FIR_TAPS) * (2 / sum(FIR_TAPS))
    return matrix[1:-1]
