"""The Snakemake workflow, run by Snakemake: it segments what passes, and a gate that fails is a failed job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "recipes" / "Snakefile"

pytestmark = pytest.mark.skipif(
    shutil.which("snakemake") is None, reason="snakemake is not on PATH (57 packages: pip install snakemake elsewhere)"
)


def snakemake(folder: Path, cohort: Path, models: Path) -> subprocess.CompletedProcess[str]:
    settings = {
        "cohort": str(cohort),
        "segment": "cp {image} {output}",
        "anomap": f"{sys.executable} -m anomap",
        "options": f"--models {models} --steps 1",
    }
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    words = ["--snakefile", str(WORKFLOW), "--cores", "1", "--keep-going", "--config"]
    return subprocess.run(
        ["snakemake", *words, *(f"{name}={value}" for name, value in settings.items())],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_what_passes_is_segmented_and_nothing_else(cases, cohort, toy_models, tmp_path):
    run = snakemake(tmp_path, cohort, toy_models)
    assert run.returncode == 1, run.stderr[-3000:]  # the damaged case
    assert names(tmp_path / "segmented") == ["plain"]
    assert names(tmp_path / "decided") == ["long", "plain"]
    assert (tmp_path / "qa" / "plain.status").read_text() == "0\n"
    assert (tmp_path / "qa" / "long.status").read_text() == "10\n"
    assert not (tmp_path / "qa" / "broken.status").exists()

    (cases / "broken_0000.nii.gz").unlink()
    run = snakemake(tmp_path, cohort, toy_models)
    assert run.returncode == 0, run.stderr[-3000:]
    assert names(tmp_path / "segmented") == ["plain"]
