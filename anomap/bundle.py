"""Pretrained models: one MONAI Bundle a folder, weights as safetensors, every file hashed.

    models/<name>/configs/metadata.json   what it is; the key "anomap" holds what this program needs
                  configs/cohort.json     scores of normal images, the reference of p-values
                  configs/inference.json  for MONAI tools only; never read here (MONAI evaluates "$" expressions)
                  models/*.safetensors    generator, encoder, statistics of W and of features; discriminator
                  docs/README.md          model card

Listing and verifying need no torch; only `load_bundle` imports it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomap.calibration import COMBINES, cohort_from_dict, cohort_to_dict
from anomap.errors import AnomapError
from anomap.types import Cohort, PreprocessSpec

if TYPE_CHECKING:
    from torch import Tensor

    from anomap.networks.encoder import Encoder
    from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
    from anomap.projection import FeatureStatistics, WStatistics

FORMAT = "anomap.bundle/1"
METADATA = "configs/metadata.json"
COHORT = "configs/cohort.json"
WEIGHTS = "models/model.safetensors"
DISCRIMINATOR = "models/discriminator.safetensors"
MAX_METADATA_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """A bundle as its metadata describes it; no weights are read.

    Attributes:
        folder: Where it lies.
        name, version: Identity for people.
        sha256: Identity for machines: covers weights, preprocessing and network shape.
        modalities: DICOM modalities it was made for, e.g. ("CR", "DX").
        body_part: DICOM Body Part Examined, "" when any.
        population: One sentence on the training images.
        spec: Preprocessing.
        window: Side of the scored windows in model pixels.
        levels: Grey levels images are compared at.
        network: Arguments of `NetworkConfig`.
        files: Relative path -> sha256.
        training: Facts of the training run (kimg, seconds, command).
    """

    folder: Path
    name: str
    version: str
    sha256: str
    modalities: tuple[str, ...]
    body_part: str
    population: str
    spec: PreprocessSpec
    window: int
    levels: int
    network: Mapping[str, int]
    files: Mapping[str, str]
    training: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle ready to use: frozen networks on a device and the reference cohort."""

    info: BundleInfo
    generator: Generator
    discriminator: Discriminator | None
    encoder: Encoder | None
    w_statistics: WStatistics
    feature_statistics: FeatureStatistics | None
    cohort: Cohort | None
    device: str

    @property
    def spec(self) -> PreprocessSpec:
        """Preprocessing of this model."""
        return self.info.spec

    @property
    def combines(self) -> tuple[str, ...]:
        """The scores behind "combined": those its cohort names, without one those of a new model of its kind."""
        return COMBINES[self.spec.kind] if self.cohort is None else self.cohort.combines


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bundle_sha256(section: Mapping[str, Any]) -> str:
    """Hash of the "anomap" section in canonical JSON; with it, of all weights and of the preprocessing."""
    text = json.dumps({k: v for k, v in section.items() if k != "sha256"}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_info(folder: Path) -> BundleInfo:
    """Read a bundle's metadata.

    Raises:
        AnomapError: E300 when there is no bundle, E302 when the metadata are not ours, not valid, or altered.
    """
    path = folder / METADATA
    if not path.is_file():
        raise AnomapError("E300", f"no bundle named {folder.name!r} ({METADATA} not found)")
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise AnomapError("E302", f"metadata of bundle {folder.name!r} are larger than {MAX_METADATA_BYTES} bytes")
    try:
        metadata = json.loads(path.read_text())
        section = metadata["anomap"]
        if section["format"] != FORMAT:
            raise AnomapError("E302", f"bundle {folder.name!r} has format {section['format']!r}, expected {FORMAT!r}")
        spec = dict(section["preprocessing"])
        spec["percentiles"] = tuple(spec["percentiles"])
        info = BundleInfo(
            folder=folder,
            name=str(metadata["name"]),
            version=str(metadata["version"]),
            sha256=bundle_sha256(section),
            modalities=tuple(section["modalities"]),
            body_part=str(section["body_part"]),
            population=str(section["population"]),
            spec=PreprocessSpec(**spec),
            window=int(section["window"]),
            levels=int(section["levels"]),
            network=dict(section["network"]),
            files=dict(section["files"]),
            training=dict(section["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnomapError("E302", f"metadata of bundle {folder.name!r} are not valid: {error!r}") from error
    if section.get("sha256") != info.sha256:
        raise AnomapError("E301", f"metadata of bundle {folder.name!r} do not match their own hash")
    for name in info.files:
        if not re.fullmatch(r"models/[A-Za-z0-9_.-]+\.safetensors", name):
            raise AnomapError("E302", f"bundle {folder.name!r} lists a file that is no weight file")
    return info


def list_bundles(models: Path) -> tuple[BundleInfo, ...]:
    """All bundles below `models`, by name.

    Raises:
        AnomapError: E300 when the folder is missing; as `read_info` for a broken bundle.
    """
    if not models.is_dir():
        raise AnomapError("E300", "the model folder does not exist")
    return tuple(read_info(path.parent.parent) for path in sorted(models.glob(f"*/{METADATA}")))


def verify(info: BundleInfo) -> None:
    """Compare every weight file with its hash.

    Raises:
        AnomapError: E300 when one is missing, E301 when one was changed.
    """
    for name, expected in info.files.items():
        path = info.folder / name
        if not path.is_file():
            raise AnomapError("E300", f"bundle {info.name!r} lacks {name}")
        if file_sha256(path) != expected:
            raise AnomapError("E301", f"{name} of bundle {info.name!r} does not match its sha256")


def read_cohort(info: BundleInfo) -> Cohort | None:
    """The reference cohort, or None when the bundle has none.

    Raises:
        AnomapError: E302 when it is not valid or belongs to other weights.
    """
    path = info.folder / COHORT
    if not path.is_file():
        return None
    try:
        cohort = cohort_from_dict(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError) as error:
        raise AnomapError("E302", f"cohort of bundle {info.name!r} is not valid") from error
    if cohort.bundle_sha256 != info.sha256:
        raise AnomapError("E302", f"cohort of bundle {info.name!r} belongs to other weights")
    return cohort


def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Verify and load a bundle.

    Args:
        folder: ``models/<name>``.
        device: Torch device.

    Raises:
        AnomapError: As `read_info`, `verify` and `read_cohort`; E302 when weights don't fit the network.
    """
    from safetensors.torch import load_file

    from anomap.networks.encoder import Encoder
    from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
    from anomap.projection import WStatistics

    info = read_info(folder)
    verify(info)
    config = NetworkConfig(**info.network)
    weights = load_file(folder / WEIGHTS, device=device)

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}

    def ready(network: Any, values: dict[str, Any]) -> Any:
        network.load_state_dict(values)
        return network.to(device).eval().requires_grad_(False)

    try:
        generator = ready(Generator(config), part("generator."))
        encoder = ready(Encoder(config), part("encoder.")) if part("encoder.") else None
        discriminator = None
        if DISCRIMINATOR in info.files:
            discriminator = ready(Discriminator(config), load_file(folder / DISCRIMINATOR, device=device))
        known = part("features.")  # bundles of earlier versions and imported ones have none
        features = _feature_statistics(known, config) if known else None
        statistics = WStatistics(mean=weights["w.mean"], spread=float(weights["w.spread"]), whiten=weights["w.whiten"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise AnomapError("E302", f"weights of bundle {info.name!r} do not fit its network") from error
    return Bundle(
        info=info,
        generator=generator,
        discriminator=discriminator,
        encoder=encoder,
        w_statistics=statistics,
        feature_statistics=features,
        cohort=read_cohort(info),
        device=device,
    )


def _feature_statistics(known: Mapping[str, Tensor], config: NetworkConfig) -> FeatureStatistics:
    """From the tensors "mean", "whiten" and, of each grid of places, "<side>.mean" and "<side>.whiten".

    Raises:
        KeyError, ValueError: When one lacks or doesn't fit the network.
    """
    from anomap.projection import FeatureStatistics, PlaceStatistics

    places = []
    for side in sorted((int(name.split(".")[0]) for name in known if name.endswith(".mean")), reverse=True):
        mean, whiten = known[f"{side}.mean"], known[f"{side}.whiten"].float()
        channels = len(mean)
        if side not in config.resolutions[:-1] or channels > config.width(side):
            raise ValueError(f"the network has no {side} x {side} places of {channels} features")
        if mean.shape != (channels, side, side) or whiten.shape != (side, side, channels, channels):
            raise ValueError(f"statistics of {side} x {side} places are of another shape")
        places.append(PlaceStatistics(mean=mean, whiten=whiten))
    return FeatureStatistics(mean=known["mean"], whiten=known["whiten"], places=tuple(places))


def write_bundle(
    folder: Path,
    *,
    metadata: Mapping[str, Any],
    section: Mapping[str, Any],
    spec: PreprocessSpec,
    generator: Generator,
    encoder: Encoder | None,
    discriminator: Discriminator | None,
    w_statistics: WStatistics,
    feature_statistics: FeatureStatistics | None = None,
) -> BundleInfo:
    """Write weights and metadata; the cohort is measured afterwards (`write_cohort`).

    Args:
        folder: ``models/<name>``.
        metadata: MONAI's own keys (name, version, description, ...).
        section: modalities, body_part, population, window, levels, training.
        spec: Preprocessing.
        generator: The averaged generator.
        encoder: Optional.
        discriminator: Optional.
        w_statistics: From `anomap.projection.measure_w`.
        feature_statistics: From `anomap.projection.measure_features`; without them there is no feature distance.
    """
    import torch
    from safetensors.torch import save

    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    tensors = {f"generator.{name}": value for name, value in generator.state_dict().items()}
    if encoder is not None:
        tensors |= {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {
        "w.mean": w_statistics.mean,
        "w.spread": torch.tensor(w_statistics.spread),
        "w.whiten": w_statistics.whiten,
    }
    if feature_statistics is not None:
        tensors |= {"features.mean": feature_statistics.mean, "features.whiten": feature_statistics.whiten}
        for places in feature_statistics.places:  # half precision is what they were rounded to
            side = places.mean.shape[-1]
            tensors[f"features.{side}.mean"] = places.mean
            tensors[f"features.{side}.whiten"] = places.whiten.half()
    # Not `save_file`, which lets nobody but the owner read: a container may run as any user.
    (folder / WEIGHTS).write_bytes(save({name: value.cpu().contiguous() for name, value in tensors.items()}))
    files = [WEIGHTS]
    if discriminator is not None:
        state = {name: value.cpu().contiguous() for name, value in discriminator.state_dict().items()}
        (folder / DISCRIMINATOR).write_bytes(save(state))
        files.append(DISCRIMINATOR)
    full = {
        "format": FORMAT,
        **section,
        "preprocessing": asdict(spec),
        "network": asdict(generator.config),
        "files": {name: file_sha256(folder / name) for name in files},
    }
    full = json.loads(json.dumps(full))  # tuples become lists, as they will be when read back
    full["sha256"] = bundle_sha256(full)
    (folder / METADATA).write_text(json.dumps({**metadata, "anomap": full}, indent=2) + "\n")
    (folder / COHORT).unlink(missing_ok=True)
    return read_info(folder)


def write_cohort(info: BundleInfo, cohort: Cohort) -> None:
    """Store the reference cohort of a bundle."""
    (info.folder / COHORT).write_text(json.dumps(cohort_to_dict(cohort), indent=1) + "\n")
