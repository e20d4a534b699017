"""Start from a trained model instead of noise: of the same side, or doubled until it has the wanted one.

A doubled network computes at first what the small one did: the generator its picture, enlarged; the discriminator its
answer on the picture, halved. Training then begins with what coarse layers know already, as progressive growing does
(Karras et al. 2018), but in one go: residual branches that begin at zero need no fading in (Goyal et al. 2017,
arXiv 1706.02677, section 5.1, begin theirs so).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from anomap.bundle import load_bundle
from anomap.errors import AnomapError
from anomap.networks.encoder import Encoder
from anomap.networks.ops import lrelu
from anomap.networks.stylegan2 import Discriminator, DiscriminatorBlock, Generator, NetworkConfig, SynthesisBlock
from anomap.training.checkpoint import State
from anomap.types import PreprocessSpec

Tower = TypeVar("Tower", Discriminator, Encoder)
_REACH = 1.2  # grey values over which the first layers of both discriminators agree; augmentation leaves [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run begins with.

    Attributes:
        name: Of the bundle.
        sha256: Of the bundle; a run goes on only with the same.
        kimg: Thousands of images the bundle's training had shown.
        augment_p: Probability of the augmentation it ended with; 0 when unknown.
        generator: Of the wanted shape.
        discriminator: Of the wanted shape.
        encoder: Of the wanted shape; None where the bundle has none.
    """

    name: str
    sha256: str
    kimg: float
    augment_p: float
    generator: Generator
    discriminator: Discriminator
    encoder: Encoder | None

    def enter(self, state: State) -> None:
        """Put networks, probability and count of images into a fresh state; the optimisers begin anew."""
        state.generator.load_state_dict(self.generator.state_dict())
        state.average.load_state_dict(self.generator.state_dict())
        state.discriminator.load_state_dict(self.discriminator.state_dict())
        state.augment_p = self.augment_p
        state.head_start = round(self.kimg * 1000)


def start_from(folder: Path, wanted: NetworkConfig, spec: PreprocessSpec) -> Start:
    """Networks for a training of `wanted` and `spec` from a bundle.

    Args:
        folder: Of the bundle.
        wanted: Shape; only its side may be larger than the bundle's.
        spec: Preprocessing; only its size may differ.

    Raises:
        AnomapError: E200 when shape or preprocessing don't fit, or the bundle has no discriminator; as `load_bundle`.
    """
    bundle = load_bundle(folder)
    have = bundle.generator.config
    if bundle.discriminator is None:
        raise AnomapError("E200", f"bundle {bundle.info.name!r} has no discriminator to go on with")
    if replace(have, resolution=wanted.resolution) != wanted or have.resolution > wanted.resolution:
        raise AnomapError(
            "E200",
            f"bundle {bundle.info.name!r} has networks of another shape than --training.network asks for",
            "Give the settings in its metadata (training, settings, network); only the resolution may be larger.",
        )
    if replace(bundle.spec, size=spec.size) != spec:
        raise AnomapError(
            "E200",
            f"bundle {bundle.info.name!r} prepares images in another way",
            "Give the --kind and --fit it was trained with.",
        )
    generator, discriminator, encoder = bundle.generator, bundle.discriminator, bundle.encoder
    while generator.config.resolution < wanted.resolution:
        generator, discriminator = double_generator(generator), double_discriminator(discriminator)
        encoder = encoder and double_encoder(encoder)
    facts = bundle.info.training
    return Start(
        name=bundle.info.name,
        sha256=bundle.info.sha256,
        kimg=float(facts.get("kimg", 0)),
        augment_p=float(facts.get("augment_p", 0)),
        generator=generator,
        discriminator=discriminator,
        encoder=encoder,
    )


@torch.no_grad()
def double_generator(small: Generator) -> Generator:
    """A generator of twice the side that draws what `small` draws, enlarged by the skip connection's filter."""
    config = replace(small.config, resolution=2 * small.config.resolution)
    large = Generator(config)
    large.load_state_dict({**large.state_dict(), **small.state_dict()})
    block: SynthesisBlock = getattr(large.synthesis, f"b{config.resolution}")
    block.torgb.weight.zero_()
    return large


@torch.no_grad()
def double_discriminator(small: Discriminator) -> Discriminator:
    """A discriminator of twice the side that answers on a picture nearly as `small` does on its half.

    `small` begins with one curve of the grey value a feature. The new first block takes over that part: its 1x1
    convolutions draw piecewise linear functions, its residual branch begins at zero, its shortcut mixes and halves.
    Halving after the curve instead of before is what differs, where a picture has edges.

    Raises:
        AnomapError: E200 for colour images.
    """
    return _doubled(small, Discriminator(replace(small.config, resolution=2 * small.config.resolution)))


@torch.no_grad()
def double_encoder(small: Encoder) -> Encoder:
    """An encoder of twice the side that finds nearly the w in a picture that `small` finds in its half.

    Raises:
        AnomapError: As `double_discriminator`, whose tower it shares.
    """
    return _doubled(small, Encoder(replace(small.config, resolution=2 * small.config.resolution)))


def _doubled(small: Tower, large: Tower) -> Tower:
    """`large` with all that `small` knows, and a first block that takes over where `small` begins."""
    if small.config.channels != 1:
        raise AnomapError("E200", "only networks of one image channel can be doubled")
    config = large.config
    block: DiscriminatorBlock = getattr(large, f"b{config.resolution}")
    old, new = small.state_dict(), f"b{config.resolution}"
    first = f"b{small.config.resolution}.fromrgb"
    slope, offset = old.pop(f"{first}.weight")[:, 0, 0, 0], old.pop(f"{first}.bias")  # its weight gain is 1
    knots = _knots(-offset / slope, config.width(config.resolution))
    mixing = _mixing(slope, offset, knots) / (block.skip.weight_gain * math.sqrt(0.5))
    begin = {
        f"{new}.fromrgb.weight": torch.ones_like(block.fromrgb.weight),
        f"{new}.fromrgb.bias": -knots,
        f"{new}.conv1.weight": torch.zeros_like(block.conv1.weight),
        f"{new}.skip.weight": mixing[:, :, None, None],
    }
    large.load_state_dict({**large.state_dict(), **old, **begin})
    return large


def _knots(kinks: Tensor, count: int) -> Tensor:
    """``[count]``: where ramps begin. Two outside make constants and straight lines, the others lie among `kinks`."""
    inside = kinks.clamp(-_REACH, _REACH).quantile(torch.linspace(0, 1, count)[1:-1])
    return torch.cat([torch.tensor([-2 * _REACH, -_REACH]), inside])


def _mixing(slope: Tensor, offset: Tensor, knots: Tensor) -> Tensor:
    """``[O, K]``: how the leaky ramps that begin at K `knots` add up to O of ``lrelu(slope * grey + offset)``."""
    grey = torch.linspace(-_REACH, _REACH, 241)[:, None]
    ramps, curves = lrelu(grey - knots), lrelu(grey * slope + offset)
    mixing: Tensor = torch.linalg.lstsq(ramps, curves).solution
    return mixing.T
