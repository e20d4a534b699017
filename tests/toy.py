"""A toy model: random weights at 32 pixels. Right in form, meaningless in content, loaded in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from anomap.bundle import BundleInfo, write_bundle, write_cohort
from anomap.calibration import COMBINES
from anomap.networks.encoder import Encoder
from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
from anomap.projection import measure_features, measure_w
from anomap.scoring import SCORES
from anomap.types import Cohort, PreprocessSpec

TOY = NetworkConfig(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)


def write_toy_bundle(folder: Path, spec: PreprocessSpec, modalities: tuple[str, ...], body_part: str) -> BundleInfo:
    """A bundle with random weights and a made-up cohort: right in form, meaningless in content."""
    torch.manual_seed(0)
    generator = Generator(TOY).eval().requires_grad_(False)
    encoder, discriminator = Encoder(TOY), Discriminator(TOY)
    pictures = generator(torch.randn(40, TOY.z_dim), noise="const").clamp(-1, 1).numpy()
    info = write_bundle(
        folder,
        metadata={"name": folder.name, "version": "0.0.1", "description": "toy"},
        section={
            "modalities": modalities,
            "body_part": body_part,
            "population": "no patients: random weights",
            "window": 4,
            "levels": 256,
            "training": {"kimg": 0},
        },
        spec=spec,
        generator=generator,
        encoder=encoder,
        discriminator=discriminator,
        w_statistics=measure_w(generator, samples=500),
        feature_statistics=measure_features(pictures, discriminator),
    )
    rng = np.random.default_rng(0)
    cohort = Cohort(
        scores=rng.gamma(2.0, 10.0, (40, len(SCORES))),
        names=tuple(SCORES),
        patients=tuple(f"p{i // 2}" for i in range(40)),
        bundle_sha256=info.sha256,
        description="toy cohort, random numbers",
        region_threshold=60.0,
        combines=COMBINES[spec.kind],
    )
    write_cohort(info, cohort)
    return info
