"""Projection: find the w whose picture comes closest to an image.

Only w (one vector an image) decides the scored picture: fitted noise maps, where a preset has them, help the
search and are then **discarded**, because noise could paint the anomaly (a test holds this).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from anomap.errors import AnomapError
from anomap.networks.fast import FastSynthesis
from anomap.networks.stylegan2 import Generator
from anomap.projection.cloud import WStatistics, measure_w
from anomap.projection.engine import Fit, Images, Render, Search, fit
from anomap.projection.features import FeatureStatistics, feature_distance, feature_residual, measure_features
from anomap.projection.losses import Features, discriminator_features, pyramid_features, vgg_features
from anomap.projection.memory import batch_size
from anomap.projection.model import Model
from anomap.projection.places import PlaceStatistics, place_map
from anomap.projection.schedule import ProjectionConfig, seed_of
from anomap.projection.start import first_w
from anomap.types import Prepared, Reconstruction

__all__ = [
    "FeatureStatistics",
    "Model",
    "PlaceStatistics",
    "Progress",
    "WStatistics",
    "measure_features",
    "measure_w",
    "project",
    "renderer",
]

Progress = Callable[[int, int], None]
_CONVERGED = 0.1  # still falling by a tenth in the last tenth of the steps is not converged


def project(
    prepared: Prepared, model: Model, config: ProjectionConfig, device: str = "cpu", progress: Progress | None = None
) -> Reconstruction:
    """Reconstruct every image with the generator.

    Args:
        prepared: N images in [-1, 1].
        model: Networks on `device`, frozen.
        config: Preset.
        device: Torch device of the model.
        progress: Called with (steps done, steps in all) summed over images.

    Returns:
        Reconstructions in the order of `prepared`. An image's result doesn't depend on the
        others, but for rounding: the processor's library sums in another order for another batch size, and on images
        far from what the model knows the steps amplify that (docs/performance-notes.md).

    Raises:
        AnomapError: E302 when the bundle lacks a part the preset needs, E400 when a single image doesn't fit the
            memory, E501 not finite.
    """
    seeds = [seed_of(name) for name in prepared.frame_ids]
    if not seeds:
        return _collect([], seeds, prepared, model, config, device)
    search = Search(
        config=config,
        render=renderer(model.generator, device),
        features=_features(model, config, device),
        cloud=model.w_statistics,
        noise_shapes=model.generator.synthesis.noise_shapes() if config.optimise_noise else (),
        device=device,
    )
    images = Images(
        target=torch.from_numpy(prepared.images),
        valid=torch.from_numpy(prepared.valid),
        seeds=seeds,
        w=first_w(prepared.images, model, config, device),
    )
    room = batch_size(model.generator.config, config, device)
    return _collect(fit(images, search, room, progress or _silent), seeds, prepared, model, config, device)


def _collect(
    fits: list[Fit], seeds: list[int], prepared: Prepared, model: Model, config: ProjectionConfig, device: str
) -> Reconstruction:
    def column(name: str) -> Any:
        return np.array([getattr(one, name) for one in fits], np.float64)

    images = np.stack([one.image.numpy() for one in fits]) if fits else np.zeros_like(prepared.images)
    known = model.feature_statistics
    return Reconstruction(
        images=images,
        w=np.stack([one.w.numpy() for one in fits]) if fits else np.zeros((0, 1), np.float32),
        loss=column("loss"),
        prior_distance=column("prior"),
        feature_residual=feature_residual(prepared.images, images, prepared.valid, model.discriminator, device),
        feature_distance=feature_distance(prepared.images, model.discriminator, known, device),
        feature_map=place_map(prepared.images, model.discriminator, known.places if known else (), device),
        steps=config.steps,
        converged=column("late_gain") < _CONVERGED,
        seeds=np.array(seeds, np.int64),
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


def renderer(generator: Generator, device: str) -> Render:
    """The generator prepared for many steps; the prepared one works image by image, which a GPU would be slow at."""
    if torch.device(device).type == "cpu":
        return FastSynthesis(generator.synthesis)
    return lambda w, noise: generator.synthesis(w, list(noise) or "const")


def _silent(done: int, total: int) -> None:
    """Nobody asked."""
