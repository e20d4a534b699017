"""The contract of Mercure 0.4, imitated with podman: how it hands over images, starts the container and reads results.

Mercure itself is not installed here. What it does was read in its sources (docs/deploy.md says what).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pydicom
import pytest

from anomap.errors import ExitStatus
from tests.dicom.tools import complaints
from tests.image.conftest import writable
from tests.image.engine import ROOT, Engine

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
RULES = json.loads((ROOT / "docs" / "result.schema.json").read_text())
IN, OUT = "/tmp/data", "/tmp/output"
ENVIRONMENT = {
    "MERCURE_IN_DIR": IN, "MERCURE_OUT_DIR": OUT, "HOLOSCAN_INPUT_PATH": IN, "HOLOSCAN_OUTPUT_PATH": OUT,
    "MONAI_INPUTPATH": IN, "MONAI_OUTPUTPATH": OUT,
}  # fmt: skip
SETTINGS = {"steps": 2, "outputs": ["sr", "seg"]}
CANARY = "ZZPHI^CANARY"


def handed_over(study: Path, task: Path, settings: object) -> Path:
    """A task as Mercure prepares it: images and tags flat in ``in``, the task beside them, an empty ``out``."""
    task.mkdir()
    source, _ = writable(task / "in"), writable(task / "out")
    for number, path in enumerate(sorted(study.rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        name = f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.{number}"
        dataset.save_as(source / f"{name}.dcm")
        tags = {"SeriesInstanceUID": dataset.SeriesInstanceUID, "PatientName": CANARY, "Filename": str(path)}
        (source / f"{name}.tags").write_text(json.dumps(tags))
    module = {"docker_tag": "anomap:latest", "settings": settings}
    process = {
        "module_name": "anomap", "module_config": module, "settings": settings, "retain_input_images": False,
        "output": None,
    }  # fmt: skip
    info = {"action": "both", "uid": "1.2.3", "uid_type": "study", "patient_name": CANARY, "mrn": "ZZID"}
    (source / "task.json").write_text(json.dumps({"id": "task-1", "info": info, "dispatch": {}, "process": process}))
    for path in source.iterdir():
        path.chmod(0o666)
    return task


def processed(engine: Engine, task: Path, more: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """What Mercure's processor does: its own user, no network, no capabilities; the root file system stays writable."""
    options = ["--user=2001:2001", "--group-add=2001", "--network=none", "--cap-drop=ALL", *more]
    options += [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]
    run = engine.run(options=[*options, f"--volume={task / 'in'}:{IN}", f"--volume={task / 'out'}:{OUT}"])
    assert CANARY not in run.stdout + run.stderr
    assert "ZZID" not in run.stdout + run.stderr
    return run


@pytest.mark.parametrize("more", [(), ("--read-only", "--tmpfs=/tmp")], ids=["as Mercure does", "read-only"])
def test_objects_lie_at_the_top_and_the_task_sets_the_settings(more, engine, study, tmp_path):
    task = handed_over(study, tmp_path / "task", SETTINGS)
    before = sorted(path.name for path in (task / "in").iterdir())
    run = processed(engine, task, more)
    assert run.returncode == 0, run.stderr
    out = task / "out"
    assert all(path.is_file() for path in out.iterdir())
    objects = sorted(out.glob("*.dcm"))  # what Mercure counts and sends on
    assert len(objects) >= 2
    for path in objects:
        assert complaints(path) == []
    top = json.loads((out / "result.json").read_text())
    jsonschema.validate(top, RULES)
    assert (top["status"], top["layout"]) == ("complete", "flat")
    assert top["config"]["steps"] == SETTINGS["steps"]
    assert top["config"]["outputs"] == SETTINGS["outputs"]
    assert {path.name for path in objects} == {
        output["file"]
        for entry in top["series"]
        for output in json.loads((out / f"{entry['folder']}_result.json").read_text())["outputs"]
    }
    assert sorted(path.name for path in (task / "in").iterdir()) == before


def test_a_series_that_fails_is_said_in_the_notification(engine, study, tmp_path):
    task = handed_over(study, tmp_path / "task", SETTINGS)
    for path in (task / "in").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        if dataset.Modality == "CT":  # nothing but air and a little noise
            air = np.zeros_like(dataset.pixel_array)
            air[::2, ::2] = 1
            dataset["PixelData"].value = air.tobytes()
            dataset.save_as(path)
    run = processed(engine, task)
    assert run.returncode == ExitStatus.PARTIAL, run.stderr
    top = json.loads((task / "out" / "result.json").read_text())
    jsonschema.validate(top, RULES)
    assert top["verdict"] == "REVIEW"
    assert "REVIEW. no frame shows a body" in top["__mercure_notification"]["text"]
    assert len(list((task / "out").glob("*.dcm"))) >= 1


def test_settings_that_are_not_understood_stop_the_task(engine, study, tmp_path):
    task = handed_over(study, tmp_path / "task", {"presett": "fast"})
    run = processed(engine, task)
    assert run.returncode == ExitStatus.USAGE
    assert run.stderr.startswith("E200 ")
    assert list((task / "out").iterdir()) == []


def test_a_task_without_images_fails_and_sends_nothing(engine, tmp_path):
    (tmp_path / "none").mkdir()
    task = handed_over(tmp_path / "none", tmp_path / "task", SETTINGS)
    run = processed(engine, task)
    assert run.returncode == ExitStatus.UNUSABLE_INPUT
    assert [path.name for path in (task / "out").iterdir()] == ["result.json"]
