"""Train the encoder: image -> w, on generated images (w known) and real ones (picture known)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from anomap.networks.encoder import Encoder
from anomap.networks.stylegan2 import Discriminator, Generator
from anomap.projection import measure_w
from anomap.projection.losses import distance, pyramid_features
from anomap.training.augment import AugmentConfig, augment
from anomap.training.config import has_bf16_units
from anomap.training.order import batches
from anomap.types import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How long and how; the default takes a few minutes on one core."""

    kimg: float = 40.0  # thousands of generated and as many real images
    batch: int = 32
    learning_rate: float = 0.002  # falls linearly to zero
    prior_weight: float = 0.004  # as in the projection: predicted w stay near the training cloud
    real_weight: float = 1.0  # weight of the picture loss on real images
    augment_p: float = 0.3  # of real images; shifts and contrast the encoder should survive
    seed: int = 0
    bf16: Literal["auto", "on", "off"] = "auto"  # as in TrainConfig


def train_encoder(
    images: Float32,
    generator: Generator,
    discriminator: Discriminator | None,
    config: EncoderConfig,
    report: Callable[[dict[str, float]], None] = print,
    start: Encoder | None = None,
    device: str = "cpu",
) -> Encoder:
    """Train an encoder for a frozen generator.

    Args:
        images: ``(N, C, r, r)`` real training images in [-1, 1].
        generator: Frozen.
        discriminator: Its tower is where the encoder starts from: it has seen the images already.
        config: Settings.
        report: Receives figures every few thousand images.
        start: Begin with this encoder, of the generator that this one's training began with, instead of the tower.
        device: Where to train; latent vectors are drawn on the CPU, so that they are the same anywhere.

    Returns:
        The encoder, on the CPU and in evaluation mode; the generator is on the CPU again, too.
    """
    torch.manual_seed(config.seed)
    generator.to(device)
    cloud = measure_w(generator)
    encoder = Encoder(generator.config)
    if start is not None:
        encoder.load_state_dict(start.state_dict())
    elif discriminator is not None:
        tower = {k: v for k, v in discriminator.state_dict().items() if not k.startswith("b4.")}
        encoder.load_state_dict(tower, strict=False)
    encoder.w_avg.copy_(cloud.mean)
    bf16 = has_bf16_units(device) if config.bf16 == "auto" else config.bf16 == "on"
    dtype = torch.bfloat16 if bf16 else torch.float32
    for network in (encoder, generator):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(encoder.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    steps = int(config.kimg * 1000 / config.batch)
    everywhere = torch.ones(1, dtype=torch.bool, device=device)
    source, began = batches(images, config.batch, config.seed, 0), time.monotonic()
    means: list[Tensor] = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * (1 - step / steps)
        with torch.no_grad():
            w_true = generator.mapping(torch.randn(config.batch, generator.config.z_dim).to(device))
            fakes = generator.synthesis(w_true, "random", dtype)
            real = augment(next(source).to(device), config.augment_p, AugmentConfig()).clamp(-1, 1)
        w = encoder(torch.cat([fakes, real]), dtype)
        in_w = (w[: config.batch] - w_true).square().mean() / cloud.spread**2 * w.shape[1]
        pictures = generator.synthesis(w, "const", dtype)
        in_picture = distance(pyramid_features, pictures, torch.cat([fakes, real]), everywhere).mean()
        prior = cloud.distance(w).square().mean()
        loss = in_w * 0.1 + config.real_weight * in_picture + config.prior_weight * prior
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        means.append(torch.stack([in_w.detach(), in_picture.detach(), prior.detach()]))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            figures = torch.stack(means).mean(dim=0).tolist()
            minutes = (time.monotonic() - began) / 60
            names = ("kimg", "minutes", "w_error", "picture_error", "prior")
            report(dict(zip(names, [(step + 1) * config.batch / 1000, minutes, *figures], strict=True)))
            means = []
    generator.cpu()
    return encoder.cpu().eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[no-any-return, call-overload]
