"""The process that analyses one volume: ``python -m anomap.volume JOB``. Not for people.

    stdin   "cancel", or its end: the process ends at once, nothing is published
    stdout  JSON lines, the events of `anomap.console` and
            {"event": "device", "device": "cuda", "torch": "2.13.0", "free_gb": 11.2}
            {"event": "note", "text": "..."}                a warning or a retreat, for people
            {"event": "done", "exit_status": 0}             last: JOB/result/ is there
            {"event": "error", "code": "E113", ...}         last: it is not

It ends with the exit status of the table in `anomap.errors`; 130 when it was cancelled.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from anomap.bundle import list_bundles, load_bundle
from anomap.cli import model_folder
from anomap.console import begin, json_lines
from anomap.domain import choose_bundle
from anomap.errors import ExitStatus
from anomap.output import as_error, error_entry, staged
from anomap.pipeline import write_overlays, write_report
from anomap.process import own_stdout
from anomap.study import Listener, resolve_device
from anomap.volume.fit import analyze_within_memory
from anomap.volume.job import RESULT_FOLDER, VolumeJob, read_job, read_voxels
from anomap.volume.place import place
from anomap.volume.view import write_view


def main(words: list[str]) -> int:
    """Run one job; the exit status."""
    begin()
    channel = own_stdout()
    tell = json_lines(channel)
    threading.Thread(target=_watch_stdin, name="cancel", daemon=True).start()
    try:
        run_job(read_job(Path(words[0])), tell)
    except (Exception, KeyboardInterrupt) as cause:
        error = as_error(cause)
        tell({"event": "error", **error_entry(error), "exit_status": int(error.status)})
        return int(error.status)
    tell({"event": "done", "exit_status": int(ExitStatus.OK)})
    return ExitStatus.OK


def run_job(job: VolumeJob, tell: Listener) -> None:
    """Analyse a volume and publish ``result/`` in its job folder.

    Args:
        job: What the viewer asks for.
        tell: Told of every step.

    Raises:
        AnomapError: As the stages do; ``result/`` then holds the refusal.
    """

    def stage(name: str, done: int, total: int) -> None:
        tell({"event": "stage", "stage": name, "done": done, "total": total})

    with staged(job.folder / RESULT_FOLDER) as folder:
        stage("read", 0, 1)
        infos = list_bundles(model_folder(job.models))
        placed = place(job, read_voxels(job.folder), infos)
        series = placed.series
        info, reason = choose_bundle(series, infos, job.config.model)
        tell({"event": "model", "model": info.name, "version": info.version, "reason": reason})
        for warning in series.warnings:
            tell({"event": "note", "text": warning})
        stage("load model", 0, 1)
        device = resolve_device(job.config.device)
        tell({"event": "device", "device": device, **_facts(device)})

        def say(text: str) -> None:
            tell({"event": "note", "text": text})

        analysis = analyze_within_memory(
            series, lambda where: load_bundle(info.folder, where), device, job.config, stage, reason, say
        )
        stage("write", 0, 1)
        segmentation, entries = write_overlays(analysis, folder, job.config)
        write_view(analysis, placed, job, folder, _objects(series.headers, job, entries))
        write_report(analysis, folder, job.config, segmentation, entries)
        stage("write", 1, 1)


def _objects(headers: tuple[Any, ...], job: VolumeJob, entries: list[dict[str, Any]]) -> list[str]:
    """Names of the DICOM objects that the result will hold."""
    report = ["sr.dcm"] if headers and "sr" in job.config.outputs else []
    return report + [entry["file"] for entry in entries if entry["sop_class_uid"]]


def _facts(device: str) -> dict[str, Any]:
    """What a user wants to know when it is slow or runs out of memory."""
    import torch

    free = {"free_gb": round(torch.cuda.mem_get_info(device)[0] / 1e9, 1)} if device.startswith("cuda") else {}
    return {"torch": str(torch.__version__), **free}


def _watch_stdin() -> None:
    """End the process when it is told to, or when whoever started it has gone.

    At once, also in the midst of a long computation: what is written lies in the job folder, which the starter removes.
    """
    sys.stdin.readline()
    os._exit(int(ExitStatus.CANCELLED))
