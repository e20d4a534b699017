"""What `anomap curate` finds, what triage loses, how fast it is, and whether its memory stays flat.

python -m benchmarks.curation [--parts quality looks rate stages memory volumes cost] [--data ../shared/data]

Parts can be run one by one; each replaces its own section of benchmarks/results/curation.json.

quality  a mixed tree: normal radiographs nobody trained on, and knees, lateral, inverted, turned and damaged ones
looks    normal images, turned: how many are noticed, and how many of those that are not turned
rate     images a second in this process, and with one and two Ray workers
stages   seconds of the processor an image, stage by stage
memory   a tree of small drawn pictures with the toy model of the tests: peak memory after a quarter and at the end
volumes  drawn CT volumes in NIfTI files: time and peak memory to index, read and prepare them
cost     hours, storage and traffic of large repositories, from the sections above and stated assumptions
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from anomap.bundle import list_bundles, load_bundle
from anomap.curation.index import shard_rows
from anomap.curation.load import load
from anomap.curation.looks import looks
from anomap.curation.run import curate
from anomap.curation.settings import IMAGES_FILE, INDEX_FILE, CurateConfig, read_book
from anomap.evaluation.auroc import auroc, auroc_interval
from anomap.evaluation.baselines import baseline_scores, fit_baselines
from anomap.evaluation.machine import describe_machine
from anomap.evaluation.scores import choose, take
from anomap.training.data import concatenate, load_images
from anomap.types import Float32, Float64
from benchmarks.curation_speed import cost, memory, rate, stages
from benchmarks.curation_volumes import volumes

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "curation.json"
PARTS = ("quality", "looks", "rate", "stages", "memory", "volumes", "cost")
CAP = 40  # images of a category
PREVALENCE = 0.05
DRAWS = 500
QUANTILES = (0.5, 0.7, 0.8, 0.9)
SCORES = ("combined", "wd_patch", "w_distance", "cheap", "looks_ratio")
BASELINES = ("mean_image_mse", "train_histogram_wd", "pca_mse")
TURNS: dict[str, Callable[[Float32], Float32]] = {
    "as tagged": lambda images: images,
    "inverted": lambda images: -images,
    "rotated90": lambda images: np.rot90(images, 1, (2, 3)),
    "rotated180": lambda images: np.rot90(images, 2, (2, 3)),
    "rotated270": lambda images: np.rot90(images, -1, (2, 3)),
    "mirrored": lambda images: images[..., ::-1],
}
Json = dict[str, Any]
Columns = dict[str, Any]


def mixed_tree(data: Path, root: Path) -> dict[str, str]:
    """Write the tree; the category of every file. Names say nothing."""
    normal = sorted((data / "val_normal").rglob("*.webp"))
    sources: list[tuple[str, Path, Callable[[np.ndarray], np.ndarray]]] = [
        ("normal", path, lambda pixels: pixels) for path in normal
    ]
    for category in ("knee", "lateral", "inverted_derived", "rotated90"):
        chosen = sorted((data / "anomaly" / category).iterdir())[:CAP]
        sources += [(category, path, lambda pixels: pixels) for path in chosen]
    sources += [("cut_off", path, _cut_off) for path in normal[:CAP]]
    sources += [("unreadable", path, lambda pixels: pixels) for path in normal[CAP : CAP + 10]]
    categories = {}
    for place, n in enumerate(np.random.default_rng(0).permutation(len(sources))):
        category, path, change = sources[n]
        name = f"{place // 100:02d}/{place:05d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            Image.fromarray(change(np.asarray(picture.convert("L")))).save(root / name)
        if category == "unreadable":
            content = (root / name).read_bytes()
            (root / name).write_bytes(content[: len(content) // 2])
        categories[name] = category
    return categories


def _cut_off(pixels: np.ndarray) -> np.ndarray:
    """As a decoder leaves a file that ends too early: the lower part is one grey."""
    spoilt = pixels.copy()
    spoilt[int(0.6 * len(spoilt)) :] = 128
    return spoilt


def quality(options: argparse.Namespace) -> Json:
    """Curate the mixed tree and compare."""
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name) / "root", Path(name) / "out"
        categories = mixed_tree(options.data / "cxr", root)
        start = time.monotonic()
        config = CurateConfig(model=options.model, device="cpu", shard_size=64)
        curate(root, out, ROOT / "models", config, _tell)
        seconds = time.monotonic() - start
        table = pq.read_table(out / IMAGES_FILE).to_pylist()
        columns = columns_of(table, categories)
        columns |= _baselines(root, out, options, [row["path"] for row in table if not row["error"]])
        errors = Counter((categories[row["path"]], row["error"]) for row in table if row["error"])
    columns["combined_looks_first"] = columns["combined"] + 1000.0 * (columns["looks"] != "as tagged")
    return {
        "model": options.model,
        "images": dict(Counter(categories.values())),
        "seconds": round(seconds, 1),
        "errors": {f"{category} {code}": count for (category, code), count in sorted(errors.items())},
        "auroc": _aurocs(columns),
        "precision_at_planted_count": precisions(columns),
        "looks": _looks(columns),
        "triage": {str(q): triage(columns, q) for q in QUANTILES},
    }


def columns_of(table: Sequence[Json], categories: dict[str, str]) -> Columns:
    """Columns of the rows that have scores."""
    rows = [row for row in table if not row["error"]]
    columns: Columns = {name: np.array([row[name] for row in rows], np.float64) for name in SCORES}
    columns["looks"] = np.array([row["looks"] for row in rows])
    columns["category"] = np.array([categories[row["path"]] for row in rows])
    return columns


def _baselines(root: Path, out: Path, options: argparse.Namespace, wanted: list[str]) -> Columns:
    """Scores of the plain opponents for the same files, fitted to the training images of the model."""
    infos = list_bundles(ROOT / "models")
    (info,) = [info for info in infos if info.name == options.model]
    opponents = fit_baselines(load_images(options.data / "cxr", info.spec, "train", "normal").prepared, info.levels)
    rows = [row for n in range(read_book(out).shards) for row in shard_rows(out / INDEX_FILE, n)]
    prepared = {row["path"]: next(load([row], root, infos, options.model)).prepared for row in rows}
    together = concatenate([part for path in wanted if (part := prepared[path]) is not None])
    return dict(baseline_scores(opponents, together))


def _aurocs(columns: Columns) -> Json:
    normal = columns["category"] == "normal"
    result: Json = {}
    for category in sorted(set(columns["category"]) - {"normal"}):
        member = columns["category"] == category
        result[category] = {}
        for name in (*SCORES, *BASELINES):
            values = columns[name]
            patients = [str(n) for n in range(len(values))]
            interval = auroc_interval(
                values[normal],
                values[member],
                [p for p, inside in zip(patients, normal, strict=True) if inside],
                [p for p, inside in zip(patients, member, strict=True) if inside],
            )
            found: Json = {"auroc": round(auroc(values[normal], values[member]), 4)}
            if interval is not None:
                found["ci_95_images"] = [round(interval.low, 4), round(interval.high, 4)]
            result[category][name] = found
    return result


def draws(columns: Columns) -> list[np.ndarray]:
    """Rows of trees in which PREVALENCE of the readable images is planted: all normals, a few of the others."""
    normal = np.flatnonzero(columns["category"] == "normal")
    other = np.flatnonzero(columns["category"] != "normal")
    count = max(1, round(len(normal) * PREVALENCE / (1 - PREVALENCE)))
    rng = np.random.default_rng(0)
    return [np.concatenate([normal, rng.choice(other, count, replace=False)]) for _ in range(DRAWS)]


def hits(scores: Float64, planted: np.ndarray) -> float:
    """Share of planted images among as many of the highest scores as there are planted images."""
    count = int(planted.sum())
    top = np.argsort(-scores, kind="stable")[:count]
    return float(planted[top].mean())


def precisions(columns: Columns) -> Json:
    """Precision at the planted count over the draws; it equals recall there."""
    result: Json = {"prevalence": PREVALENCE, "draws": DRAWS}
    for name in ("combined_looks_first", *SCORES, *BASELINES):
        found = [hits(columns[name][rows], columns["category"][rows] != "normal") for rows in draws(columns)]
        low, high = np.quantile(found, [0.05, 0.95])
        result[name] = {"mean": round(float(np.mean(found)), 4), "range_90": [round(float(v), 4) for v in (low, high)]}
    return result


def triage(columns: Columns, quantile: float) -> Json:
    """What is lost when only images above a quantile of the cheap score are projected."""
    whole, kept, dropped = [], [], []
    for rows in draws(columns):
        planted, cheap = columns["category"][rows] != "normal", columns["cheap"][rows]
        above = cheap > np.quantile(cheap, quantile)
        scores = columns["combined"][rows]
        whole.append(hits(scores, planted))
        kept.append(hits(np.where(above, scores, -np.inf), planted))
        dropped.append(float((planted & ~above).sum() / planted.sum()))
    return {
        "projected_share": 1 - quantile,
        "recall_at_planted_count": round(float(np.mean(kept)), 4),
        "recall_without_triage": round(float(np.mean(whole)), 4),
        "planted_not_projected": round(float(np.mean(dropped)), 4),
    }


def _looks(columns: Columns) -> Json:
    return {
        category: dict(Counter(columns["looks"][columns["category"] == category].tolist()))
        for category in sorted(set(columns["category"]))
    }


def turned(options: argparse.Namespace) -> Json:
    """Normal images of both shipped models, turned on the model's grid: what `looks` says of them."""
    result: Json = {}
    for name, data in (("cxr-64", "cxr"), ("ct-64", "ct")):
        bundle = load_bundle(ROOT / "models" / name)
        normal = load_images(options.data / data, bundle.spec, "val", "normal")
        prepared = take(normal.prepared, choose(normal, options.looks_images))
        result[name] = {"images": len(prepared.images)}
        for word, turn in TURNS.items():
            valid = np.abs(turn(prepared.valid.astype(np.float32))) > 0
            seen = looks(replace(prepared, images=np.ascontiguousarray(turn(prepared.images)), valid=valid), bundle)
            result[name][word] = dict(Counter(seen.words))
            print(name, word, result[name][word], file=sys.stderr, flush=True)
    return result


def _tell(event: Json) -> None:
    if event["event"] == "shard":
        print(json.dumps(event), file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Measure the wanted parts and write them beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["quality"])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--model", default="cxr-64")
    parser.add_argument("--looks-images", type=int, default=100)
    parser.add_argument("--rate-images", type=int, default=64)
    parser.add_argument("--memory-images", type=int, default=20_000)
    parser.add_argument("--volume-model", default="ct-64")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(words)
    measured = {
        "quality": quality,
        "looks": turned,
        "rate": rate,
        "stages": stages,
        "memory": memory,
        "volumes": volumes,
    }
    for part in options.parts:
        section = measured[part](options) if part in measured else cost(_read(options.output))
        content = _read(options.output) | {"format": "anomap.curation-benchmark/1"}
        content[part] = {**section, "machine": describe_machine("cpu", ROOT)}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _read(path: Path) -> Json:
    return json.loads(path.read_text()) if path.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
