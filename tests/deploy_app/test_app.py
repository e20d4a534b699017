"""The application as users start it: same numbers as the command line, the environment of containers, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from anomap.bundle import load_bundle
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import ExitStatus
from anomap.gate.site import write_site
from deploy_app.settings import APP_YAML
from tests.calibration.test_site import made_site

ROOT = Path(__file__).parents[2]
CANARY = "ZZPHI^CANARY"
QUICK = "analyze: {steps: 2}\n"


def start(*words: object, **environment: object) -> subprocess.CompletedProcess[str]:
    """``python -m deploy_app`` in a clean environment."""
    unwanted = ("HOLOSCAN_", "MERCURE_", "ANOMAP_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return subprocess.run(
        [sys.executable, "-m", "deploy_app", *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**clean, **{key: str(value) for key, value in environment.items()}, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "quick.yaml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A CT series, two radiographs in one series, a text file and an image that is none of ours."""
    folder = tmp_path_factory.mktemp("study")
    who = {"patient_name": CANARY, "patient_id": "ZZID"}
    write_ct_phantom(folder / "ct", slices=3, rows=64, columns=64, **who)
    write_radiograph_phantom(folder / "dx", rows=96, columns=80, images=2, **who)
    (folder / "README.txt").write_text("not DICOM")
    return folder


@pytest.fixture(scope="module")
def both(study, toy_models, settings, tmp_path_factory) -> tuple[Path, Path]:
    """The same study by way of the command line and of the application."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "anomap", "analyze", str(study), str(out / "cli"), "--models", str(toy_models)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--steps", "2"], check=True, capture_output=True, cwd=ROOT, env=environment)
    run = start("-i", study, "-o", out / "app", "-m", toy_models, "-c", settings)
    assert run.returncode == 0, run.stderr[-3000:]
    assert CANARY not in run.stderr + run.stdout
    assert "ZZID" not in run.stderr + run.stdout
    return out / "cli", out / "app"


def folders(output: Path) -> list[Path]:
    return sorted(path for path in output.iterdir() if path.is_dir())


def test_the_application_gives_the_scores_of_the_command_line(both):
    cli, app = both
    assert [path.name for path in folders(cli)] == [path.name for path in folders(app)]
    assert len(folders(cli)) == 3
    for one, two in zip(folders(cli), folders(app), strict=True):
        first, second = (json.loads((path / "result.json").read_text()) for path in (one, two))
        assert list(first["run"]["seconds"]) == list(second["run"]["seconds"])
        for result in (first, second):
            del result["run"], result["outputs"]
        assert first == second
    top = [json.loads((path / "result.json").read_text()) for path in both]
    for result in top:
        del result["run"]
    assert top[0] == top[1]


def test_the_application_gives_the_overlays_of_the_command_line(both):
    compared = 0
    for one, two in zip(*map(folders, both), strict=True):
        assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
        assert (one / "preview.png").read_bytes() == (two / "preview.png").read_bytes()
        for name in ("seg.dcm", "pm.dcm", "sr.dcm"):
            if (one / name).exists():
                first, second = pydicom.dcmread(one / name), pydicom.dcmread(two / name)
                assert first.SOPInstanceUID == second.SOPInstanceUID
                for keyword in ("PixelData", "FloatPixelData"):
                    assert first.get(keyword) == second.get(keyword)
                compared += 1
    assert compared >= 4


@pytest.mark.parametrize(
    ("variables", "flat"),
    [
        (("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "HOLOSCAN_MODEL_PATH"), False),
        (("MERCURE_IN_DIR", "MERCURE_OUT_DIR", "ANOMAP_MODELS"), True),
    ],
    ids=["holoscan", "mercure"],
)
def test_folders_by_environment(variables, flat, study, toy_models, settings, tmp_path):
    output = tmp_path / "out"
    output.mkdir()  # containers find their output folder mounted
    values = dict(zip(variables, (study / "dx", output, toy_models), strict=True))
    run = start(HOLOSCAN_CONFIG_PATH=settings, **values)
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads((output / "result.json").read_text())["status"] == "complete"
    assert len(folders(output)) == (0 if flat else 2)
    assert len(list(output.glob("*_sr.dcm" if flat else "*/sr.dcm"))) == 2


def test_nothing_to_analyse_is_no_success(toy_models, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("no image")
    run = start("-i", tmp_path / "in", "-o", tmp_path / "out", "-m", toy_models)
    assert run.returncode == ExitStatus.UNUSABLE_INPUT
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["exit_status"] == ExitStatus.UNUSABLE_INPUT
    assert result["verdict"] is None


def test_a_missing_model_folder_is_a_failure(study, tmp_path):
    run = start("-i", study / "dx", "-o", tmp_path / "out", "-m", tmp_path / "nowhere")
    assert run.returncode == ExitStatus.FAILED
    assert "E300" in run.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["error"]["code"] == "E300"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_a_cohort_of_other_settings_is_refused_before_anything_is_projected(study, toy_models, tmp_path):
    site = made_site(sha256=load_bundle(toy_models / "toy-radiograph").info.sha256)
    write_site(tmp_path / "cohort.json", replace(site, bundle_name="toy-radiograph"))
    (tmp_path / "app.yaml").write_text(f"analyze: {{steps: 2, cohort: ['{tmp_path / 'cohort.json'}']}}\n")
    run = start("-i", study / "dx", "-o", tmp_path / "out", "-m", toy_models, "-c", tmp_path / "app.yaml")
    assert run.returncode == ExitStatus.FAILED
    assert "E303" in run.stderr
    assert "projecting" not in run.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["error"]["code"] == "E303"


def test_a_series_that_fails_does_not_take_the_others_with_it(toy_models, settings, tmp_path):
    write_radiograph_phantom(tmp_path / "in" / "good", rows=96, columns=80, patient_id="P", seed=1)
    (path,) = write_radiograph_phantom(tmp_path / "in" / "bad", rows=96, columns=80, patient_id="P", seed=2)
    dataset = pydicom.dcmread(path)
    dataset.BodyPartExamined = "HAND"  # outside the model's domain
    dataset.save_as(path)
    run = start("-i", tmp_path / "in", "-o", tmp_path / "out", "-m", toy_models, "-c", settings)
    top = json.loads((tmp_path / "out" / "result.json").read_text())
    assert sorted(entry["status"] for entry in top["series"]) == ["complete", "not_applicable"]
    assert run.returncode == top["exit_status"]


def test_usage_errors_end_with_2_and_one_line(study, tmp_path):
    run = start("-o", tmp_path / "out")
    assert run.returncode == ExitStatus.USAGE
    assert run.stderr.startswith("E200 no input")
    assert len(run.stderr.strip().splitlines()) == 1


def test_the_shipped_settings_are_valid():
    from deploy_app.settings import read_settings

    read = read_settings(["-i", "in", "-o", "out", "-c", str(APP_YAML)], {})
    assert read.config.preset == "fast"
    assert read.timeout_s == 3600
