"""Data folders in both layouts, made of drawn trunks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.pictures import trunks

COLUMNS = ("file", "index", "split", "category", "dataset", "patient", "note")


def greys(count: int, seed: int = 0) -> np.ndarray:
    """``(count, 64, 64)`` 8-bit pictures."""
    return np.rint((trunks(count, size=64, seed=seed).images[:, 0] + 1) * 127.5).astype(np.uint8)


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def manifest_folder(folder: Path) -> Path:
    """Twelve training images, ten normal ones, the same inverted, eight rotated ones."""
    folder.mkdir()
    rows = []
    for n, grey in enumerate(greys(30)):
        split, category = ("train", "normal") if n < 12 else ("val", "normal") if n < 22 else ("test", "rotated")
        file = f"{split}_{category}/{n}.png"
        picture(folder / file, np.rot90(grey).copy() if category == "rotated" else grey)
        rows.append((file, "", split, category, "hospital A", f"p{n}", ""))
        if split == "val":
            picture(folder / f"test_inverted/{n}.webp.png", 255 - grey)
            note = f"derived: 255 - pixel of val_normal/{n}.tif"
            rows.append((f"test_inverted/{n}.webp.png", "", "test", "inverted", "hospital B", f"p{n}", note))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


def plain_folder(folder: Path) -> Path:
    """Normal images of eight patients, two each for the first two; inverted ones as single files."""
    pictures = greys(10)
    for n, grey in enumerate(pictures):
        picture(folder / "normal" / f"patient{n // 2 if n < 4 else n}" / f"{n}.png", grey)
        if n < 6:
            picture(folder / "inverted" / f"{n}.png", 255 - grey)
    return folder
