"""Job folders as a viewer writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomap.bundle import BundleInfo, list_bundles
from anomap.volume.job import VolumeJob, read_job, read_voxels
from anomap.volume.place import Placed, place

AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)  # k to the head, rows to the back, columns to the left


def affine_of(directions: np.ndarray, spacing: Sequence[float], origin: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """Index (k, j, i, 1) -> LPS mm; the columns of `directions` are where k, j and i run to."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return affine


def write_job(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    to_world: np.ndarray | None = None,
    nonlinear: bool = False,
    files: Sequence[Path] = (),
    through: Sequence[Sequence[float]] = (),
    models: Path | str = "",
    config: dict[str, Any] | None = None,
    other: dict[str, Any] | None = None,
) -> Path:
    """A job folder; `other` replaces or adds keys of ``job.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "voxels.npy", voxels)
    content = {
        "format": "anomap.volume/1",
        "affine_lps": np.asarray(affine).tolist(),
        "to_world": (np.eye(4) if to_world is None else to_world).tolist(),
        "nonlinear": nonlinear,
        "files": [str(path) for path in files],
        "through_lps": [list(map(float, point)) for point in through],
        "models": str(models),
        "config": {"device": "cpu", "steps": 2, "outputs": ["sr", "seg", "pm"], **(config or {})},
    } | (other or {})
    (folder / "job.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def placed(
    folder: Path, voxels: np.ndarray, affine: np.ndarray, *, infos: Sequence[BundleInfo] = (), **words: Any
) -> tuple[Placed, VolumeJob]:
    """Written, read and placed, as the process does it: the voxels are mapped from the disk."""
    job = read_job(write_job(folder, voxels, affine, **words))
    return place(job, read_voxels(folder), infos), job


def infos_of(models: Path) -> list[BundleInfo]:
    """The bundles of a folder."""
    return list_bundles(models)


def scrambled(
    array: np.ndarray, affine: np.ndarray, order: Sequence[int], flip: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored in another order: axis a of the new one is axis ``order[a]``, reversed if ``flip[a]``."""
    new = np.transpose(array, order)
    after = np.eye(4)
    after[:3, 3] = affine[:3, 3]
    for axis, source in enumerate(order):
        step = affine[:3, source].copy()
        if flip[axis]:
            after[:3, 3] += step * (array.shape[source] - 1)
            step = -step
            new = np.flip(new, axis)
        after[:3, axis] = step
    return np.ascontiguousarray(new), after
