"""From a folder of normal images to a bundle: train, encode, package, measure the cohort.

The same command resumes an interrupted run: the generator goes on from its checkpoint. Every other stage takes
minutes and is done anew. Under torchrun all processes train, and process 0 does the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.bundle import METADATA, WEIGHTS, BundleInfo, load_bundle, write_bundle, write_cohort
from anomap.evaluation.cohort import measure_cohort
from anomap.evaluation.frechet import FrechetReport, TorchScriptFeatures, frechet_report
from anomap.projection import measure_features, measure_w
from anomap.projection.schedule import FAST
from anomap.training.checkpoint import State
from anomap.training.config import PresetName, TrainConfig
from anomap.training.data import ImageSet, load_images
from anomap.training.encoder import EncoderConfig, train_encoder
from anomap.training.grow import Start, start_from
from anomap.training.sheet import contact_sheet
from anomap.training.train import chosen, sample, train
from anomap.types import PreprocessSpec

# Where MONAI keeps the schema of metadata.json; `monai.bundle verify_metadata` fetches it, anomap never does.
MONAI_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a bundle is made from; ``anomap train`` takes these as options."""

    data: Path  # folder with manifest.csv (splits train and val), or of DICOM files
    name: str  # of the bundle: models/<name>
    models: Path = Path("models")  # where the bundle is written
    runs: Path = Path("runs")  # where checkpoints, curves and samples go
    kind: Literal["radiograph", "ct"] = "radiograph"
    version: str = "0.1.0"  # of the bundle
    body_part: str = ""  # DICOM Body Part Examined the model is for; empty: any
    population: str = "not described"  # one sentence on the training images, for the model card
    fit: Literal["pad", "squeeze", "body"] = "pad"  # how a frame meets the square (see PreprocessSpec)
    window: int = 0  # side of the scored windows in model pixels; 0: a sixteenth of the side
    features: Path | None = None  # TorchScript feature network for the Fréchet distance (see docs/training.md)
    init: Path | None = None  # folder of a bundle to start from, of the same side or a smaller one
    preset: PresetName = "cpu-64"  # defaults of all --training settings: cpu-64, cpu-128, gpu-128, gpu-256, paper-512
    training: TrainConfig = field(default_factory=TrainConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def spec(self) -> PreprocessSpec:
        """Preprocessing of the bundle."""
        return PreprocessSpec(
            kind=self.kind,
            size=self.training.network.resolution,
            fit=self.fit,
            mask_outside_body=self.kind == "ct",
        )


def run(recipe: Recipe, report: Report = print) -> BundleInfo | None:
    """Train and package.

    Args:
        recipe: All settings; stored in the bundle's metadata.
        report: Receives figures as stages go on.

    Returns:
        The finished bundle; None in all processes of torchrun but the first.

    Raises:
        AnomapError: E100 when there are no images; E302 when settings don't fit each other; and as
            `anomap.training.grow.start_from` and `anomap.training.train.train`.
    """
    start = start_from(recipe.init, recipe.training.network, recipe.spec) if recipe.init else None
    normal = load_images(recipe.data, recipe.spec, "train", "normal")
    features = TorchScriptFeatures(recipe.features, recipe.training.device) if recipe.features else None
    folder = recipe.runs / recipe.name
    state = chosen(train(normal.images, recipe.training, folder, report, features, start), recipe.training, folder)
    if os.environ.get("RANK", "0") != "0":
        return None
    return package(recipe, normal, state, start, report)


def package(
    recipe: Recipe, normal: ImageSet, state: State, start: Start | None = None, report: Report = print
) -> BundleInfo:
    """Everything after the generator: encoder, statistics, files, samples, cohort."""
    images = normal.images
    device = str(state.average.mapping.w_avg.device)
    generator, discriminator = state.average.cpu(), state.discriminator.cpu()
    generator.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    begun = None if start is None else start.encoder
    encoder = train_encoder(images, generator, discriminator, recipe.encoder, report, begun, device)
    folder = recipe.models / recipe.name
    fakes = sample(generator, max(min(len(images), 10_000), 1000))
    facts = training_facts(recipe, len(images), state, frechet_report(images, fakes))
    if start is not None:
        facts["init"] = {"name": start.name, "sha256": start.sha256, "kimg": start.kimg}
    if recipe.features:
        by_file = frechet_report(images, fakes, features=TorchScriptFeatures(recipe.features))
        digest = hashlib.sha256(recipe.features.read_bytes()).hexdigest()
        facts["frechet_file"] = {"sha256": digest, **_rounded(by_file)}
    info = write_bundle(
        folder,
        metadata=monai_metadata(recipe),
        section={
            "modalities": ["CT"] if recipe.kind == "ct" else ["CR", "DX"],
            "body_part": recipe.body_part,
            "population": recipe.population,
            "window": recipe.window or recipe.spec.size // 16,
            "levels": 256,
            "training": facts,
        },
        spec=recipe.spec,
        generator=generator,
        encoder=encoder,
        discriminator=discriminator,
        w_statistics=measure_w(generator),
        feature_statistics=measure_features(images, discriminator, normal.patients),
    )
    (folder / "docs").mkdir(exist_ok=True)
    contact_sheet(sample(generator, 48)[:, 0], columns=12).save(folder / "docs" / "samples.png")
    (folder / "LICENSE").write_text(files("anomap").joinpath("training/bundle_license.txt").read_text())
    (folder / "configs" / "inference.json").write_text(json.dumps(inference_config(recipe), indent=2) + "\n")
    refresh_cohort(folder, recipe.data)
    return info


def refresh_cohort(folder: Path, data: Path) -> None:
    """Measure the reference cohort of a bundle anew on the normal images of split "val"."""
    bundle = load_bundle(folder)
    normal = load_images(data, bundle.spec, "val", "normal")
    write_cohort(bundle.info, measure_cohort(bundle, normal, FAST))


def refresh_features(folder: Path, data: Path) -> BundleInfo:
    """Measure the features of a bundle's training images anew, as after a change of `measure_features`, and the cohort.

    Weights and facts stay; the hash is another one.
    """
    bundle = load_bundle(folder)
    assert bundle.discriminator is not None  # noqa: S101 (bundles that were trained here have one)
    metadata = json.loads((folder / METADATA).read_text())
    section = metadata.pop("anomap")
    normal = load_images(data, bundle.spec, "train", "normal")
    info = write_bundle(
        folder,
        metadata=metadata,
        section=section,
        spec=bundle.spec,
        generator=bundle.generator,
        encoder=bundle.encoder,
        discriminator=bundle.discriminator,
        w_statistics=bundle.w_statistics,
        feature_statistics=measure_features(normal.images, bundle.discriminator, normal.patients),
    )
    refresh_cohort(folder, data)
    return info


def training_facts(recipe: Recipe, count: int, state: State, distances: FrechetReport) -> dict[str, Any]:
    """What the model card says of the training, as JSON values without paths."""
    settings = asdict(recipe)
    for name in ("data", "models", "runs", "init", "features", "population"):
        settings.pop(name)
    settings["training"]["minutes"] = None  # how one call was cut short says nothing of the model
    return {
        "images": count,
        "kimg": round(state.images / 1000, 1),
        "augment_p": round(state.augment_p, 3),
        "settings": json.loads(json.dumps(settings, default=str)),
        "frechet_pca": _rounded(distances),
        "software": f"anomap {__version__}",
        "machine": f"{platform.machine()}, {recipe.training.threads or torch.get_num_threads()} CPU threads",
    }


def _rounded(distances: FrechetReport) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(distances).items()}


def monai_metadata(recipe: Recipe) -> dict[str, Any]:
    """The keys of a MONAI Bundle's metadata.json that are not ours."""
    size = recipe.training.network.resolution
    picture = {
        "type": "image",
        "format": "hounsfield" if recipe.kind == "ct" else "magnitude",
        "num_channels": 1,
        "spatial_shape": [size, size],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
        "channel_def": {"0": "image"},
    }
    latent = {
        "type": "noise",
        "format": "latent",
        "num_channels": recipe.training.network.z_dim,
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
    }
    return {
        "schema": MONAI_SCHEMA,
        "name": recipe.name,
        "version": recipe.version,
        "changelog": {recipe.version: "first version"},
        "monai_version": "1.6.1",
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"safetensors": version("safetensors")},
        "task": "Anomaly scoring by projection into a generative model",
        "description": f"StyleGAN2 of {recipe.population}. {NOT_A_DIAGNOSIS}",
        "authors": "anomap contributors",
        "copyright": "anomap contributors",
        "intended_use": NOT_A_DIAGNOSIS,
        "network_data_format": {"inputs": {"latent": latent}, "outputs": {"pred": picture}},
    }


def inference_config(recipe: Recipe) -> dict[str, Any]:
    """A MONAI config that loads the generator and renders samples; anomap itself never reads it."""
    network = asdict(recipe.training.network)
    state = "{k[10:]: v for k, v in load_file(@weights_file).items() if k.startswith('generator.')}"
    return {
        "imports": ["$from pathlib import Path", "$import torch", "$from safetensors.torch import load_file"],
        "bundle_root": ".",
        "weights_file": f"$Path(@bundle_root) / '{WEIGHTS}'",
        "network_config": {"_target_": "anomap.networks.stylegan2.NetworkConfig", **network},
        "network_def": {"_target_": "anomap.networks.stylegan2.Generator", "config": "@network_config"},
        "initialize": [f"$@network_def.load_state_dict({state})"],
        "latent": f"$torch.randn(4, {network['z_dim']})",
        "samples": "$@network_def(@latent)",
    }
