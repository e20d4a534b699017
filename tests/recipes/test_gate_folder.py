"""The shell recipe for nnU-Net and TotalSegmentator: only what passes reaches the segmenter's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "docs" / "recipes" / "gate_folder.sh"


def gate_folder(*words: object, anomap: str = f"{sys.executable} -m anomap") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ANOMAP": anomap}
    return subprocess.run(["sh", str(RECIPE), *map(str, words)], capture_output=True, text=True, env=environment)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_the_case_that_passes_is_given_on_byte_for_byte(cases, cohort, toy_models, tmp_path):
    passed, qa = tmp_path / "passed", tmp_path / "qa"
    run = gate_folder(cases, passed, qa, "--cohort", cohort, "--models", toy_models, "--steps", 1)
    assert run.returncode == 1  # one could not be decided
    assert sorted(run.stdout.split("\n"))[1:] == [
        "broken_0000.nii.gz: 3", "long_0000.nii.gz: 10", "plain_0000.nii.gz: 0",
    ]  # fmt: skip
    assert names(passed) == ["plain_0000.nii.gz"]
    assert (passed / "plain_0000.nii.gz").read_bytes() == (cases / "plain_0000.nii.gz").read_bytes()
    verdicts = {
        path.parent.name.partition("_")[0]: json.loads(path.read_text())["verdict"] for path in qa.glob("*/result.json")
    }
    assert verdicts == {"plain": "PASS", "long": "UNCALIBRATED", "broken": None}

    again = gate_folder(cases, passed, tmp_path / "qa2", "--cohort", cohort, "--models", toy_models)
    assert again.returncode == 2  # what passed once may not pass now
    assert not (tmp_path / "qa2" / "plain_0000.nii.gz").exists()


@pytest.mark.parametrize("broken", ["false", "kill -9 $$ ;", "/nowhere/anomap", "sh -c 'exit 4'"])
def test_a_gate_that_does_not_work_lets_nothing_through(broken, cases, tmp_path):
    script = tmp_path / "anomap"
    script.write_text(f"#!/bin/sh\n{broken}\n")
    script.chmod(0o755)
    run = gate_folder(cases, tmp_path / "passed", tmp_path / "qa", anomap=str(script))
    assert run.returncode == 1
    assert names(tmp_path / "passed") == []


def test_wrong_usage_is_2(cases, tmp_path):
    assert gate_folder(cases).returncode == 2
    assert gate_folder(tmp_path / "nowhere", tmp_path / "passed", tmp_path / "qa").returncode == 2
    (tmp_path / "empty").mkdir()
    assert gate_folder(tmp_path / "empty", tmp_path / "passed", tmp_path / "qa").returncode == 2
