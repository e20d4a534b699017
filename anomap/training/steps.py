"""One step of each kind, the way one reads the papers.

Non-saturating loss (Goodfellow 2014), lazy R1 (Mescheder 2018; Karras 2020 section 3.1), path length penalty
(Karras 2020 section 3.2), style mixing, exponential moving average of the generator. Every step adds up the
gradients of its passes, then of all processes, then updates once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.networks.stylegan2 import Generator
from anomap.training.augment import augment
from anomap.training.checkpoint import State
from anomap.training.config import TrainConfig
from anomap.training.parallel import Group, Phase, seed_pass

W_AVERAGE_SPEED = 0.005  # of the running mean of w, a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a step works on.

    Attributes:
        real: This process's passes, each ``[n, C, r, r]`` on the device.
        numbers: Their numbers within the whole batch.
        passes: Passes of the whole batch, over all processes.
    """

    real: Sequence[Tensor]
    numbers: Sequence[int]
    passes: int


def styles(generator: Generator, n: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """``[n, L, D]`` styles of random latents, some mixed of two (StyleGAN, section 3.1), and the mean w ``[D]``."""
    device = generator.mapping.w_avg.device
    layers, z_dim = config.network.style_layers, config.network.z_dim
    w: Tensor = generator.mapping(torch.randn(n, z_dim, device=device))
    ws = w[:, None].repeat(1, layers, 1)
    if torch.rand([]) < config.style_mixing:
        cut = int(torch.randint(1, layers, []))
        ws[:, cut:] = generator.mapping(torch.randn(n, z_dim, device=device))[:, None]
    return ws, w.detach().mean(dim=0)


def _update(
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    group: Group,
    seeds: tuple[int, int, Phase],
    loss_of: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """Add up the gradients of ``loss_of(real)`` over all passes and update once; the mean of its figures.

    `loss_of` gives the loss to descend and a tensor of figures to report, both means over the pass.
    """
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros(0)
    for number, real in zip(batch.numbers, batch.real, strict=True):
        seed_pass(*seeds, number)
        loss, figures = loss_of(real)
        torch.autograd.backward(loss / batch.passes)
        total = figures if not len(total) else total + figures
    parameters = [p for part in optimiser.param_groups for p in part["params"]]
    group.sum_gradients(parameters)
    optimiser.step()
    return group.sum(total / batch.passes)


def generator_step(state: State, batch: Batch, config: TrainConfig, group: Group) -> Tensor:
    """One non-saturating step of G; returns its loss ``[1]``."""

    def loss_of(real: Tensor) -> tuple[Tensor, Tensor]:
        ws, w_mean = styles(state.generator, len(real), config)
        fakes = state.generator.synthesis(ws, "random", config.dtype)
        logits = state.discriminator(augment(fakes, state.augment_p, config.augment), config.dtype)
        loss = F.softplus(-logits).mean()
        return loss, torch.cat([loss.detach()[None], w_mean])

    state.discriminator.requires_grad_(False)
    figures = _update(state.optimiser_g, batch, group, (config.seed, state.step, Phase.GENERATOR), loss_of)
    state.discriminator.requires_grad_(True)
    state.generator.mapping.w_avg.lerp_(figures[1:], W_AVERAGE_SPEED)
    return figures[:1]


def path_length_step(state: State, batch: Batch, config: TrainConfig, group: Group) -> Tensor:
    """Keep the length of image changes per change of w constant (Karras 2020, equation 4); the mean length ``[1]``."""

    def loss_of(real: Tensor) -> tuple[Tensor, Tensor]:
        ws, _ = styles(state.generator, max(len(real) // 2, 1), config)
        images = state.generator.synthesis(ws, "random")
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()  # [n]
        penalty = (lengths - state.path_mean).square().mean()
        weight = config.path_length_weight * config.path_length_interval
        return penalty * weight, lengths.detach().mean()[None]

    figures = _update(state.optimiser_g, batch, group, (config.seed, state.step, Phase.PATH_LENGTH), loss_of)
    # The mean follows after the penalty, so that all passes and processes see the same one.
    state.path_mean += 0.01 * (float(figures[0]) - state.path_mean)
    return figures


def discriminator_step(state: State, batch: Batch, config: TrainConfig, group: Group) -> Tensor:
    """One step of D; returns its loss and the mean sign of D(real), ``[2]``."""

    def loss_of(real: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            ws, _ = styles(state.generator, len(real), config)
            fakes = state.generator.synthesis(ws, "random", config.dtype)
        both = augment(torch.cat([real, fakes]), state.augment_p, config.augment)
        # Two passes, so that the minibatch statistics never mix real and generated images.
        on_real = state.discriminator(both[: len(real)], config.dtype)
        on_fake = state.discriminator(both[len(real) :], config.dtype)
        loss = (F.softplus(-on_real) + F.softplus(on_fake)).mean()
        return loss, torch.stack([loss.detach(), on_real.detach().sign().mean()])

    return _update(state.optimiser_d, batch, group, (config.seed, state.step, Phase.DISCRIMINATOR), loss_of)


def r1_step(state: State, batch: Batch, config: TrainConfig, group: Group) -> Tensor:
    """Penalise the gradient of D at real images (Mescheder 2018, equation 9), in float32; its mean square ``[1]``."""

    def loss_of(real: Tensor) -> tuple[Tensor, Tensor]:
        images = augment(real, state.augment_p, config.augment).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(state.discriminator(images).sum(), images, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        return penalty * (config.r1_gamma / 2 * config.r1_interval), penalty.detach()[None]

    return _update(state.optimiser_d, batch, group, (config.seed, state.step, Phase.R1), loss_of)


@torch.no_grad()
def update_average(state: State, config: TrainConfig) -> None:
    """Move the averaged generator towards the present one; buffers are copied.

    The average is short at first, to forget the noise it began with; one that began with a model has none to forget.
    """
    seen = state.head_start + state.images
    half_life = min(config.ema_kimg * 1000, max(seen * config.ema_rampup, 1.0))
    keep = 0.5 ** (config.batch / half_life)
    for kept, new in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
    for buffer, present in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        buffer.copy_(present)
