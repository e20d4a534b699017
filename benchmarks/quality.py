"""How well a bundle separates anomalous from normal images: AUROC table, pairs, needles, baselines.

python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr

Prints a Markdown table, writes benchmarks/results/quality-<bundle>.json and .md, and puts the table into the bundle's
model card between its marks.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from anomap.bundle import Bundle, load_bundle
from anomap.errors import AnomapError
from anomap.evaluation.machine import describe_machine
from anomap.evaluation.run import QualityConfig, evaluate
from anomap.evaluation.scores import subset
from anomap.evaluation.table import quality_json, quality_markdown
from anomap.projection.schedule import PRESETS, preset
from anomap.training.data import ImageSet, load_images

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.quality/1"
MARKS = ("<!-- quality: written by benchmarks/quality.py -->", "<!-- end of quality -->")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits train, val, test)")
    parser.add_argument("--categories", nargs="*", help="only these test categories")
    parser.add_argument("--cap", type=int, help="at most so many images of a category")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="fast")
    parser.add_argument("--steps", type=int, help="projection steps, instead of the preset's")
    parser.add_argument("--needles", type=int, default=20, help="normal images that receive a needle")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def by_category(images: ImageSet, wanted: list[str] | None) -> Iterator[ImageSet]:
    """The categories of a set, by name."""
    labels = np.array(images.categories)
    for category in sorted(set(images.categories)):
        if not wanted or category in wanted:
            print(f"{category} ...", file=sys.stderr)
            yield subset(images, np.flatnonzero(labels == category))


def made_from(data: Path) -> dict[str, str]:
    """Image -> the normal image it was computed from, where the manifest's note says so.

    Notes read "SIMULATED on val_normal.npz index 7" (CT) or "derived: 255 - pixel of val_normal/name.png".
    """
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = {str(Path(row["file"]).with_suffix("")): row["file"] for row in rows}
    origins = {}
    for row in rows:
        slice_note = re.search(r"on (\S+\.npz) index (\d+)", row["note"] or "")
        picture_note = re.search(r"derived: .* of (\S+)", row["note"] or "")
        if slice_note:
            origins[f"{row['file']}#{row['index']}"] = f"{slice_note[1]}#{slice_note[2]}"
        elif picture_note:
            stem = str(Path(picture_note[1]).with_suffix(""))
            origins[row["file"]] = pictures.get(stem, stem)
    return origins


def measure(options: argparse.Namespace, bundle: Bundle) -> tuple[dict[str, object], str]:
    """All figures as JSON values, and the Markdown table."""
    start = time.perf_counter()
    config = QualityConfig(
        projection=preset(options.preset, steps=options.steps), cap=options.cap, needles=options.needles
    )
    spec = bundle.spec
    quality = evaluate(
        bundle,
        load_images(options.data, spec, "train", "normal"),
        load_images(options.data, spec, "val", "normal"),
        by_category(load_images(options.data, spec, "test"), options.categories),
        config,
        origins=made_from(options.data),
    )
    content = {
        "format": FORMAT,
        "bundle": {name: getattr(bundle.info, name) for name in ("name", "version", "sha256")},
        "data": options.data.resolve().name,
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "machine": describe_machine(options.device, ROOT),
        "seconds": round(time.perf_counter() - start, 1),
        **quality_json(quality),
    }
    title = f"{bundle.info.name} {bundle.info.version} on {content['data']}, preset {options.preset}"
    return content, quality_markdown(quality, title)


def update_card(card: Path, table: str) -> bool:
    """Put the table between the marks of a model card; False when there is no card or it has no marks."""
    before, first, rest = card.read_text().partition(MARKS[0]) if card.is_file() else ("", "", "")
    _, last, after = rest.partition(MARKS[1])
    if not (first and last):
        return False
    card.write_text(f"{before}{first}\n{table.strip()}\n{last}{after}")
    return True


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(words)
    torch.manual_seed(0)
    try:
        bundle = load_bundle(options.bundle, options.device)
        content, table = measure(options, bundle)
    except AnomapError as error:
        print(error, file=sys.stderr)
        return int(error.status)
    print(table)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"quality-{bundle.info.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.output / f"quality-{bundle.info.name}.md").write_text(table)
    if not update_card(options.bundle / "docs" / "README.md", table):
        print("the bundle has no model card with marks for the table", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
