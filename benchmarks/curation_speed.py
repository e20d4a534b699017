"""Speed, memory and cost of `anomap curate`: parts of benchmarks/curation.py."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anomap.bundle import list_bundles
from anomap.curation.index import build_index, shard_rows
from anomap.curation.load import load
from anomap.curation.measure import Models, first_look, projected
from anomap.curation.ray_engine import RayOptions, ray_engine
from anomap.curation.run import curate
from anomap.curation.settings import IMAGES_FILE, INDEX_FILE, CurateConfig
from anomap.types import PreprocessSpec
from tests.toy import write_toy_bundle

ROOT = Path(__file__).resolve().parents[1]
Json = dict[str, Any]
_NIH, _PACS = "112,120 radiographs (PNG, 1024 px)", "10 million radiographs (DICOM, 2048 x 1680)"
REPOSITORIES = {_NIH: 112_120, _PACS: 10_000_000}
READ_MB = {_NIH: 0.4, _PACS: 7.0}
READ_S = {_NIH: 0.05, _PACS: 0.15}  # DICOM: benchmarks/results/cpu.json; PNG: a third of it, by its pixels
GPU_MS = {"64 px": 2.0, "512 px": 35.0}  # 30 steps in batches of 64, design estimate


def rate(options: argparse.Namespace) -> Json:
    """Images a second on normal radiographs, and the processor's seconds, which a busy machine changes little.

    The first shard of each worker, with the loading of the model, doesn't count for the rate.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers give way to all others by default
    files = sorted((options.data / "cxr" / "val_normal").rglob("*.webp"))[: options.rate_images]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        root.mkdir()
        for path in files:
            shutil.copy(path, root)
        found: Json = {"images": len(files), "model": options.model, "load_average": os.getloadavg()[0]}
        for label, workers in (("embedded", 0), ("ray_1", 1), ("ray_2", 2)):
            engine = ray_engine(RayOptions(workers=workers)) if workers else None
            times: list[float] = []
            spent = time.process_time()
            config = CurateConfig(model=options.model, device="cpu", shard_size=8)
            curate(root, Path(name) / label, ROOT / "models", config, _clock(times), engine=engine)
            found["output_bytes_an_image"] = round((Path(name) / label / IMAGES_FILE).stat().st_size / len(files))
            first = max(workers, 1)  # shards in which models are loaded
            found[label] = {"images_per_s": round(8 * (len(times) - first) / (times[-1] - times[first - 1]), 3)}
            if not workers:  # what a core does in it, however many others share the machine
                found["cpu_s_an_image"] = round((time.process_time() - spent) / len(files), 3)
    return found


def stages(options: argparse.Namespace) -> Json:
    """Seconds of the processor an image: reading and preparing, the first look, projection with scores."""
    files = sorted((options.data / "cxr" / "val_normal").rglob("*.webp"))[: options.rate_images // 2]
    with tempfile.TemporaryDirectory() as name:
        root, index = Path(name) / "root", Path(name) / INDEX_FILE
        root.mkdir()
        for path in files:
            shutil.copy(path, root)
        build_index(root, index, b"key", len(files), lambda _: None, index)
        config = CurateConfig(model=options.model, device="cpu")
        models = Models(infos=list_bundles(ROOT / "models"), config=config, device="cpu")
        models.bundle(options.model)
        times = [time.process_time()]
        items = [item for row in shard_rows(index, 0) for item in load([row], root, models.infos, options.model)]
        times.append(time.process_time())
        items = first_look(items, models)
        times.append(time.process_time())
        projected(items, models)
        times.append(time.process_time())
    names = ("load", "first_look", "project_and_score")
    found = {name: round(float(value), 4) for name, value in zip(names, np.diff(times) / len(files), strict=True)}
    return {"images": len(files), "model": options.model, "cpu_s_an_image": found}


def _clock(times: list[float]) -> Callable[[Json], None]:
    def listener(event: Json) -> None:
        if event["event"] == "shard":
            times.append(time.monotonic())

    return listener


def memory(options: argparse.Namespace) -> Json:
    """Peak resident memory of one run, when a quarter of the images is done and at its end."""
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
        count, seconds = options.memory_images, time.monotonic() - start
        size = sum(path.stat().st_size for path in (Path(name) / "out").glob("*.parquet"))
        run = {
            "images_per_s": round(count / seconds, 2),
            "peak_rss_mib": {
                "index": peaks[0],
                f"{count // 4} images": peaks[min(n for n in peaks if n >= count // 4)],
                f"{count} images": peaks[max(peaks)],
                "merged": at_end,
            },
            "output_bytes_an_image": round(size / count),
        }
    earlier = json.loads(options.output.read_text()).get("memory", {}) if options.output.is_file() else {}
    runs = {**earlier.get("runs", {}), str(count): run}
    return {"model": "toy bundle of 32 px, 1 step: its time says nothing of a real model", "runs": runs}


def peak_mib(pid: int) -> float:
    """Peak resident memory of a process so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


def cost(sections: Json) -> Json:
    """A model of large repositories: what was measured, and assumptions for what was not.

    Args:
        sections: Of the result file; "rate" is needed, "memory" serves as a check that sizes grow in proportion.
    """
    measured = sections["rate"]
    runs = sections.get("memory", {}).get("runs", {})
    return {
        "assumed": {
            "gpu_ms_an_image": GPU_MS,
            "read_mb_an_image": READ_MB,
            "read_and_prepare_s_an_image": READ_S,
            "note": "GPU times are estimates from operation counts at 25-30 % of an H200's peak; no GPU was measured",
        },
        "measured": {
            "cpu_s_an_image_64px": measured["cpu_s_an_image"],
            "output_bytes_an_image": measured["output_bytes_an_image"],
        },
        "repositories": {label: _estimate(images, label, measured) for label, images in REPOSITORIES.items()},
        "check_of_proportion": {
            size: {name: run[name] for name in ("output_bytes_an_image", "images_per_s")} for size, run in runs.items()
        },
    }


def _estimate(images: int, label: str, measured: Json) -> Json:
    hours = {side: images * ms / 3.6e6 for side, ms in GPU_MS.items()}
    eight = 8e3 / GPU_MS["512 px"]  # images a second of eight GPUs
    return {
        "images": images,
        "read_gb": round(images * READ_MB[label] / 1000),
        "output_gb": round(images * measured["output_bytes_an_image"] / 1e9, 2),
        "gpu_hours": {side: round(value, 2) for side, value in hours.items()},
        "hours_on_8_gpus_512px": round(hours["512 px"] / 8, 1),
        "mb_per_s_for_8_gpus_512px": round(eight * READ_MB[label]),
        "reading_cores_for_8_gpus_512px": round(eight * READ_S[label]),
        "core_hours_to_read_and_prepare": round(images * READ_S[label] / 3600),
        "core_hours_64px_without_gpu": round(images * measured["cpu_s_an_image"] / 3600),
    }
