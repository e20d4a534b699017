"""Projection: find the w whose picture comes closest to an image.

Only w (one vector an image) decides the scored picture: fitted noise maps, where a preset has them, help the
search and are then **discarded**, because noise could paint the anomaly (a test holds this).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from anomap.errors import AnomapError
from anomap.networks.encoder import Encoder
from anomap.networks.fast import FastSynthesis
from anomap.networks.stylegan2 import Discriminator, Generator
from anomap.projection.adam import Adam
from anomap.projection.losses import (
    Features,
    discriminator_features,
    distance,
    noise_regulariser,
    pyramid_features,
    vgg_features,
)
from anomap.projection.schedule import ProjectionConfig, learning_rate, seed_of, w_noise_factor
from anomap.types import Prepared, Reconstruction

Progress = Callable[[int, int], None]
Render = Callable[[Tensor, Sequence[Tensor]], Tensor]  # w and noise maps (none: the trained ones) -> images
W_SAMPLES = 10_000  # statistics of W, as the reference
W_SEED = 123  # ditto
LIBRARY_SIZE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class WStatistics:
    """The training cloud in W.

    Attributes:
        mean: ``[D]``.
        spread: Root of the mean squared distance from the mean.
        whiten: ``[D, D]``; ``|(w - mean) @ whiten|^2 / D`` averages 1 over the cloud.
    """

    mean: Tensor
    spread: float
    whiten: Tensor

    def distance(self, w: Tensor) -> Tensor:
        """Mahalanobis distance of ``[N, D]`` per sqrt(D), ``[N]``."""
        return ((w - self.mean) @ self.whiten).square().mean(dim=1).clamp_min(1e-12).sqrt()


class Model(Protocol):
    """What a projection needs of a bundle."""

    @property
    def generator(self) -> Generator:
        """The averaged generator, frozen."""

    @property
    def discriminator(self) -> Discriminator | None:
        """For loss "discriminator"."""

    @property
    def encoder(self) -> Encoder | None:
        """For start "encoder"; without one, as with imported weights, that start is the mean of W."""

    @property
    def w_statistics(self) -> WStatistics:
        """The training cloud."""


@torch.no_grad()
def measure_w(generator: Generator, samples: int = W_SAMPLES, seed: int = W_SEED) -> WStatistics:
    """Mean, spread and whitening of W from random latents.

    Directions with less than 1 % of the mean variance count as if they had that much: W is nearly flat in
    many directions, and dividing by almost nothing would make the distance a measure of rounding.
    """
    z = np.random.RandomState(seed).randn(samples, generator.config.z_dim)
    device = next(generator.parameters()).device
    w = generator.mapping(torch.from_numpy(z).float().to(device)).double()  # [S, D]
    mean = w.mean(dim=0)
    centred = w - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / samples)
    variance = variance.clamp_min(0.01 * float(variance.mean()))
    whiten = axes / variance.sqrt()
    whiten = whiten / (centred @ whiten).square().mean().sqrt()
    return WStatistics(
        mean=mean.float(), spread=float(centred.square().sum(dim=1).mean().sqrt()), whiten=whiten.float()
    )


def project(
    prepared: Prepared, model: Model, config: ProjectionConfig, device: str = "cpu", progress: Progress | None = None
) -> Reconstruction:
    """Reconstruct every image with the generator.

    Args:
        prepared: Images in [-1, 1].
        model: Networks on `device`, frozen.
        config: Preset.
        device: Torch device of the model.
        progress: Called with (steps done, steps in all) over all batches.

    Returns:
        Reconstructions in the order of `prepared`. An image's result doesn't depend on the
        others, but for rounding: the processor's library sums in another order for another batch size, and on images
        far from what the model knows the steps amplify that (docs/performance-notes.md).

    Raises:
        AnomapError: E302 when the bundle lacks a part the preset needs, E400 out of memory, E501 not finite.
    """
    features, render = _features(model, config, device), _render(model.generator, device)
    total = len(prepared.images)
    batches = [slice(at, at + config.batch_size) for at in range(0, total, config.batch_size)]
    parts: list[_Fit] = []
    for number, rows in enumerate(batches):
        target = torch.from_numpy(prepared.images[rows]).to(device)
        valid = torch.from_numpy(prepared.valid[rows]).to(device)
        seeds = [seed_of(name) for name in prepared.frame_ids[rows]]

        def step_done(step: int, before: int = number) -> None:
            if progress is not None:
                progress(before * max(config.steps, 1) + step, len(batches) * max(config.steps, 1))

        try:
            parts.append(_fit(target, valid, seeds, model, render, features, config, step_done))
        except torch.OutOfMemoryError as error:
            raise AnomapError("E400", f"out of memory with a batch of {len(target)} images") from error
    return _collect(parts, prepared, config)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Result of one batch: all ``[N, ...]``."""

    images: Tensor
    w: Tensor
    loss: Tensor
    late_gain: Tensor
    prior: Tensor


def _collect(parts: list[_Fit], prepared: Prepared, config: ProjectionConfig) -> Reconstruction:
    def joined(name: str, dtype: Any, empty: tuple[int, ...]) -> np.ndarray:
        arrays = [getattr(part, name).detach().cpu().numpy() for part in parts]
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(empty, dtype)

    loss = joined("loss", np.float64, (0,))
    return Reconstruction(
        images=joined("images", np.float32, prepared.images.shape),
        w=joined("w", np.float32, (0, 1)),
        loss=loss,
        prior_distance=joined("prior", np.float64, (0,)),
        steps=config.steps,
        # Still falling by a tenth in the last tenth of the steps is not converged.
        converged=np.isfinite(loss) & (joined("late_gain", np.float64, (0,)) < 0.1),
        seeds=np.array([seed_of(name) for name in prepared.frame_ids], np.int64),
    )


def _features(model: Model, config: ProjectionConfig, device: str) -> Features:
    if config.loss == "pyramid":
        return pyramid_features
    if config.loss == "vgg":
        assert config.loss_file is not None  # noqa: S101 (ProjectionConfig checks it)
        return vgg_features(config.loss_file, device)
    if model.discriminator is None:
        raise AnomapError("E302", "this bundle has no discriminator, which the preset's loss needs")
    return discriminator_features(model.discriminator)


def _render(generator: Generator, device: str) -> Render:
    """The generator prepared for many steps; the prepared one works image by image, which a GPU would be slow at."""
    if torch.device(device).type == "cpu":
        return FastSynthesis(generator.synthesis)
    return lambda w, noise: generator.synthesis(w, noise or "const")


@torch.no_grad()
def _start(target: Tensor, model: Model, config: ProjectionConfig) -> Tensor:
    """First w of every image, ``[N, D]``."""
    if config.start == "encoder" and model.encoder is not None:
        w: Tensor = model.encoder(target)
        return w
    if config.start == "library":
        return _nearest_sample(target, model.generator)
    return model.w_statistics.mean.expand(len(target), -1).clone()


def _nearest_sample(target: Tensor, generator: Generator) -> Tensor:
    """The w of the random sample whose picture is nearest in pixels, ``[N, D]``."""
    z = np.random.RandomState(W_SEED).randn(LIBRARY_SIZE, generator.config.z_dim)
    best = torch.full((len(target),), math.inf, device=target.device)
    chosen = torch.zeros(len(target), generator.config.w_dim, device=target.device)
    for part in np.split(z, LIBRARY_SIZE // 64):
        w = generator.mapping(torch.from_numpy(part).float().to(target.device))
        pictures = generator.synthesis(w, "const").flatten(1)
        gap, index = torch.cdist(target.flatten(1), pictures).min(dim=1)
        chosen[gap < best] = w[index[gap < best]]
        best = torch.minimum(best, gap)
    return chosen


class _Draws:
    """Random numbers of each image from its own seed, drawn on the CPU so that every device sees the same."""

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """``[N, *shape]`` standard normal."""
        return torch.stack([torch.randn(*shape, generator=source) for source in self.sources]).to(self.device)


def _fit(
    target: Tensor,
    valid: Tensor,
    seeds: list[int],
    model: Model,
    render: Render,
    features: Features,
    config: ProjectionConfig,
    step_done: Callable[[int], None],
) -> _Fit:
    """Optimise w of one batch; the losses are sums over images, so images don't influence each other."""
    draws = _Draws(seeds, target.device)
    cloud = model.w_statistics
    w = _start(target, model, config).requires_grad_(True)
    noise: list[Tensor] = []
    if config.optimise_noise:
        noise = [draws.normal(1, *shape).requires_grad_(True) for shape in model.generator.synthesis.noise_shapes()]
    optimiser = Adam([w, *noise])
    earlier = torch.full((len(target),), math.inf, device=target.device)
    for step in range(config.steps):
        amount = w_noise_factor(step, config) * cloud.spread
        styles = w + amount * draws.normal(w.shape[1]) if amount > 0 else w
        loss = distance(features, render(styles, noise), target, valid)
        if step == int(0.9 * config.steps):
            earlier = loss.detach()
        if noise:
            loss = loss + config.noise_weight * noise_regulariser(noise)
        if config.prior_weight:
            loss = loss + config.prior_weight * cloud.distance(w).square()
        torch.autograd.backward(loss.sum())
        optimiser.step(learning_rate(step, config))
        _normalise(noise)
        step_done(step + 1)
    with torch.no_grad():
        images = render(w, ())  # the trained noise: fitted maps are discarded here
        final = distance(features, images, target, valid)
        gain = ((earlier - final) / earlier.clamp_min(1e-12)).nan_to_num(posinf=0.0) if config.steps else final * 0
        if not bool(torch.isfinite(final).all()):
            raise AnomapError("E501", "the projection did not stay finite")
        return _Fit(images.clamp(-1, 1), w.detach(), final, gain, cloud.distance(w))


@torch.no_grad()
def _normalise(noise: list[Tensor]) -> None:
    """Zero mean and unit mean square of every map, after every step (as the reference)."""
    for maps in noise:
        maps -= maps.mean(dim=(1, 2, 3), keepdim=True)
        maps *= maps.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
