"""StyleGAN2: mapping, synthesis and discriminator (Karras et al. 2020, arXiv 1912.04958; ADA 2006.06676).

Written from the papers. Parameter names follow the widely used PyTorch networks
(``mapping.fc0.weight``, ``synthesis.b8.conv0.affine.bias``, ``b64.fromrgb.weight``), so that public weights
map one to one. One channel by default, resolutions 32 to 1024, plain torch operations only.

Shapes: ``N`` images, ``C`` image channels, ``Z`` / ``D`` sizes of z and w, ``L`` style layers, ``r`` resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anomap.networks.ops import Conv2d, Linear, lrelu, modulated_conv2d, upsample

Noise = Literal["const", "random", "none"] | Sequence[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Shape of the networks. Defaults are the paper's configuration F at 512 pixels, one channel."""

    resolution: int = 512  # side of the image, a power of two in 32..1024
    channels: int = 1  # image channels
    z_dim: int = 512  # size of the Gaussian latent
    w_dim: int = 512  # size of the intermediate latent
    mapping_layers: int = 8  # depth of z -> w
    channel_base: int = 32768  # feature maps at resolution r: channel_base / r ...
    channel_max: int = 512  # ... but no more than this

    def __post_init__(self) -> None:
        if self.resolution not in (32, 64, 128, 256, 512, 1024):
            msg = f"resolution must be a power of two in 32..1024, got {self.resolution}"
            raise ValueError(msg)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, ... up to the resolution."""
        return tuple(2**i for i in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def style_layers(self) -> int:
        """L: style inputs of the synthesis network, two a resolution."""
        return 2 * len(self.resolutions)

    def width(self, resolution: int) -> int:
        """Feature maps at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)


class Mapping(nn.Module):
    """z -> w: a multi-layer perceptron on the normalised latent, ``[N, Z] -> [N, D]``."""

    w_avg: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        sizes = [config.z_dim] + [config.w_dim] * config.mapping_layers
        self.depth = config.mapping_layers
        for i in range(self.depth):  # learning rate multiplier 0.01: StyleGAN, appendix C
            self.add_module(f"fc{i}", Linear(sizes[i], sizes[i + 1], activation="lrelu", lr_multiplier=0.01))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Map latents; `truncation` below 1 pulls w towards the running mean."""
        w = z.float() * torch.rsqrt(z.float().square().mean(dim=1, keepdim=True) + 1e-8)  # [N, Z]
        for i in range(self.depth):
            w = self.get_submodule(f"fc{i}")(w)  # [N, D]
        return w if truncation == 1.0 else torch.lerp(self.w_avg, w, truncation)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU: ``[N, I, H, W] -> [N, O, r, r]``."""

    noise_const: Tensor

    def __init__(self, channels_in: int, channels_out: int, w_dim: int, resolution: int, *, up: bool = False) -> None:
        super().__init__()
        self.resolution, self.up = resolution, up
        self.affine = Linear(w_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Literal["const", "random", "none"] | Tensor) -> Tensor:
        """Apply the layer with `noise` "const", "random", "none" or a given ``[N, 1, r, r]`` map."""
        x = modulated_conv2d(x, self.weight, self.affine(w), up=self.up)
        if isinstance(noise, Tensor):
            x = x + (noise * self.noise_strength).to(x.dtype)
        elif noise == "const":
            x = x + (self.noise_const * self.noise_strength).to(x.dtype)
        elif noise == "random":
            fresh = torch.randn(len(x), 1, self.resolution, self.resolution, device=x.device)
            x = x + (fresh * self.noise_strength).to(x.dtype)
        return lrelu(x + self.bias.to(x.dtype)[:, None, None])


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image's channels, without demodulation."""

    def __init__(self, channels_in: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.weight_gain = 1.0 / math.sqrt(channels_in)
        self.affine = Linear(w_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, channels_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``[N, I, r, r] -> [N, C, r, r]`` in float32: the sum over resolutions must not lose bits."""
        y = modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return y.float() + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    """One resolution: (constant | doubling convolution), convolution, contribution to the image."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        width, below = config.width(resolution), config.width(resolution // 2)
        self.first = resolution == 4
        if self.first:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
        else:
            self.conv0 = SynthesisLayer(below, width, config.w_dim, resolution, up=True)
        self.conv1 = SynthesisLayer(width, width, config.w_dim, resolution)
        self.torgb = ToRGB(width, config.channels, config.w_dim)


class Synthesis(nn.Module):
    """w -> image with skip outputs (paper, figure 7b), ``[N, L, D] -> [N, C, r, r]``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, resolution))

    def forward(self, ws: Tensor, noise: Noise = "const", dtype: torch.dtype = torch.float32) -> Tensor:
        """Render images.

        Args:
            ws: ``[N, L, D]`` a style for every layer, or ``[N, D]`` one for all.
            noise: "const" (the trained maps), "random", "none", or one ``[N, 1, r, r]`` map a layer, coarse to fine.
            dtype: Of the convolutions; bfloat16 pays on processors and GPUs with matrix units for it.

        Returns:
            ``[N, C, r, r]`` float32, nominally in [-1, 1].
        """
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.config.style_layers, -1)
        named = noise if isinstance(noise, str) else None
        given = iter(() if isinstance(noise, str) else noise)
        layer, x, image = 0, torch.empty(0), torch.empty(0)  # block b4 fills x and image
        for resolution in self.config.resolutions:
            block: SynthesisBlock = getattr(self, f"b{resolution}")
            if block.first:
                x = block.const.to(dtype).expand(len(ws), -1, -1, -1)
            else:
                x = block.conv0(x, ws[:, layer], named or next(given))
                layer += 1
            x = block.conv1(x, ws[:, layer], named or next(given))
            layer += 1
            # A ToRGB shares the style of the next resolution's first convolution, as published.
            rgb: Tensor = block.torgb(x, ws[:, layer])
            image = rgb if block.first else upsample(image) + rgb
        return image

    def noise_shapes(self) -> list[tuple[int, int]]:
        """``(r, r)`` of every noise map, coarse to fine (``L - 1`` of them)."""
        return [(r, r) for r in self.config.resolutions for _ in range(1 if r == 4 else 2)]


class Generator(nn.Module):
    """z -> image: `mapping` then `synthesis`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)

    def forward(
        self, z: Tensor, truncation: float = 1.0, noise: Noise = "random", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """``[N, Z] -> [N, C, r, r]``."""
        image: Tensor = self.synthesis(self.mapping(z, truncation), noise, dtype)
        return image


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append the mean standard deviation over groups of images as a channel (Karras et al. 2018, section 3).

    Args:
        x: ``[N, C, H, W]``.
        group: Images per group; the largest divisor of N up to this is used, so any batch works.

    Returns:
        ``[N, C + 1, H, W]``.
    """
    n, _, h, w = x.shape
    size = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    y = x.float().reshape(size, n // size, -1)  # [G, N/G, CHW]
    std = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean(dim=1)  # [N/G]
    channel = std.repeat(size).view(n, 1, 1, 1).expand(n, 1, h, w)
    return torch.cat([x, channel.to(x.dtype)], dim=1)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the sides: ``[N, I, r, r] -> [N, O, r/2, r/2]``."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        width, below = config.width(resolution), config.width(resolution // 2)
        self.first = resolution == config.resolution
        if self.first:
            self.fromrgb = Conv2d(config.channels, width, 1)
        self.conv0 = Conv2d(width, width, 3)
        self.conv1 = Conv2d(width, below, 3, down=True)
        self.skip = Conv2d(width, below, 1, activation="linear", bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block; the first one takes the image itself."""
        if self.first:
            x = self.fromrgb(x)
        shortcut = self.skip(x, gain=math.sqrt(0.5))
        out: Tensor = shortcut + self.conv1(self.conv0(x), gain=math.sqrt(0.5))
        return out


class DiscriminatorEpilogue(nn.Module):
    """Minibatch statistics, one convolution, two dense layers: ``[N, I, 4, 4] -> [N, 1]``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width(4)
        self.conv = Conv2d(width + 1, width, 3)
        self.fc = Linear(width * 16, width, activation="lrelu")
        self.out = Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, high for images that look real."""
        x = self.conv(minibatch_stddev(x))
        logits: Tensor = self.out(self.fc(x.flatten(1)))
        return logits


class Discriminator(nn.Module):
    """Image -> logit with a residual architecture (paper, figure 7c), ``[N, C, r, r] -> [N, 1]``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in reversed(config.resolutions[1:]):
            self.add_module(f"b{resolution}", DiscriminatorBlock(config, resolution))
        self.b4 = DiscriminatorEpilogue(config)

    def features(self, images: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Outputs of all residual blocks, ``[N, C_r, r, r]`` for r = resolution/2 ... 4."""
        x, maps = images.to(dtype), []
        for resolution in reversed(self.config.resolutions[1:]):
            x = getattr(self, f"b{resolution}")(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits ``[N, 1]`` float32."""
        logits: Tensor = self.b4(self.features(images, dtype)[-1])
        return logits
