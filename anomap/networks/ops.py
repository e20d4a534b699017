"""The four operations StyleGAN2 is made of, in plain torch.

Equalised learning rate: a parameter is stored as drawn from N(0, 1) and scaled at run time
(Karras et al. 2018, "Progressive growing", section 4.1). Resampling is by the binomial filter
[1, 3, 3, 1] (Karras et al. 2020, "Analyzing and improving", section 2). Alignment of the up- and
down-sampling convolutions follows the published networks, so that their weights can be imported.

Shapes: ``N`` images, ``I`` / ``O`` channels in / out, ``D`` latent size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)  # keeps the variance of a unit Gaussian through the leaky ReLU (He et al. 2015)
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def lrelu(x: Tensor, gain: float = LRELU_GAIN) -> Tensor:
    """Leaky ReLU times `gain`, any shape."""
    return F.leaky_relu(x, LRELU_SLOPE) * gain


def _fir(x: Tensor, gain: float) -> Tensor:
    """The 4-tap row kernel of sum sqrt(`gain`), ``[4]``; used once a direction its sum is `gain`."""
    taps = torch.tensor(FIR_TAPS, dtype=x.dtype, device=x.device)
    return taps * (math.sqrt(gain) / sum(FIR_TAPS))


def fir_filter(x: Tensor, padding: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Smooth with the separable binomial filter.

    Args:
        x: ``[N, I, H, W]``.
        padding: Zeros on each side.
        gain: Sum of the 2-D kernel.
        stride: Keep every stride-th row and column.

    Returns:
        ``[N, I, (H + 2 * padding - 3) // stride, ...]`` rounded up.
    """
    channels = x.shape[1]
    taps = _fir(x, gain)
    rows = taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1)
    cols = taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4)
    x = F.conv2d(x, rows, padding=(padding, 0), stride=(stride, 1), groups=channels)
    return F.conv2d(x, cols, padding=(0, padding), stride=(1, stride), groups=channels)


def upsample(x: Tensor) -> Tensor:
    """Double the sides of ``[N, I, H, W]`` with the binomial filter."""
    channels = x.shape[1]
    taps = _fir(x, 4.0)
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def _conv(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    """Same-size 3x3 or 1x1 convolution, or the doubling one (transposed, then smoothed)."""
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    # Contiguous transposed weights: oneDNN is up to twice as fast on them.
    x = F.conv_transpose2d(x, weight.transpose(0, 1).contiguous(), stride=2)  # [N, O, 2H+1, 2W+1]
    return fir_filter(x, padding=1, gain=4.0)  # [N, O, 2H, 2W]


def modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, up: bool = False) -> Tensor:
    """Convolution whose kernel is scaled per image by its style (Karras et al. 2020, equations 1 and 3).

    Scaling the activations instead of building per-image weights is the same function, needs no weight
    gradient per image and lets a batch share one convolution.

    Args:
        x: ``[N, I, H, W]``.
        weight: ``[O, I, k, k]``.
        styles: ``[N, I]`` scale of each input channel.
        demodulate: Divide by the expected norm of each output channel.
        up: Double the sides.

    Returns:
        ``[N, O, H, W]`` or ``[N, O, 2H, 2W]``, dtype of `x`.
    """
    x = x * styles.to(x.dtype)[:, :, None, None]  # [N, I, H, W]
    x = _conv(x, weight.to(x.dtype), up)  # [N, O, H', W']
    if demodulate:
        power = weight.float().square().sum(dim=(2, 3))  # [O, I]
        norm = torch.rsqrt(styles.float().square() @ power.T + 1e-8)  # [N, O]
        x = x * norm.to(x.dtype)[:, :, None, None]
    return x


def modulated_conv2d_reference(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """The textbook form of `modulated_conv2d`: one kernel per image. Slow; the oracle of the tests."""
    kernels = weight[None] * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    return torch.cat([_conv(image[None], kernel, up) for image, kernel in zip(x, kernels, strict=True)])


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate, ``[N, in] -> [N, out]``.

    Args:
        features_in: Input size.
        features_out: Output size.
        activation: "linear" or "lrelu".
        bias: Initial bias.
        lr_multiplier: Factor on the layer's effective learning rate.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        activation: str = "linear",
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(features_in)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(features_out, features_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((features_out,), bias / lr_multiplier))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; runs in float32 whatever the convolutions use."""
        y = F.linear(x.float(), self.weight * self.weight_gain, self.bias * self.bias_gain)
        return lrelu(y) if self.activation == "lrelu" else y


class Conv2d(nn.Module):
    """Convolution with equalised learning rate and optional halving, ``[N, I, H, W] -> [N, O, H', W']``.

    Args:
        channels_in: I.
        channels_out: O.
        kernel: Side of the kernel, 1 or 3.
        activation: "linear" or "lrelu".
        bias: Whether there is a bias.
        down: Halve the sides (smooth, then stride 2).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        activation: str = "lrelu",
        bias: bool = True,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.kernel, self.down = activation, kernel, down
        self.weight_gain = 1.0 / math.sqrt(channels_in * kernel * kernel)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Apply the layer; `gain` multiplies the output (residual branches use sqrt(1/2))."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        if not self.down:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        elif self.kernel == 1:
            x = F.conv2d(fir_filter(x, padding=1, stride=2), weight)
        else:
            x = F.conv2d(fir_filter(x, padding=2), weight, stride=2)
        if self.bias is not None:
            x = x + self.bias.to(x.dtype)[:, None, None]
        return lrelu(x, LRELU_GAIN * gain) if self.activation == "lrelu" else x * gain
