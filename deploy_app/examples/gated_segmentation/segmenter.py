"""The autosegmentation model: a MONAI Bundle with a small 2-D UNet, run on radiographs as read from DICOM."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from anomap.bundle import METADATA, WEIGHTS, file_sha256
from anomap.errors import AnomapError
from anomap.preprocessing import prepare
from anomap.preprocessing.geometry import resample_to_source
from anomap.types import Float32, ImageSeries, PreprocessSpec

LUNG_FIELDS = Path(__file__).with_name("lung_fields")
INFERENCE = "configs/inference.json"
THRESHOLD = 0.5  # of the probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """A loaded bundle.

    Attributes:
        name, version: Of the bundle.
        sha256, config_sha256: Of its weights and of its configuration: together they decide every mask.
        spec: Preprocessing that the network was trained with.
        network: ``(N, 1, H, W)`` in [-1, 1] -> logits of the same shape.
        activation: Logits of one image -> probabilities.
    """

    name: str
    version: str
    sha256: str
    config_sha256: str
    spec: PreprocessSpec
    network: Callable[[torch.Tensor], torch.Tensor]
    activation: Callable[[torch.Tensor], torch.Tensor]


def parsed(folder: Path) -> ConfigParser:
    """The bundle's inference configuration, nothing of it evaluated yet.

    MONAI evaluates "$" expressions in it as Python: give it bundles you trust.

    Raises:
        AnomapError: E300 when there is none.
    """
    if not (folder / INFERENCE).is_file():
        raise AnomapError("E300", f"no MONAI Bundle named {folder.name!r} ({INFERENCE} not found)")
    parser = ConfigParser()
    parser.read_config(str(folder / INFERENCE))
    parser["bundle_root"] = str(folder)
    return parser


def load_segmenter(folder: Path = LUNG_FIELDS) -> Segmenter:
    """Load a bundle, on the CPU.

    Args:
        folder: Of the bundle.

    Raises:
        AnomapError: E300 when there is none, E301 when the weights are not those of the metadata, E302 when
            something in it does not fit.
    """
    parser = parsed(folder)
    try:
        metadata: Mapping[str, Any] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        sha256 = file_sha256(folder / WEIGHTS)
        if sha256 != metadata["weights_sha256"]:
            raise AnomapError("E301", f"the weights of bundle {folder.name!r} do not match their sha256")
        parser.get_parsed_content("initialize")
        return Segmenter(
            name=str(metadata["name"]),
            version=str(metadata["version"]),
            sha256=sha256,
            config_sha256=file_sha256(folder / INFERENCE),
            spec=parser.get_parsed_content("preprocessing"),
            network=parser.get_parsed_content("network_def"),
            activation=parser.get_parsed_content("postprocessing"),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise AnomapError("E302", f"the bundle {folder.name!r} can't be loaded: {type(error).__name__}") from error


def probabilities(segmenter: Segmenter, series: ImageSeries) -> Float32:
    """The probability of lung at every pixel.

    Args:
        segmenter: Loaded.
        series: One radiograph or several of one size, as P-values.

    Returns:
        ``(K, R, C)`` in [0, 1], on the pixels of the source; 0 where the network saw nothing.

    Raises:
        AnomapError: As `anomap.preprocessing.prepare`.
    """
    prepared = prepare(series, segmenter.spec)
    with torch.inference_mode():
        found = segmenter.activation(segmenter.network(torch.from_numpy(prepared.images))).numpy()
    planes = [
        resample_to_source(plane[0], grid, series.pixels.shape[1:])
        for plane, grid in zip(found, prepared.to_source, strict=True)
    ]
    return np.nan_to_num(np.stack(planes), nan=0.0)
