"""Train the lung field segmenter and write its weights and metadata: ``make segmenter``.

    python -m deploy_app.examples.gated_segmentation.train --data ../shared/data/cxr

The masks it learns from are those of `rule`: no person drew them. Network and preprocessing are those of the bundle's
own ``configs/inference.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandAffined, RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd
from monai.utils import set_determinism
from safetensors.torch import save

from anomap import NOT_A_DIAGNOSIS
from anomap.bundle import METADATA, WEIGHTS, file_sha256
from anomap.console import print_line
from anomap.training.data import ImageSet, load_images
from anomap.training.recipe import MONAI_SCHEMA
from anomap.types import Float32, Float64, PreprocessSpec
from deploy_app.examples.gated_segmentation.rule import lung_fields
from deploy_app.examples.gated_segmentation.segmenter import LUNG_FIELDS, THRESHOLD, parsed

SEED = 0
BATCH = 16
LEARNING_RATE = 3e-3
_BOTH = ("image", "mask")
# What one film differs in from the next; nothing that a gate should stop.
AUGMENT = Compose([
    RandAffined(
        _BOTH, prob=0.8, rotate_range=0.1, scale_range=(0.08, 0.08), translate_range=(6, 6),
        mode=("bilinear", "nearest"), padding_mode=("border", "zeros"),
    ),
    RandScaleIntensityd("image", factors=0.2, prob=0.5),
    RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    RandGaussianNoised("image", prob=0.3, std=0.05),
])  # fmt: skip


def with_masks(images: ImageSet) -> tuple[Float32, Float32]:
    """The films that the rule finds lung fields in, and these: both ``(N, 1, H, W)``."""
    pairs = [(image, mask) for image in images.images if (mask := lung_fields(image[0])) is not None]
    films, masks = zip(*pairs, strict=True)
    return np.stack(films), np.stack(masks)[:, None].astype(np.float32)


def fit(network: torch.nn.Module, films: Float32, masks: Float32, epochs: int) -> None:
    """Train in place: Adam, a learning rate that falls to nothing, Dice and cross-entropy."""
    pairs = [{"image": film, "mask": mask} for film, mask in zip(films, masks, strict=True)]
    loader = DataLoader(Dataset(pairs, AUGMENT), batch_size=BATCH, shuffle=True, drop_last=True)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * len(loader))
    loss_of = DiceCELoss(sigmoid=True)
    network.train()
    for epoch in range(1, epochs + 1):
        losses = []
        for batch in loader:
            optimiser.zero_grad()
            loss = loss_of(network(batch["image"].as_tensor()), batch["mask"].as_tensor())
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print_line(f"epoch {epoch} of {epochs}: loss {np.mean(losses):.4f}", sys.stderr)
    network.eval()


def dice_of(network: torch.nn.Module, films: Float32, masks: Float32) -> Float64:
    """Dice coefficient of each film against the rule, on the network's grid."""
    with torch.inference_mode():
        found = torch.sigmoid(network(torch.from_numpy(films))).numpy() > THRESHOLD
    both = (found * masks).sum(axis=(1, 2, 3))
    dice: Float64 = 2 * both / (found.sum(axis=(1, 2, 3)) + masks.sum(axis=(1, 2, 3)))
    return dice


def metadata_of(spec: PreprocessSpec, sha256: str, training: dict[str, Any]) -> dict[str, Any]:
    """The bundle's ``metadata.json`` in MONAI's own terms, with the hash of the weights and what training came to."""
    image = {"num_channels": 1, "spatial_shape": [spec.size, spec.size], "dtype": "float32", "is_patch_data": False}
    return {
        "schema": MONAI_SCHEMA,
        "name": LUNG_FIELDS.name,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"safetensors": version("safetensors")},
        "task": "Lung field segmentation of frontal chest radiographs, for an example",
        "description": "A small 2-D UNet that imitates a rule on grey levels (no person drew the masks). "
        "It exists to be gated, not to be used.",
        "authors": "anomap contributors",
        "copyright": "anomap contributors",
        "intended_use": NOT_A_DIAGNOSIS,
        "network_data_format": {
            "inputs": {"image": {"type": "image", "format": "magnitude", "value_range": [-1, 1], **image,
                                 "channel_def": {"0": "image"}}},
            "outputs": {"pred": {"type": "image", "format": "segmentation", "value_range": [], **image,
                                 "channel_def": {"0": "logit of lung"}}},
        },
        "weights_sha256": sha256,
        "training": training,
    }  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv, splits train and val")
    parser.add_argument("--bundle", type=Path, default=LUNG_FIELDS)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(words)
    set_determinism(SEED)
    config = parsed(options.bundle)
    spec, network = (config.get_parsed_content(name) for name in ("preprocessing", "network_def"))
    sets = {split: load_images(options.data, spec, split, "normal") for split in ("train", "val")}
    pairs = {split: with_masks(images) for split, images in sets.items()}
    fit(network, *pairs["train"], options.epochs)
    dice = dice_of(network, *pairs["val"])
    training = {
        "films": {split: len(images.names) for split, images in sets.items()},
        "films_with_a_mask": {split: len(films) for split, (films, _) in pairs.items()},
        "masks": "deploy_app/examples/gated_segmentation/rule.py; no person drew them",
        "epochs": options.epochs,
        "val_dice_against_the_rule": {
            "mean": round(float(dice.mean()), 4),
            "quantile_05": round(float(np.quantile(dice, 0.05)), 4),
            "lowest": round(float(dice.min()), 4),
        },
    }
    (options.bundle / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    (options.bundle / WEIGHTS).write_bytes(save(network.state_dict()))  # `save_file` lets only the owner read
    metadata = metadata_of(spec, file_sha256(options.bundle / WEIGHTS), training)
    (options.bundle / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    print_line(json.dumps(training))
    return 0


if __name__ == "__main__":
    sys.exit(main())
