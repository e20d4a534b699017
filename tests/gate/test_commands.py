"""Calibrate, gate and watch through the command line with a toy model: exit statuses, files, and one verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pydicom
import pytest

from anomap.cli import main
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.gate.site import read_site, write_site

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text())
QUICK = ["--steps", "1"]


def write_patient(folder: Path, number: int) -> Path:
    for path in write_radiograph_phantom(folder, rows=64, columns=56, seed=number):
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.StudyDate = f"P{number}", f"2026{1 + number % 12:02d}01"
        dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def normals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("normals")
    for number in range(20):
        write_patient(folder / f"study{number:02d}", number)
    write_patient(folder / "twice", 3)
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def cohort(normals, toy_models, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("site") / "cohort.json"
    words = ["calibrate", str(normals), "-o", str(path), "--model", "toy-radiograph", "--models", str(toy_models)]
    assert main([*words, *QUICK]) == 0
    return path


def gate(source, out, toy_models, *words):
    more = ["--models", str(toy_models), "--outputs", "sr", *QUICK]
    return main(["gate", str(source), "--out", str(out), *more, *words])


def content(out: Path) -> dict:
    result = json.loads((out / "result.json").read_text())
    for path in out.rglob("result.json"):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))
    return result


def test_a_cohort_holds_each_patient_once_under_a_made_up_name(cohort):
    site = read_site(cohort)
    assert len(site.strata) == 20
    assert set(site.strata.values()) == {"radiograph, chest, 1 image"}
    assert "20 normal patients" in site.images.description
    assert "P3" not in cohort.read_text()
    assert sorted(path.name for path in cohort.parent.iterdir()) == [
        "cohort.json", "cohort.reliability.png", "cohort.reliability.svg",
    ]  # fmt: skip


def test_a_cohort_is_not_overwritten_unasked_and_needs_patients(cohort, normals, toy_models, tmp_path, capsys):
    words = ["--model", "toy-radiograph", "--models", str(toy_models), *QUICK]
    assert main(["calibrate", str(normals), "-o", str(cohort), *words]) == 2
    assert main(["calibrate", str(tmp_path), "-o", str(tmp_path / "x.json"), *words]) == 3
    assert "E100" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_series_with_a_gap_joins_a_cohort_only_when_gaps_are_allowed(toy_models, tmp_path, capsys):
    write_ct_phantom(tmp_path / "normals" / "one", slices=6, rows=64, columns=64)[2].unlink()
    words = ["calibrate", str(tmp_path / "normals"), "--model", "toy-ct", "--models", str(toy_models), *QUICK]
    assert main([*words, "-o", str(tmp_path / "strict.json")]) == 3
    assert "E103" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "lax.json"), "--allow-gaps"]) == 0
    assert len(read_site(tmp_path / "lax.json").images.patients) == 5


def test_report_file_and_exit_status_say_the_same(normals, cohort, toy_models, tmp_path):
    """The first of the cohort's own with a small p under a lax policy alarms, under a strict one it passes."""
    policy = tmp_path / "policy.toml"
    for alphas, status, verdict, word in [
        ((0.05, 0.01), 0, "PASS", "Pass"),
        ((0.999, 0.01), 10, "REVIEW", "Review"),
        ((0.9995, 0.999), 20, "REJECT", "Reject"),
    ]:
        policy.write_text(f"alpha_review = {alphas[0]}\nalpha_reject = {alphas[1]}\n")
        out, words = tmp_path / verdict, ["--cohort", str(cohort), "--policy", str(policy)]
        assert gate(normals / "study00", out, toy_models, *words) == status
        result = content(out)
        assert result["verdict"] == verdict
        assert result["gate"] == {"mode": "enforce", "exit_status": status}
        assert result["config"]["cohort"] == ["cohort.json"]
        (report,) = [pydicom.dcmread(path) for path in out.rglob("sr.dcm")]
        meanings = {str(item.value).lower() for item in report.iterall() if item.keyword == "CodeMeaning"}
        assert any(word.lower() in meaning for meaning in meanings)


def test_without_a_cohort_nothing_passes(normals, toy_models, tmp_path):
    assert gate(normals / "study00", tmp_path / "out", toy_models) == 10
    assert content(tmp_path / "out")["verdict"] == "UNCALIBRATED"


def test_shadow_records_and_lets_go(normals, toy_models, tmp_path):
    assert gate(normals / "study00", tmp_path / "out", toy_models, "--mode", "shadow") == 0
    assert content(tmp_path / "out")["gate"] == {"mode": "shadow", "exit_status": 10}
    assert gate(normals / "notes.txt", tmp_path / "bad", toy_models, "--mode", "shadow") == 0
    assert content(tmp_path / "bad")["error"]["code"] == "E101"
    shadow = ["--mode", "shadow", "--cohort", str(tmp_path / "none.json")]
    assert gate(normals / "study00", tmp_path / "usage", toy_models, *shadow) == 2


def test_a_check_by_tag_refuses_before_any_compute(normals, cohort, toy_models, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("[checks]\nbody_part = ['ABDOMEN']\n")
    words = ["--cohort", str(cohort), "--policy", str(policy)]
    assert gate(normals / "study00", tmp_path / "out", toy_models, *words) == 20
    result = content(tmp_path / "out")
    assert result["verdict"] == "REJECT"
    assert result["series"][0]["error"]["code"] == "E118"
    assert not list((tmp_path / "out").rglob("*.dcm"))
    policy.write_text("[checks]\nbody_part = ['ABDOMEN']\non_failure = 'review'\n")
    assert gate(normals / "study00", tmp_path / "out2", toy_models, *words) == 10


def test_a_cohort_of_other_settings_or_weights_is_refused(normals, cohort, toy_models, tmp_path, capsys):
    assert gate(normals / "study00", tmp_path / "out", toy_models, "--cohort", str(cohort), "--steps", "2") == 4
    assert "E303" in capsys.readouterr().err
    site = read_site(cohort)
    write_site(tmp_path / "other.json", replace(site, images=replace(site.images, bundle_sha256="ff" * 32)))
    assert gate(normals / "study00", tmp_path / "out2", toy_models, "--cohort", str(tmp_path / "other.json")) == 4
    assert "E303" in capsys.readouterr().err


def test_usage_and_unusable_input_have_their_own_status(normals, toy_models, tmp_path):
    assert gate(normals / "study00", tmp_path / "out", toy_models, "--policy", str(tmp_path / "none.toml")) == 2
    assert gate(tmp_path / "nowhere", tmp_path / "out2", toy_models) == 3
    assert gate(normals / "notes.txt", tmp_path / "out3", toy_models) == 3
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(normals)])
    assert ended.value.code == 2


def test_a_crash_is_no_pass(normals, toy_models, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr("anomap.study.analyze_series", broken)
    assert gate(normals / "study00", tmp_path / "out", toy_models) == 4
    monkeypatch.setattr("anomap.study.StudyRun.finish", broken)
    assert gate(normals / "study00", tmp_path / "out2", toy_models) == 4


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_being_stopped_is_no_pass_even_in_shadow(normals, toy_models, tmp_path, number, status):
    words = ["gate", str(normals / "study00"), "--out", str(tmp_path / "out"), "--models", str(toy_models)]
    command = [sys.executable, "-m", "anomap.cli", *words, "--mode", "shadow", "--json", "--steps", "1000000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background may ignore it
    )
    try:
        for line in process.stdout:
            if b'"project"' in line:
                break
        process.send_signal(number)
        process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == status
    assert not (tmp_path / "out").exists()


def test_drift_is_called_with_a_status_of_its_own(tmp_path, capsys):
    def write(number, p):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = {
            "kind": "series", "status": "complete", "p_value": p, "cohort": {"id": "a", "patients": 99},
            "run": {"created": f"2026-01-01T00:00:{number:02d}"},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))

    for number in range(9):
        write(number, 0.01)
    assert main(["drift", str(tmp_path)]) == 3  # too few to say anything
    for number in range(9, 20):
        write(number, 0.01)
    (tmp_path / "5" / "result.json").write_text("{")  # passed over
    assert main(["drift", str(tmp_path), "--plot", str(tmp_path / "drift")]) == 10
    assert "more small p-values" in capsys.readouterr().out
    assert (tmp_path / "drift.svg").stat().st_size > 1000
    for number in range(20, 40):
        write(number, (number - 19) * 0.05)
    assert main(["drift", str(tmp_path), "--last", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == 20
