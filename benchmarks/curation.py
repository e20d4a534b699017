"""What `anomap curate` finds, what triage loses, how fast it is, and whether its memory stays flat.

python -m benchmarks.curation [--parts quality rate memory cost] [--data ../shared/data/cxr]

Parts can be run one by one; each replaces its own section of benchmarks/results/curation.json.

quality  a mixed tree: normal radiographs nobody trained on, and knees, lateral, inverted, turned and damaged ones
rate     images a second in this process, and with one and two Ray workers
memory   a tree of small drawn pictures with the toy model of the tests: peak memory after a quarter and at the end
cost     hours, storage and traffic of large repositories, from the sections above and stated assumptions
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from anomap.bundle import list_bundles
from anomap.curation.index import shard_rows
from anomap.curation.load import load
from anomap.curation.merge import IMAGES_FILE
from anomap.curation.ray_engine import RayOptions, ray_engine
from anomap.curation.run import curate
from anomap.curation.settings import INDEX_FILE, CurateConfig, read_book
from anomap.evaluation.auroc import auroc, auroc_interval
from anomap.evaluation.baselines import baseline_scores, fit_baselines
from anomap.evaluation.machine import describe_machine
from anomap.training.data import concatenate, load_images
from anomap.types import Float64

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "curation.json"
CAP = 40  # images of a category
PREVALENCE = 0.05
DRAWS = 500
QUANTILES = (0.5, 0.7, 0.8, 0.9)
SCORES = ("combined", "wd_patch", "w_distance", "cheap", "looks_ratio")
BASELINES = ("mean_image_mse", "train_histogram_wd", "pca_mse")
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
        categories = mixed_tree(options.data, root)
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
    opponents = fit_baselines(load_images(options.data, info.spec, "train", "normal").prepared, info.levels)
    rows = [row for n in range(read_book(out).shards) for row in shard_rows(out / INDEX_FILE, n)]
    prepared = {row["path"]: load(row, root, infos, options.model).prepared for row in rows}
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


def rate(options: argparse.Namespace) -> Json:
    """Images a second on copies of normal radiographs, model loading left out by taking the second half."""
    files = sorted((options.data / "val_normal").rglob("*.webp"))[: options.rate_images]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        root.mkdir()
        for path in files:
            shutil.copy(path, root)
        found: Json = {"images": len(files), "model": options.model, "load_average": os.getloadavg()[0]}
        for label, workers in (("embedded", 0), ("ray_1", 1), ("ray_2", 2)):
            engine = ray_engine(RayOptions(workers=workers)) if workers else None
            times: list[float] = []
            config = CurateConfig(model=options.model, device="cpu", shard_size=8)
            curate(root, Path(name) / label, ROOT / "models", config, _clock(times), engine=engine)
            half = len(times) // 2  # shards of 8 images
            found[label] = {"images_per_s": round(8 * (len(times) - 1 - half) / (times[-1] - times[half]), 3)}
    return found


def _clock(times: list[float]) -> Callable[[Json], None]:
    def listener(event: Json) -> None:
        if event["event"] == "shard":
            times.append(time.monotonic())

    return listener


def memory(options: argparse.Namespace) -> Json:
    """Peak resident memory of one run, when a quarter of the images is done and at its end."""
    from anomap.types import PreprocessSpec
    from tests.toy import write_toy_bundle

    with tempfile.TemporaryDirectory() as name:
        root, models = Path(name) / "root", Path(name) / "models"
        write_toy_bundle(models / "toy", PreprocessSpec(kind="radiograph", size=32, fit="squeeze"), ("DX",), "")
        rng = np.random.default_rng(0)
        for n in range(options.memory_images):
            path = root / f"{n // 1000:03d}" / f"{n:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8))
            coarse.resize((40, 40), Image.Resampling.BICUBIC).save(path)
        words = ["curate", str(root), "-o", str(Path(name) / "out"), "--models", str(models), "--json"]
        words += ["--steps", "1", "--device", "cpu", "--shard-size", "250"]
        start = time.monotonic()
        command = [sys.executable, "-m", "anomap", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            peaks: dict[int, float] = {}
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] in ("shard", "index"):
                    peaks[event.get("images", 0)] = peak_mib(process.pid)
                    print(event.get("images", 0), "images,", peak_mib(process.pid), "MiB", file=sys.stderr, flush=True)
                if event["event"] == "result":
                    at_end = peak_mib(process.pid)
            if process.wait():
                raise SystemExit(f"anomap curate ended with {process.returncode}")
        count = options.memory_images
        size = sum(path.stat().st_size for path in (Path(name) / "out").glob("*.parquet"))
        return {
            "images": count,
            "seconds": round(time.monotonic() - start, 1),
            "peak_rss_mib": {
                "index": peaks[0],
                f"{count // 4} images": peaks[min(n for n in peaks if n >= count // 4)],
                f"{count} images": peaks[max(peaks)],
                "merged": at_end,
            },
            "output_bytes_an_image": round(size / count),
            "model": "toy bundle of 32 px, 1 step: time says nothing of a real model",
        }


def peak_mib(pid: int) -> float:
    """Peak resident memory of a process so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


def cost(sections: Json) -> Json:
    """A model of large repositories: what was measured here, and assumptions for what was not."""
    assumed = {
        "gpu_ms_an_image_64px_30_steps": 2.0,
        "gpu_ms_an_image_512px_30_steps": 35.0,
        "read_mb_an_image": {"112120 radiographs (NIH, PNG 1024 px)": 0.4, "10 million DICOM radiographs": 10.0},
        "note": "GPU times are estimates from operation counts at 25-30 % of an H200's peak; no GPU was measured here",
    }
    output = sections.get("memory", {}).get("output_bytes_an_image", 2500)
    cpu = sections.get("rate", {}).get("embedded", {}).get("images_per_s")
    rows: Json = {}
    for label, images in (("112120 radiographs (NIH, PNG 1024 px)", 112_120), ("10 million DICOM radiographs", 10**7)):
        read_gb = images * assumed["read_mb_an_image"][label] / 1000
        rows[label] = {
            "read_gb": round(read_gb),
            "output_gb": round(images * output / 1e9, 2),
            "gpu_hours_64px": round(images * assumed["gpu_ms_an_image_64px_30_steps"] / 3.6e6, 2),
            "gpu_hours_512px": round(images * assumed["gpu_ms_an_image_512px_30_steps"] / 3.6e6, 1),
            "hours_on_8_gpus_512px": round(images * assumed["gpu_ms_an_image_512px_30_steps"] / 3.6e6 / 8, 1),
            "read_mb_per_s_to_keep_8_gpus_busy_512px": round(
                8e3 / assumed["gpu_ms_an_image_512px_30_steps"] * assumed["read_mb_an_image"][label]
            ),
            "cpu_hours_64px_one_core": round(images / cpu / 3600, 1) if cpu else None,
        }
    return {"assumed": assumed, "repositories": rows}


def _tell(event: Json) -> None:
    if event["event"] == "shard":
        print(json.dumps(event), file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Measure the wanted parts and write them beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("quality", "rate", "memory", "cost"), default=["quality"])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data" / "cxr")
    parser.add_argument("--model", default="cxr-64")
    parser.add_argument("--rate-images", type=int, default=64)
    parser.add_argument("--memory-images", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(words)
    measured = {"quality": quality, "rate": rate, "memory": memory}
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
