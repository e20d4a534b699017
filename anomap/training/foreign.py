"""A bundle from somebody else's StyleGAN2-ADA pickle: read, check, measure W, describe what is not known.

What is lacking stays lacking and is said: there is no cohort, so results are UNCALIBRATED, and no encoder unless
one is trained on generated pictures.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

import torch
from torch import nn

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.bundle import BundleInfo, file_sha256, read_info, write_bundle
from anomap.errors import AnomapError
from anomap.networks.ops import Conv2d
from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig, SynthesisLayer, ToRGB
from anomap.output import STAGING_PREFIX, writing
from anomap.projection import measure_w
from anomap.training.config import TrainConfig
from anomap.training.encoder import EncoderConfig, train_encoder
from anomap.training.recipe import Recipe, Report, inference_config, monai_metadata
from anomap.training.sheet import contact_sheet
from anomap.training.train import sample
from anomap.types import Float32
from anomap.weights.architecture import (
    clamp_limit,
    grey_discriminator,
    grey_generator,
    network_shape,
    parameters,
    unsupported,
)
from anomap.weights.stylegan2_ada import Network, read_networks

MAX_COLOUR = 0.1  # root mean square of a channel's distance from the mean of the three; the grey range is 2
CHECKED_SAMPLES = 4  # a picture of 512 pixels takes seconds on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What to import and what its user knows of it."""

    file: Path
    name: str  # of the bundle: models/<name>
    models: Path
    kind: Literal["radiograph", "ct"] = "radiograph"
    version: str = "0.1.0"
    body_part: str = ""
    population: str = "not described"
    fit: Literal["pad", "squeeze", "body"] = "pad"
    window: int = 0
    encoder_kimg: float = 0.0


def import_pickle(wanted: Foreign, report: Report = print) -> BundleInfo:
    """Write a bundle from a StyleGAN2-ADA pickle without executing anything of it.

    Args:
        wanted: The file and its description.
        report: Receives figures while an encoder is trained.

    Returns:
        The finished bundle.

    Raises:
        AnomapError: E100 no file; E200 bad name; E201 the bundle exists; E202 not writable; E304 the file is refused;
            E305 the network is none of ours.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", wanted.name):
        raise AnomapError("E200", "a bundle's name has letters, digits, dots and dashes only")
    folder = wanted.models / wanted.name
    if folder.exists():
        raise AnomapError("E201", f"a bundle named {wanted.name!r} exists", "Choose another --name.")
    networks = read_networks(wanted.file)
    generator, facts = build_generator(networks["G_ema"])
    discriminator, reason = build_discriminator(networks.get("D"), generator.config)
    facts |= {"discriminator": reason, "file_sha256": file_sha256(wanted.file)}
    with writing():
        wanted.models.mkdir(parents=True, exist_ok=True)
        # One level deeper than bundles lie, so that nobody lists it before it is whole.
        with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=wanted.models) as staging:
            made = Path(staging) / wanted.name
            _write(made, wanted, generator, discriminator, facts, report)
            made.replace(folder)
    return read_info(folder)


def build_generator(network: Network) -> tuple[Generator, dict[str, Any]]:
    """The generator with one channel, and what was found out about it.

    Raises:
        AnomapError: E305 when it differs from ours, shows colours, or relies on cut-off activations.
    """
    config = NetworkConfig(**network_shape(network))
    generator = Generator(config)
    state = parameters(network, _shapes(generator))
    _load(generator, state)
    pictures = torch.from_numpy(sample(generator, CHECKED_SAMPLES))
    colour = float((pictures - pictures.mean(dim=1, keepdim=True)).square().mean().sqrt())
    if colour > MAX_COLOUR:
        raise unsupported(f"its pictures are coloured (channels {colour:.2f} apart), expected grey")
    peak, limit = _peak(generator), clamp_limit(network)
    if peak >= limit:
        raise unsupported(f"its activations are cut off at {limit:g} in training, which anomap does not do")
    if config.channels == 3:
        generator = Generator(replace(config, channels=1))
        _load(generator, grey_generator(state))
    return generator, {"channels_in_file": config.channels, "colour_rms": round(colour, 4)}


def build_discriminator(network: Network | None, config: NetworkConfig) -> tuple[Discriminator | None, str]:
    """The discriminator when it fits, and why not otherwise: only preset ``paper`` needs it."""
    if network is None:
        return None, "not in the file"
    channels = next((v.shape[1] for k, v in network.tensors.items() if k.endswith("fromrgb.weight") and v.ndim == 4), 1)
    discriminator = Discriminator(replace(config, channels=channels))
    try:
        state = parameters(network, _shapes(discriminator))
        if channels == 3:
            discriminator, state = Discriminator(config), grey_discriminator(state)
    except AnomapError as error:
        return None, f"left out: {error.message}"
    _load(discriminator, state)
    return discriminator, "imported"


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _load(network: nn.Module, state: Mapping[str, Float32]) -> None:
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    network.eval().requires_grad_(False)


def _peak(generator: Generator) -> float:
    """The largest activation after any convolution over a few random pictures."""
    peaks = [0.0]
    hooks = [
        layer.register_forward_hook(lambda _layer, _given, out: peaks.append(float(out.abs().max())))
        for layer in generator.modules()
        if isinstance(layer, SynthesisLayer | ToRGB | Conv2d)
    ]
    sample(generator, CHECKED_SAMPLES)
    for hook in hooks:
        hook.remove()
    return max(peaks)


def _write(
    folder: Path,
    wanted: Foreign,
    generator: Generator,
    discriminator: Discriminator | None,
    facts: Mapping[str, Any],
    report: Report,
) -> None:
    """Weights, metadata, licence note, model card and samples into a new folder."""
    encoder = None
    if wanted.encoder_kimg > 0:
        settings = EncoderConfig(kimg=wanted.encoder_kimg)
        encoder = train_encoder(sample(generator, 1000), generator, discriminator, settings, report)
    recipe = Recipe(
        data=Path(),
        name=wanted.name,
        models=wanted.models,
        kind=wanted.kind,
        version=wanted.version,
        body_part=wanted.body_part,
        population=wanted.population,
        fit=wanted.fit,
        window=wanted.window,
        training=TrainConfig(network=generator.config),
    )
    info = write_bundle(
        folder,
        metadata=monai_metadata(recipe) | {"authors": "not stated in the file", "copyright": "not stated in the file"},
        section={
            "modalities": ["CT"] if wanted.kind == "ct" else ["CR", "DX"],
            "body_part": wanted.body_part,
            "population": wanted.population,
            "window": wanted.window or recipe.spec.size // 16,
            "levels": 256,
            "training": {"imported": dict(facts), "encoder_kimg": wanted.encoder_kimg, "software": _SOFTWARE},
        },
        spec=recipe.spec,
        generator=generator,
        encoder=encoder,
        discriminator=discriminator,
        w_statistics=measure_w(generator),
    )
    (folder / "configs" / "inference.json").write_text(json.dumps(inference_config(recipe), indent=2) + "\n")
    (folder / "LICENSE").write_text(files("anomap").joinpath("training/foreign_license.txt").read_text())
    (folder / "docs").mkdir()
    count = max(4, min(48, math.ceil((1024 / generator.config.resolution) ** 2)))
    contact_sheet(sample(generator, count)[:, 0], columns=min(count, 12)).save(folder / "docs" / "samples.png")
    (folder / "docs" / "README.md").write_text(_card(info, facts, encoder_kimg=wanted.encoder_kimg))


_SOFTWARE = f"anomap {__version__}"


def _card(info: BundleInfo, facts: Mapping[str, Any], encoder_kimg: float) -> str:
    """The model card: what is known, and that the rest is not."""
    template = Template(files("anomap").joinpath("training/foreign_card.md").read_text())
    encoder = f"trained by anomap for {encoder_kimg:g} kimg on generated pictures" if encoder_kimg else "none"
    return template.substitute(
        asdict(info.spec),
        **facts,
        name=info.name,
        notice=NOT_A_DIAGNOSIS,
        population=info.population,
        sha256=info.sha256[:12],
        encoder=encoder,
        window=info.window,
    )
