"""Schedules and settings of a projection.

The numbers of preset ``paper`` are those of the reference projector (Karras et al. 2020, appendix D, as used by
Woodland et al. 2025): tests compare them with published parity values.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from anomap.errors import AnomapError

Start = Literal["mean", "library", "encoder"]
LossName = Literal["pyramid", "discriminator", "vgg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionConfig:
    """How an image is fitted. Defaults are preset ``fast``."""

    preset: str = "fast"  # name under which these settings are reported
    steps: int = 30  # more is not better: a long fit starts to paint gross anomalies
    learning_rate: float = 0.05  # Adam, betas (0.9, 0.999)
    rampup: float = 0.0  # share of the steps with a linearly rising rate; the reference's first step moves nothing
    rampdown: float = 0.25  # share of the steps with a rate falling along a cosine
    start: Start = "encoder"  # first w: the encoder's, the nearest of a library of samples, or the mean of W
    w_noise: float = 0.0  # noise on w in units of its spread, fading out over ...
    w_noise_ramp: float = 0.75  # ... this share of the steps
    optimise_noise: bool = False  # fit the noise maps too; they are *never* used for the scored image
    noise_weight: float = 1e5  # keeps fitted noise maps white
    prior_weight: float = 0.004  # Mahalanobis pull to the training cloud: keeps the distance of w telling
    loss: LossName = "pyramid"
    loss_file: Path | None = None  # TorchScript VGG16/LPIPS features for loss "vgg"; yours to supply
    stop_gain: float | None = None  # an image is finished when its loss falls by a smaller share within ...
    stop_every: int = 8  # ... so many steps
    clear_mse: float | None = None  # a start that misses by more, in [-1, 1] squared, is kept: clearly odd already
    batch_size: int | None = None  # images fitted together; None: as many as the memory allows, and no more than helps

    def __post_init__(self) -> None:
        if self.steps < 0 or (self.batch_size is not None and self.batch_size < 1):
            raise AnomapError("E200", f"steps must be >= 0 and batch size >= 1, got {self.steps} and {self.batch_size}")
        if self.stop_every < 1:
            raise AnomapError("E200", f"an image is looked at every 1 or more steps, got {self.stop_every}")
        if self.loss == "vgg" and self.loss_file is None:
            raise AnomapError("E200", "loss 'vgg' needs a loss file (TorchScript VGG16 features)")


FAST = ProjectionConfig()
PAPER = ProjectionConfig(
    preset="paper",
    steps=1000,
    learning_rate=0.1,
    rampup=0.05,
    rampdown=0.25,
    start="mean",
    w_noise=0.05,
    w_noise_ramp=0.75,
    optimise_noise=True,
    noise_weight=1e5,
    prior_weight=0.0,
    loss="discriminator",
)
PRESETS = {"fast": FAST, "paper": PAPER}


def preset(name: str, *, steps: int | None = None, batch_size: int | None = None) -> ProjectionConfig:
    """A preset by name, with its number of steps or its batch size replaced if wanted.

    Raises:
        AnomapError: E200 for an unknown name.
    """
    if name not in PRESETS:
        raise AnomapError("E200", f"unknown preset {name!r}, expected one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    return replace(
        config,
        steps=config.steps if steps is None else steps,
        batch_size=config.batch_size if batch_size is None else batch_size,
    )


def learning_rate(step: int, config: ProjectionConfig) -> float:
    """Rate at `step` (from 0): linear rise, plateau, cosine fall."""
    t = step / config.steps
    fall = min(1.0, (1.0 - t) / config.rampdown) if config.rampdown > 0 else 1.0
    fall = 0.5 - 0.5 * math.cos(fall * math.pi)
    rise = min(1.0, t / config.rampup) if config.rampup > 0 else 1.0
    return config.learning_rate * fall * rise


def w_noise_factor(step: int, config: ProjectionConfig) -> float:
    """Noise on w at `step`, in units of the spread of W."""
    t = step / config.steps
    return config.w_noise * max(0.0, 1.0 - t / config.w_noise_ramp) ** 2


def seed_of(frame_id: str) -> int:
    """The seed of an image, from its own name alone: 63 bits of SHA-256.

    A result therefore never depends on batch, folder order or neighbours.
    """
    return int.from_bytes(hashlib.sha256(frame_id.encode()).digest()[:8], "big") >> 1
