"""All settings of training a generator, and the presets: one for each budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import NetworkConfig
from anomap.training.augment import AugmentConfig

PresetName = Literal["cpu-64", "cpu-128", "gpu-128", "gpu-256", "paper-512"]

# Settings that don't change what is learned: a run may go on with other values of these.
FREE = ("kimg", "minutes", "threads", "device", "snapshot_kimg", "frechet_kimg", "frechet_samples", "choose")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and how. The defaults are preset cpu-64, a useful 64-pixel model from a CPU."""

    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(
            resolution=64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=1024, channel_max=128
        )
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    kimg: float = 300.0  # thousands of real images shown in all
    batch: int = 32  # images a step, over all processes
    batch_per_pass: int = 0  # images in memory at a time; 0: the process's whole share
    learning_rate: float = 0.0025  # Adam, both networks
    adam_beta1: float = 0.0  # 0 as in StyleGAN2
    r1_gamma: float = 0.1  # gradient penalty on real images; small pictures need little
    r1_interval: int = 16  # every so many steps, with so much more weight
    path_length_weight: float = 0.0  # 2 as published; off, because it costs a fifth of the time on a CPU
    path_length_interval: int = 4
    ema_kimg: float = 5.0  # half-life of the average of the generator's weights
    ema_rampup: float = 0.05  # ... but no longer than this share of the images seen
    style_mixing: float = 0.5  # probability of two latents for the pictures of a pass
    bf16: Literal["auto", "on", "off"] = "auto"  # convolutions in bfloat16; auto: where the device has units for it
    seed: int = 0
    threads: int = 0  # CPU threads, 0 = torch's choice
    minutes: float = math.inf  # stop after so much time in this call (resume by calling again)
    snapshot_kimg: float = 10.0  # a row of the curves, samples and a checkpoint this often
    frechet_kimg: float = 20.0  # Fréchet distance with a row this often; 0: never
    frechet_samples: int = 1000  # generated images behind it
    choose: Literal["last", "best"] = "last"  # what is packaged: the last average, or that of least Fréchet distance
    device: str = "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """Of the convolutions. Penalties are always in float32."""
        wanted = has_bf16_units(self.device) if self.bf16 == "auto" else self.bf16 == "on"
        return torch.bfloat16 if wanted else torch.float32

    def binding(self) -> dict[str, Any]:
        """The settings that a checkpoint and the run that goes on from it must share, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}

    def pass_size(self, processes: int) -> int:
        """Images of one pass when so many processes share a batch.

        Raises:
            AnomapError: E200 when the batch can't be divided so.
        """
        size = self.batch_per_pass or self.batch // processes
        if size < 1 or self.batch % (size * processes):
            raise AnomapError(
                "E200",
                f"a batch of {self.batch} can't be divided into passes of {size} images over {processes} process(es)",
                "Choose --training.batch as a multiple of --training.batch-per-pass times the processes.",
            )
        return size


def has_bf16_units(device: str) -> bool:
    """Whether bfloat16 pays on `device`: AMX or AVX512-BF16 on a CPU; without them it is many times slower."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private in torch 2.13, the version pinned
    return any(getattr(torch.cpu, name)() for name in tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings for one budget.

    Attributes:
        about: What it is for, one line.
        training: All settings; any of them can be overridden on the command line.
    """

    about: str
    training: TrainConfig


def _gpu(resolution: int, latent: int, **settings: Any) -> TrainConfig:
    network = NetworkConfig(
        resolution=resolution, z_dim=latent, w_dim=latent, mapping_layers=8, channel_base=8192, channel_max=latent
    )
    return TrainConfig(
        network=network,
        r1_gamma=0.0002 * resolution**2 / 32,  # the published rule of thumb for a batch of 32
        path_length_weight=2.0,
        style_mixing=0.9,
        device="cuda",
        frechet_samples=5000,
        **settings,
    )


PRESETS: dict[PresetName, Preset] = {
    "cpu-64": Preset(about="64 pixels, compact networks, on a CPU", training=TrainConfig()),
    "cpu-128": Preset(
        about="128 pixels, compact networks, on a CPU; give it a trained 64-pixel model with --init",
        training=TrainConfig(
            network=NetworkConfig(
                resolution=128, z_dim=128, w_dim=128, mapping_layers=4, channel_base=1024, channel_max=128
            ),
            r1_gamma=0.2,
        ),
    ),
    "gpu-128": Preset(
        about="128 pixels, compact networks, one GPU", training=_gpu(128, 256, kimg=1000.0, ema_kimg=10.0)
    ),
    "gpu-256": Preset(
        about="256 pixels, compact networks, one GPU or more",
        training=_gpu(256, 512, kimg=2000.0, ema_kimg=10.0, batch_per_pass=16),
    ),
    "paper-512": Preset(  # Woodland et al. 2025; docs/training.md says what differs
        about="512 pixels as published (configuration F, 25,000 kimg), eight GPUs",
        training=TrainConfig(
            network=NetworkConfig(),
            augment=AugmentConfig(adjust_kimg=500.0),
            kimg=25_000.0,
            batch_per_pass=4,
            learning_rate=0.002,
            adam_beta1=0.9,
            r1_gamma=10.0,
            path_length_weight=2.0,
            ema_kimg=10.0,
            style_mixing=0.9,
            bf16="off",
            snapshot_kimg=50.0,
            frechet_kimg=200.0,
            frechet_samples=10_000,
            choose="best",
            device="cuda",
        ),
    ),
}
