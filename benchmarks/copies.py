"""How well hashes of pictures tell copies from other patients: the perceptual hash, and the difference hash beside it.

python benchmarks/copies.py [--data ../shared/data/cxr]

Writes benchmarks/results/copies.json: pairs of different patients that differ in few bits, and bits that change when
the same picture is saved, scaled, windowed or moved.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomap.curation.phash import perceptual_hash
from anomap.evaluation.machine import describe_machine
from anomap.training.data import manifest_rows

ROOT = Path(__file__).resolve().parents[1]
BITS = (0, 1, 2, 4, 6, 8)
EVERY = 10  # of the pictures is changed
Picture = Image.Image
Hash = Callable[[Picture], int]


def difference_hash(picture: Picture) -> int:
    """Whether each of 8 x 8 fields is darker than its right neighbour."""
    fields = np.asarray(picture.resize((9, 8), Image.Resampling.BOX), int)
    return int.from_bytes(np.packbits(fields[:, 1:] > fields[:, :-1]).tobytes(), "big")


def _jpeg(picture: Picture) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=30)
    return Image.open(file)


HASHES: dict[str, Hash] = {
    "perceptual": lambda picture: perceptual_hash(np.asarray(picture, np.float32)),
    "difference": difference_hash,
}
CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG of quality 30": _jpeg,
    "half the size": lambda picture: picture.resize(
        (picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC
    ),
    "20 % brighter": lambda picture: picture.point([min(255, round(1.2 * grey)) for grey in range(256)]),
    "gamma 0.8": lambda picture: picture.point([round(255 * (grey / 255) ** 0.8) for grey in range(256)]),
    "windowed": lambda picture: picture.point([min(255, max(0, round(1.2 * (grey - 20)))) for grey in range(256)]),
    "moved by 2 pixels": lambda picture: picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, 2, 0, 1, 2)),
}


def close_pairs(hashes: npt.NDArray[np.uint64], patients: list[str]) -> dict[str, int]:
    """Pairs of different patients by the bits, at most, that they differ in."""
    first, second = np.triu_indices(len(hashes), 1)
    labels = np.unique(patients, return_inverse=True)[1]
    apart = np.bitwise_count(hashes[first] ^ hashes[second])[labels[first] != labels[second]]
    return {str(bits): int((apart <= bits).sum()) for bits in BITS}


def changed_bits(pictures: list[Picture], hashed: Hash) -> dict[str, dict[str, float]]:
    """Median, 90 % and most of the bits that each change flips."""
    found = {}
    for name, change in CHANGES.items():
        bits = [(hashed(picture) ^ hashed(change(picture))).bit_count() for picture in pictures]
        low, high, most = np.percentile(bits, [50, 90, 100])
        found[name] = {"median": float(low), "90 %": float(high), "most": float(most)}
    return found


def measure(data: Path) -> dict[str, Any]:
    """Both hashes on all pictures of a manifest."""
    rows = list(manifest_rows(data / "manifest.csv"))
    pictures = [Image.open(data / row["file"]).convert("L") for row in rows]
    patients = [row["patient"] for row in rows]
    results: dict[str, Any] = {"pictures": len(rows), "patients": len(set(patients)), "changed": len(pictures[::EVERY])}
    for name, hashed in HASHES.items():
        hashes = np.array([hashed(picture) for picture in pictures], np.uint64)
        results[name] = {
            "pairs_of_patients": close_pairs(hashes, patients),
            "bits_changed": changed_bits(pictures[::EVERY], hashed),
        }
    return results


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cxr")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "copies.json")
    options = parser.parse_args()
    content = {"machine": describe_machine("cpu", ROOT), **measure(options.data)}
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
