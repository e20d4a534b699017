"""What a NIfTI volume costs `anomap curate`, time and memory: a part of benchmarks/curation.py."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from anomap.bundle import list_bundles
from anomap.curation.index import build_index, shard_rows
from anomap.curation.load import load
from anomap.curation.settings import INDEX_FILE
from benchmarks.curation_speed import ROOT, peak_mib

SLICES = (50, 100, 200)
Json = dict[str, Any]


def volumes(options: argparse.Namespace) -> Json:
    """Volumes of 512 x 512 voxels a slice, each indexed, read and prepared in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        runs = {}
        for slices in SLICES:
            root = Path(name) / str(slices)
            _write_volume(root, slices)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                runs[str(slices)] = pool.submit(_loaded, root, options.volume_model).result()
            shutil.rmtree(root)
            print(slices, "slices", runs[str(slices)], file=sys.stderr, flush=True)
    few, many = (runs[str(slices)] for slices in (SLICES[0], SLICES[-1]))
    grown = (many["peak_rss_mib"] - few["peak_rss_mib"]) * 2**20
    voxels = 512**2 * (SLICES[-1] - SLICES[0])
    return {"model": options.volume_model, "slices": runs, "peak_bytes_a_voxel": round(grown / voxels, 1)}


def _write_volume(root: Path, slices: int) -> None:
    """A noisy cylinder in air as 16 bits, by gzip: noise unpacks slowly, as that of a scanner does."""
    rng = np.random.default_rng(0)
    place = np.linspace(-1, 1, 512)
    body = place[:, None] ** 2 + place**2 < 0.6
    voxels = np.where(body[..., None], 40, -1000) + rng.normal(0, 15, (512, 512, slices))
    image = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag((0.8, 0.8, 1.5, 1.0)))
    image.header.set_xyzt_units("mm")
    root.mkdir()
    nibabel.save(image, root / "volume.nii.gz")


def _loaded(root: Path, model: str) -> Json:
    """Index a folder of one volume, then read and prepare it."""
    index = root.parent / INDEX_FILE
    start = time.process_time()
    build_index(root, index, b"key", 256, lambda _: None, index)
    rows, infos, indexed = shard_rows(index, 0), list_bundles(ROOT / "models"), time.process_time()
    before = peak_mib(os.getpid())
    items = list(load(rows, root, infos, model))
    if any(item.prepared is None for item in items):
        raise SystemExit(f"a slice could not be prepared: {items[0].row['error']}")
    return {
        "file_mib": round(rows[0]["bytes"] / 2**20, 1),
        "index_cpu_s": round(indexed - start, 3),
        "load_cpu_s": round(time.process_time() - indexed, 2),
        "peak_rss_mib_before": before,
        "peak_rss_mib": peak_mib(os.getpid()),
    }
