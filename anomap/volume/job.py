"""The job folder: what a viewer writes, and what this program checks before it does anything.

JOB/job.json      the fields of `VolumeJob`
JOB/voxels.npy    (k, j, i) numbers, as the viewer holds them
JOB/result/       made at the end, at once: see `anomap.volume.view`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from anomap.types import Float64

FORMAT = "anomap.volume/1"
GATHERED_PREFIX = ".anomap-files-"  # of the folder in which the DICOM files are brought together while they are read
JOB, VOXELS, RESULT_FOLDER = "job.json", "voxels.npy", "result"
_KEYS = {"format", "affine_lps", "to_world", "nonlinear", "files", "through_lps", "models", "config"}
_LEAST_DETERMINANT = 1e-6  # of three directions; of those that stand on each other it is 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeJob:
    """One volume to analyse.

    Attributes:
        folder: The job folder.
        affine: ``(4, 4)`` index (k, j, i, 1) -> LPS mm of the volume itself.
        to_world: ``(4, 4)`` LPS mm -> LPS mm: the linear transform the viewer has put the volume under.
        nonlinear: The volume is under a transform that no matrix describes; `to_world` is not used then.
        files: The DICOM files it was loaded from; empty when it never was DICOM.
        through: Points in LPS mm of the volume itself; only the axial slices from the lowest to the highest of
            them are analysed. Empty: all.
        models: Folder of bundles; None: those of anomap.
        config: What to do.
    """

    folder: Path
    affine: Float64
    to_world: Float64
    nonlinear: bool
    files: tuple[Path, ...]
    through: tuple[tuple[float, float, float], ...]
    models: Path | None
    config: AnalyzeConfig


def read_job(folder: Path) -> VolumeJob:
    """Read ``job.json``.

    Raises:
        AnomapError: E200 when it is missing, of another format or not valid; E112 when its matrices are not.
    """
    try:
        content: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
        if content.get("format") != FORMAT or set(content) != _KEYS:
            raise AnomapError("E200", f"{JOB} must be of format {FORMAT!r} with {', '.join(sorted(_KEYS))}")
        if not isinstance(content["files"], list) or not isinstance(content["nonlinear"], bool):
            raise AnomapError("E200", f"{JOB}: files must be a list, nonlinear true or false")
        job = VolumeJob(
            folder=folder,
            affine=np.array(content["affine_lps"], np.float64),
            to_world=np.array(content["to_world"], np.float64),
            nonlinear=content["nonlinear"],
            files=tuple(Path(name) for name in content["files"]),
            through=tuple((float(x), float(y), float(z)) for x, y, z in content["through_lps"]),
            models=Path(content["models"]) if content["models"] else None,
            config=AnalyzeConfig.from_dict(content["config"]),
        )
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise AnomapError("E200", f"{JOB} can't be read: {type(error).__name__}") from error
    if not np.isfinite(job.through).all():
        raise AnomapError("E200", f"{JOB}: a point of through_lps is not finite")
    if not (_invertible(job.affine) and _invertible(job.to_world)):
        raise AnomapError("E112", "the volume's matrix is not an invertible one of 4 x 4 finite numbers")
    return job


def _invertible(matrix: Float64) -> bool:
    """Whether it maps millimetres or indices to places and back."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
        return False
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    return bool((lengths > 0).all() and abs(np.linalg.det(matrix[:3, :3] / lengths)) > _LEAST_DETERMINANT)


def read_voxels(folder: Path) -> np.ndarray:
    """The voxels ``(k, j, i)``, mapped from the disk.

    Raises:
        AnomapError: E105 when there are none or they are no three-dimensional array of numbers.
    """
    try:
        voxels: np.ndarray = np.lib.format.open_memmap(folder / VOXELS, mode="r")  # no archives, and never objects
    except (OSError, ValueError, SyntaxError, TokenError) as error:
        raise AnomapError("E105", f"{VOXELS} holds no array: {type(error).__name__}") from error
    if voxels.ndim != 3 or 0 in voxels.shape or voxels.dtype.kind not in "iufb":
        raise AnomapError("E105", f"expected a volume of one number a voxel, got {voxels.dtype} {voxels.shape}")
    return voxels
