"""Ways to run the logic in tests, and volumes to run it on."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from AnomapLib.logic import AnomapLogic, Outcome, Settings, State
from AnomapLib.runner import LocalRunner

from anomap.output import as_error, error_entry
from anomap.volume.job import read_job
from anomap.volume.run import run_job

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
KJI = np.eye(4)[[2, 1, 0, 3]]  # (i, j, k, 1) <-> (k, j, i, 1)


class WithinProcess:
    """A runner that works the job off before `start` returns: the same files, the same core, no second process."""

    running = False

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._folder = Path(tempfile.mkdtemp(prefix="anomap-test-"))

    def start(self, write: Any, read: Any) -> None:
        self.close()
        self._folder.mkdir()
        write(self._folder)
        try:
            run_job(read_job(self._folder), self._events.append)
            self._events.append({"event": "loaded", "view": read(self._folder / "result")})
        except Exception as error:
            self._events.append({"event": "error", **error_entry(as_error(error))})

    def poll(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def cancel(self) -> None:
        self._events = [{"event": "cancelled"}]

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def local_runner() -> LocalRunner:
    """The real runner with this Python."""
    import os

    return LocalRunner(sys.executable, {**os.environ, "OMP_NUM_THREADS": "1"})


def finish(logic: AnomapLogic, timeout_s: float = 120.0) -> State:
    """Call `update` until the analysis has ended."""
    end = time.monotonic() + timeout_s
    while logic.state in (State.RUNNING, State.CANCELLING):
        assert time.monotonic() < end, f"still {logic.state} ({logic.message})"
        if not logic.update():
            time.sleep(0.01)
    return logic.state


def analysed(application: Any, node: Any, models: Path, **choices: Any) -> tuple[AnomapLogic, Outcome]:
    """The outcome of a volume that can be analysed, within this process."""
    files = choices.pop("files", {})
    logic = AnomapLogic(application.scene, WithinProcess(), lambda uid: files.get(uid, ""))
    logic.start(node, Settings(modelFolder=str(models), **choices))
    assert finish(logic) is State.DONE, logic.message
    return logic, logic.outcome


def trunk(shape: tuple[int, int, int] = (12, 60, 72), bead: tuple[int, int, int] = (7, 22, 46)) -> np.ndarray:
    """A CT of an elliptical trunk with two lungs and a metal bead, (S, P, L) order, HU int16."""
    slices, rows, columns = shape
    k, row, col = np.mgrid[0:slices, 0:rows, 0:columns].astype(float)
    y, x = (row - (rows - 1) / 2) / rows, (col - (columns - 1) / 2) / columns
    volume = np.full(shape, -1000.0)
    volume[np.hypot(y / 0.4, x / 0.44) < 1] = 40.0
    for side in (-0.2, 0.18):  # not symmetrical: a mirrored volume is another one
        volume[np.hypot((y + 0.05) / 0.2, (x - side) / 0.12) < 1] = -850.0
    volume[np.hypot(y - 0.25, x) < 0.06] = 500.0
    volume += 8 * np.sin(k + row / 3) + np.random.default_rng(0).normal(0, 5, shape)
    at = tuple(slice(index - 2, index + 3) for index in bead)
    volume[at] = 3000.0
    return np.round(volume).astype(np.int16)


def spl_affine(spacing_mm: tuple[float, float, float] = (6.0, 5.0, 4.5)) -> np.ndarray:
    """Index (k, row, col, 1) of `trunk` -> LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(spacing_mm)
    affine[:3, 3] = (-160.0, -130.0, 40.0)
    return affine


def ijk_to_ras(affine: np.ndarray) -> np.ndarray:
    """The IJKToRAS of an array with `affine` (its index -> LPS mm)."""
    return RAS_LPS @ affine @ KJI


def rearranged(
    voxels: np.ndarray, affine: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored in another order of axes and directions; every voxel stays where it is in space."""
    mine = voxels.transpose(order)
    matrix = affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            mine = np.flip(mine, axis)
            matrix[:3, 3] += matrix[:3, axis] * (mine.shape[axis] - 1)
            matrix[:3, axis] *= -1
    return np.ascontiguousarray(mine), matrix


def value_at(node: Any, ras: tuple[float, float, float]) -> float:
    """The voxel of a volume node nearest to a point in its own RAS, read with VTK's own arithmetic."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    i, j, k = (round(value) for value in matrix.MultiplyPoint((*ras, 1.0))[:3])
    return node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0)
