"""One job from its folder to its result: placed, analysed, given back."""

from __future__ import annotations

from typing import Any

from anomap.bundle import list_bundles, load_bundle
from anomap.cli import model_folder
from anomap.domain import choose_bundle
from anomap.output import staged
from anomap.pipeline import write_overlays, write_report
from anomap.study import Listener, resolve_device, stages_within
from anomap.volume.fit import analyze_within_memory
from anomap.volume.job import RESULT_FOLDER, VolumeJob, read_voxels
from anomap.volume.place import place
from anomap.volume.view import write_view


def run_job(job: VolumeJob, tell: Listener) -> None:
    """Analyse a volume and publish ``result/`` in its job folder.

    Args:
        job: What the viewer asks for.
        tell: Told of every step.

    Raises:
        AnomapError: As the stages do; ``result/`` then holds the refusal.
    """
    stage = stages_within(job.config.time_limit_s, tell)

    def say(text: str) -> None:
        tell({"event": "note", "text": text})

    with staged(job.folder / RESULT_FOLDER) as folder:
        stage("read", 0, 1)
        infos = list_bundles(model_folder(job.models))
        placed = place(job, read_voxels(job.folder), infos)
        series = placed.series
        info, reason = choose_bundle(series, infos, job.config.model)
        tell({"event": "model", "model": info.name, "version": info.version, "reason": reason})
        for warning in series.warnings:
            say(warning)
        stage("load model", 0, 1)
        device = resolve_device(job.config.device)
        tell({"event": "device", "device": device, **_facts(device)})
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
