"""The quick tier with a toy model: what passes early says so, all else comes from all slices."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pydicom
import pytest

from anomap.cli import main
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.gate.drift import records

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text())
PATIENTS, SLICES = 20, 9


@pytest.fixture(scope="module")
def normals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("normals")
    for number in range(PATIENTS):
        who = {"patient_id": f"P{number}", "seed": number}
        write_ct_phantom(folder / f"{number:02d}", slices=SLICES, rows=48, columns=48, spacing_mm=(5, 8, 8), **who)
    return folder


@pytest.fixture(scope="module")
def cohort(normals, toy_models, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("site") / "cohort.json"
    words = ["calibrate", str(normals), "-o", str(path), "--model", "toy-ct", "--models", str(toy_models)]
    assert main([*words, "--steps", "1"]) == 0
    return path


def gate(source, out, cohort, toy_models, *words):
    """The gate's status, the study's result and that of its one series."""
    more = ["--models", str(toy_models), "--cohort", str(cohort), "--steps", "1", *words]
    status = main(["gate", str(source), "--out", str(out), *more])
    results = [json.loads(path.read_text()) for path in (out / "result.json", *out.glob("*/result.json"))]
    for result in results:
        jsonschema.Draft202012Validator(SCHEMA).validate(result)
    return status, *results


def policy(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return ["--policy", str(path)]


def test_a_plain_series_passes_by_some_slices_and_every_output_says_so(normals, cohort, toy_models, tmp_path, capsys):
    plain = policy(tmp_path / "p.toml", "alpha_review = 0.05\n[quick]\nevery = 4\nmargin = 1\n")
    passed = None
    for number in range(PATIENTS):  # one in twenty of the cohort's own has a p-value that is not above the limit
        status, study, series = gate(normals / f"{number:02d}", tmp_path / f"{number}", cohort, toy_models, *plain)
        assert status == 0 or series["tier"]["name"] == "full"
        if series["tier"]["name"] == "quick":
            passed = number
            break
    assert passed is not None
    assert ", a quick look at one image in 4" in capsys.readouterr().out
    assert series["tier"] == study["series"][0]["tier"] == {"name": "quick", "every": 4, "first_look": None}
    assert study["gate"] == {"mode": "enforce", "exit_status": 0, "quick": {"every": 4, "margin": 1.0}}
    assert [image["frame"] for image in series["images"]] == [2, 6]
    assert series["geometry"]["frames"] == SLICES
    assert series["reasons"][-1]["code"] == "QUICK_LOOK"
    assert {entry["file"] for entry in series["outputs"]} == {"sr.dcm", "preview.png"}  # no map of what nobody saw
    (path,) = (tmp_path / f"{passed}").rglob("sr.dcm")
    report = pydicom.dcmread(path)
    assert "quick look at one image in 4" in [item.value for item in report.iterall() if item.keyword == "TextValue"]
    (series_item,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    images = {str(item.ReferencedSOPInstanceUID) for item in series_item.ReferencedSOPSequence}
    assert len(images) == SLICES  # the report is on the series, its scores on two of the images


def test_what_is_odd_in_a_slice_between_those_that_are_looked_at_does_not_pass(cohort, toy_models, tmp_path):
    """The scores that need no projection are taken of all slices."""
    write_ct_phantom(
        tmp_path / "rod", slices=SLICES, rows=48, columns=48, spacing_mm=(5, 8, 8), patient_id="X", seed=77
    )
    path = sorted((tmp_path / "rod").iterdir())[4]  # slices 2 and 6 are looked at
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.copy()
    pixels[22:25, 8:40] = pixels.max()
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    words = policy(tmp_path / "p.toml", "alpha_review = 0.05\n[quick]\nevery = 4\nmargin = 1\n")
    status, _, series = gate(tmp_path / "rod", tmp_path / "out", cohort, toy_models, *words)
    assert series["tier"]["name"] == "full"
    assert series["tier"]["first_look"]["p_value"] <= 0.05
    assert (status, series["verdict"]) == (10, "REVIEW")


@pytest.mark.parametrize(("alpha", "status", "verdict"), [(0.05, 0, "PASS"), (0.999, 10, "REVIEW")])
def test_what_is_not_clearly_plain_gets_the_result_of_the_full_run(
    normals, cohort, toy_models, tmp_path, alpha, status, verdict
):
    words = policy(
        tmp_path / "p.toml", f"alpha_review = {alpha}\n[quick]\nmargin = 20\n"
    )  # no p-value is above 20 alpha
    plain = policy(tmp_path / "full.toml", f"alpha_review = {alpha}\n")
    found = gate(normals / "00", tmp_path / "quick", cohort, toy_models, *words, "--quick", "3")
    expected = gate(normals / "00", tmp_path / "full", cohort, toy_models, *plain)
    assert found[0] == expected[0] == status
    assert found[2]["verdict"] == verdict
    tier = found[2].pop("tier")
    assert (tier["name"], tier["every"], tier["first_look"]["every"]) == ("full", 1, 3)
    assert tier["first_look"]["cohort"]["patients"] == PATIENTS
    assert found[2]["run"]["seconds"]["first_look"] > 0
    outputs = [{entry["file"] for entry in result.pop("outputs")} for result in (found[2], expected[2])]
    assert (
        outputs[0]
        == outputs[1]
        == {"sr.dcm", "seg.dcm", "pm.dcm", "preview.png"} - (set() if expected[2]["regions"] else {"seg.dcm"})
    )
    del found[2]["run"], expected[2]["run"]
    assert found[2] == expected[2]


def test_one_image_or_no_cohort_is_looked_at_in_full_at_once(cohort, toy_models, tmp_path):
    write_radiograph_phantom(tmp_path / "one", rows=64, columns=56)
    write_ct_phantom(tmp_path / "short", slices=4, rows=48, columns=48, spacing_mm=(5, 8, 8))
    for name in ("one", "short"):
        status, _, series = gate(tmp_path / name, tmp_path / f"out-{name}", cohort, toy_models, "--quick", "4")
        assert status == 10
        assert "tier" not in series
        assert len(series["images"]) == series["geometry"]["frames"]


def test_drift_counts_the_first_look_which_all_series_have(normals, cohort, toy_models, tmp_path):
    words = policy(tmp_path / "p.toml", "[quick]\nevery = 4\nmargin = 20\n")
    _, _, deep = gate(normals / "00", tmp_path / "results" / "deep", cohort, toy_models, *words)
    (record,) = records(tmp_path / "results")
    look = deep["tier"]["first_look"]
    assert (record.p_value, record.cohort) == (look["p_value"], look["cohort"]["id"])
    assert record.cohort != deep["cohort"]["id"]


def test_a_quick_look_at_every_slice_is_refused(normals, cohort, toy_models, tmp_path, capsys):
    words = ["--models", str(toy_models), "--cohort", str(cohort), "--quick", "1"]
    assert main(["gate", str(normals / "00"), "--out", str(tmp_path / "out"), *words]) == 2
    assert "E200 quick" in capsys.readouterr().err
