"""How long a viewer's interface waits: for a 300-slice volume from Apply to result, and for Cancel.

python benchmarks/interactive.py           # needs the extras viewer and torch

Writes benchmarks/results/interactive.json. The extension's own logic runs on a real MRML scene, the analysis in its
process with ct-64. A loop stands for the interface thread: it calls `update` every 30 ms, as the module's timer does,
and measures how long each call takes and how late each tick comes because another thread held the interpreter's lock.
What views need to draw themselves is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from anomap.evaluation.machine import describe_machine
from anomap.viewer.shared import part

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.interactive/1"
TICK_S = 0.03
_FLIP_RAS = (-1.0, -1.0, 1.0)


def trunk(slices: int, side: int) -> np.ndarray:
    """A CT of an elliptical trunk with two lungs and a block of metal, HU int16 ``(k, row, col)``."""
    row, col = np.mgrid[0:side, 0:side] / side - 0.5
    plane = np.full((side, side), -1000.0)
    plane[np.hypot(row / 0.3, col / 0.42) < 1] = 40.0
    for middle in (-0.2, 0.2):
        plane[np.hypot((row + 0.03) / 0.17, (col - middle) / 0.12) < 1] = -850.0
    rng = np.random.default_rng(0)
    volume = np.stack([plane + rng.normal(0, 10, plane.shape) for _ in range(slices)]).astype(np.int16)
    volume[slices // 3 : slices // 2, side // 2 : side // 2 + side // 6, side // 4 : side // 2] = 3000
    return volume


def volume_node(scene: Any, voxels: np.ndarray, spacing_mm: tuple[float, float, float]) -> Any:
    """A volume node of axial slices, spacing (column, row, slice)."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "trunk")
    matrix = vtk.vtkMatrix4x4()
    for axis in range(3):
        matrix.SetElement(axis, axis, _FLIP_RAS[axis] * spacing_mm[axis])
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    return node


def timed(what: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


class Interface:
    """The interface thread's loop, and the longest time it was kept from its work."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self.longest_update_s = self.longest_delay_s = 0.0

    def until(self, ended: Callable[[], bool], limit_s: float = 3600.0) -> None:
        """Tick until something is so."""
        end = time.monotonic() + limit_s
        while not ended():
            if time.monotonic() > end:
                sys.exit(f"gave up after {limit_s:g} s: {self._logic.state} {self._logic.message}")
            late = timed(lambda: time.sleep(TICK_S)) - TICK_S
            self.longest_delay_s = max(self.longest_delay_s, late)
            self.longest_update_s = max(self.longest_update_s, timed(self._logic.update))


def measure_volume(application: Any, slices: int, side: int) -> dict[str, Any]:
    """One analysis from Apply to the last node."""
    logic_part, runner_part = part("logic"), part("runner")
    node = volume_node(application.scene, trunk(slices, side), (0.8, 0.8, 1.5))
    logic = logic_part.AnomapLogic(application.scene, runner_part.LocalRunner(sys.executable))
    interface = Interface(logic)
    begin = time.monotonic()
    start_s = timed(lambda: logic.start(node, logic_part.Settings(model="ct-64", device="cpu")))
    interface.until(lambda: logic.state not in (logic_part.State.RUNNING, logic_part.State.CANCELLING))
    if logic.outcome is None:
        sys.exit(logic.message)
    seconds = time.monotonic() - begin
    show_s = timed(lambda: logic.show(logic.outcome))
    threshold_s = timed(lambda: logic.setThreshold(logic.outcome, 0.5 * logic.outcome.maximum))
    logic.close()
    longest = max(start_s, interface.longest_update_s, interface.longest_delay_s, show_s, threshold_s)
    return {
        "voxels": [slices, side, side],
        "seconds": round(seconds, 1),
        "regions": sum(row.kind == "region" for row in logic.outcome.rows),
        "longest_block_ms": round(1000 * longest, 1),
        "start_ms": round(1000 * start_s, 1),
        "longest_update_ms": round(1000 * interface.longest_update_s, 1),
        "longest_delay_ms": round(1000 * interface.longest_delay_s, 1),
        "show_ms": round(1000 * show_s, 1),
        "threshold_ms": round(1000 * threshold_s, 1),
        "peak_memory_of_analysis_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, 2),
    }


def measure_cancel(application: Any, times: int) -> dict[str, Any]:
    """Cancel in the midst of a long projection."""
    logic_part, runner_part = part("logic"), part("runner")
    node = volume_node(application.scene, trunk(32, 128), (3.2, 3.2, 5.0))
    calls, gone = [], []
    for _ in range(times):
        logic = logic_part.AnomapLogic(application.scene, runner_part.LocalRunner(sys.executable))
        interface = Interface(logic)
        logic.start(node, logic_part.Settings(model="ct-64", preset="paper", device="cpu"))
        interface.until(lambda logic=logic: logic.message.startswith("project 1") or logic.outcome is not None, 300)
        process = logic.runner._process  # its end is what is measured
        begin = time.perf_counter()
        logic.cancel()
        calls.append(time.perf_counter() - begin)
        while _alive(process.pid):
            time.sleep(0.001)
        gone.append(time.perf_counter() - begin)
        logic.close()
    return {
        "times": times,
        "call_ms": {"median": round(1000 * median(calls), 2), "longest": round(1000 * max(calls), 2)},
        "process_gone_ms": {"median": round(1000 * median(gone), 1), "longest": round(1000 * max(gone), 1)},
    }


def _alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--cancels", type=int, default=10)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "interactive.json")
    words = parser.parse_args()
    from trame_slicer.core import SlicerApp

    application = SlicerApp()
    content = {
        "format": FORMAT,
        "machine": describe_machine("cpu", ROOT),
        "volume": measure_volume(application, words.slices, words.side),
        "cancel": measure_cancel(application, words.cancels),
    }
    words.output.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
