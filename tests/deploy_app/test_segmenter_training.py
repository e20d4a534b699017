"""The committed training script, run on drawn chests: it writes a bundle that loads, and says what it was made from."""

import csv
import json
import shutil

import numpy as np
from PIL import Image

from deploy_app.examples.gated_segmentation.segmenter import INFERENCE, LUNG_FIELDS, load_segmenter
from deploy_app.examples.gated_segmentation.train import BATCH, main
from tests.deploy_app.test_lung_rule import chest


def test_training_writes_a_bundle_that_loads(tmp_path):
    bundle, data = tmp_path / "lung_fields", tmp_path / "data"
    shutil.copytree(LUNG_FIELDS / "configs", bundle / "configs")
    data.mkdir()
    with (data / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", "category", "patient"])
        for n in range(BATCH + 3):
            film, _ = chest(left=(58 + n % 5, 36))
            blank = n == BATCH + 2  # the rule finds no lung in it
            Image.fromarray(np.uint8(np.clip(film if not blank else film.T, 0, 1) * 255)).save(data / f"{n}.png")
            table.writerow([f"{n}.png", "train" if n < BATCH else "val", "normal", f"p{n}"])
    before = (bundle / INFERENCE).read_bytes()
    assert main(["--data", str(data), "--bundle", str(bundle), "--epochs", "1"]) == 0
    training = json.loads((bundle / "configs" / "metadata.json").read_text())["training"]
    assert training["films"] == {"train": BATCH, "val": 3}
    assert training["films_with_a_mask"] == {"train": BATCH, "val": 2}
    assert 0 <= training["val_dice_against_the_rule"]["mean"] <= 1
    assert load_segmenter(bundle).sha256 != load_segmenter().sha256
    assert (bundle / INFERENCE).read_bytes() == before
