"""A site for the tests of the gate: twenty normal patients, their cohort, and Holoscan applications run in earnest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pydicom

from anomap.cli import main
from anomap.dicom.phantom import write_radiograph_phantom
from deploy_app.supervisor import child_environment

ROOT = Path(__file__).parents[2]
PATIENTS = 20
QUICK = "analyze: {outputs: [sr], steps: 1, cohort: [%s]}\n"


def write_patient(folder: Path, number: int) -> Path:
    """One radiograph of one patient."""
    for path in write_radiograph_phantom(folder, rows=128, columns=112, seed=number):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = f"P{number}"
        dataset.save_as(path)
    return folder


def write_cohort(folder: Path, models: Path) -> Path:
    """A cohort of `PATIENTS` patients; each of them passes, being as odd as a member."""
    for number in range(PATIENTS):
        write_patient(folder / "normals" / f"p{number:02d}", number)
    path = folder / "cohort.json"
    words = ["calibrate", str(folder / "normals"), "-o", str(path), "--model", "toy-radiograph"]
    assert main([*words, "--models", str(models), "--steps", "1"]) == 0
    return path


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Python with Holoscan's environment and none of a container's."""
    unwanted = ("HOLOSCAN_", "MERCURE_", "ANOMAP_")
    environment = {key: value for key, value in child_environment("ERROR").items() if not key.startswith(unwanted)}
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**environment, "HOLOSCAN_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
    )  # fmt: skip
