"""Whole CT series from folder to published result, in a process of its own each; `benchmarks/speed.py` runs this."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from anomap.dicom.phantom import write_ct_phantom

# Of the process itself: what the system keeps for a child that has ended begins with the memory of its parent.
_PROGRAM = """
import re, sys
from pathlib import Path
from anomap.cli import main
status = main()
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTimes:
    """One number of slices, preset fast, start of the program included.

    Attributes:
        slices: Of 512 x 512 pixels.
        threads: Processor threads.
        seconds: From the command to the published folder.
        stages: Seconds of each stage within it; what remains is loading the program, reading the files, publishing.
        peak_gb: Largest memory of the process, in gigabytes.
    """

    slices: int
    threads: int
    seconds: float
    stages: dict[str, float]
    peak_gb: float


def time_series(counts: Sequence[int], repeats: int, device: str, models: Path, work: Path) -> list[SeriesTimes]:
    """Series of several lengths, in turn.

    Args:
        counts: Slices.
        repeats: Rounds; medians over them, the largest memory of all.
        device: Torch device.
        models: Folder of bundles.
        work: An empty folder.
    """
    threads = len(os.sched_getaffinity(0))
    for count in counts:
        write_ct_phantom(work / f"ct{count}", slices=count, rows=512, columns=512, spacing_mm=(1.5, 0.75, 0.75))
    rounds = [[_analyse(work / f"ct{count}", models, device) for count in counts] for _ in range(repeats)]
    return [
        SeriesTimes(
            slices=count,
            threads=threads,
            seconds=round(median(found[place][0] for found in rounds), 1),
            stages={
                stage: round(median(found[place][1][stage] for found in rounds), 2) for stage in rounds[0][place][1]
            },
            peak_gb=round(max(found[place][2] for found in rounds), 2),
        )
        for place, count in enumerate(counts)
    ]


def _analyse(folder: Path, models: Path, device: str) -> tuple[float, dict[str, float], float]:
    """Seconds, seconds by stage, peak memory in gigabytes."""
    output = folder.with_name("out")
    words = ["analyze", str(folder), str(output), "--overwrite", "--models", str(models), "--device", device]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - start
    (result,) = output.glob("*/result.json")
    stages = json.loads(result.read_text())["run"]["seconds"]
    peak_kb = int(done.stdout.split()[-1])
    return seconds, {"start and read": seconds - sum(stages.values()), **stages}, peak_kb / 1e6


def report(times: Sequence[SeriesTimes]) -> str:
    """The figures as text."""
    lines = ["CT series of 512 x 512 pixels from folder to published result, start of the program included"]
    lines += [
        f"{found.slices:5} slices {found.seconds:8.1f} s {found.peak_gb:6.2f} GB, {found.threads} threads   "
        + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found.stages.items())
        for found in times
    ]
    return "\n".join(lines)
