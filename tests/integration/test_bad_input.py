"""Bad input: one line with a code, the documented exit status, nothing half-written, no patient data anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from anomap import cli
from anomap.bundle import WEIGHTS
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom

CANARY = "ZZPHI^CANARY"
Maker = Callable[[Path], None]


def _ct(folder: Path, **options: object) -> list[Path]:
    return write_ct_phantom(folder, **{"slices": 4, "rows": 64, "columns": 64, "patient_name": CANARY, **options})


def _edit(paths: list[Path], **values: object) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def _empty(folder: Path) -> None:
    folder.mkdir()


def _text(folder: Path) -> None:
    folder.mkdir()
    (folder / f"{CANARY}.dcm").write_text(f"Dear {CANARY}, this is no image.\n" * 20)


def _truncated(folder: Path) -> None:
    for path in _ct(folder):
        path.write_bytes(path.read_bytes()[:-4000])


def _rgb(folder: Path) -> None:
    folder.mkdir()
    path = folder / "rgb.dcm"
    shutil.copy(str(get_testdata_file("SC_rgb_small_odd.dcm", download=False)), path)
    _edit([path], PatientName=CANARY)


def _colour_ct(folder: Path) -> None:
    paths = _ct(folder)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = np.zeros((64, 64, 3), np.uint8).tobytes()
        dataset.save_as(path)


def _localizer(folder: Path) -> None:
    _edit(_ct(folder, slices=1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def _two_patients(folder: Path) -> None:
    _edit(_ct(folder / "a"), PatientID="ZZPHI-1")
    _edit(_ct(folder / "b", seed=1), PatientID="ZZPHI-2", PatientName="ZZPHI^OTHER")


def _missing_slice(folder: Path) -> None:
    paths = _ct(folder, slices=8)
    order = sorted(paths, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    order[3].unlink()


def _constant(folder: Path) -> None:
    for path in _ct(folder):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)


def _nan(folder: Path) -> None:
    """Integers hold no NaN; a rescale slope that is none makes every value one."""
    for path in _ct(folder):
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            dataset["RescaleSlope"] = pydicom.DataElement(0x00281053, "DS", "NaN", validation_mode=0)
        dataset.save_as(path)


def _no_body(folder: Path) -> None:
    """Air with noise: nothing to analyse."""
    rng = np.random.default_rng(0)
    for path in _ct(folder):
        dataset = pydicom.dcmread(path)
        air = rng.integers(-1010, -990, (64, 64)) - float(dataset.RescaleIntercept)
        dtype = np.int16 if dataset.PixelRepresentation else np.uint16
        dataset.PixelData = np.clip(air, np.iinfo(dtype).min, None).astype(dtype).tobytes()
        dataset.save_as(path)


def _coronal(folder: Path) -> None:
    _ct(folder, orientation=(1, 0, 0, 0, 0, -1))


BAD: dict[str, tuple[Maker, set[str], int]] = {
    "empty folder": (_empty, {"E100"}, 3),
    "text file": (_text, {"E101"}, 3),
    "truncated files": (_truncated, {"E102"}, 3),
    "RGB capture": (_rgb, {"E106", "E111"}, 3),
    "RGB CT": (_colour_ct, {"E106"}, 3),
    "localizer": (_localizer, {"E110"}, 3),
    "two patients": (_two_patients, {"E104"}, 3),
    "missing slice": (_missing_slice, {"E103"}, 3),
    "constant pixels": (_constant, {"E108"}, 3),
    "NaN pixels": (_nan, {"E108", "E109"}, 3),
    "no body": (_no_body, {"E114"}, 3),
    "coronal": (_coronal, {"E113"}, 3),
}


def _run(source: Path, output: Path, models: Path, *words: str) -> int:
    return cli.main(["analyze", str(source), str(output), "--models", str(models), "--steps", "2", *words])


def _assert_no_patient_data(output: Path, said: str) -> None:
    texts = [said, *(path.read_text() for path in output.rglob("*.json"))]
    for text in texts:
        assert "ZZPHI" not in text
        assert "CANARY" not in text
    assert not any("ZZPHI" in str(path.relative_to(output)) for path in output.rglob("*"))


def _assert_only_results(output: Path) -> None:
    """Nothing but result.json, at the top and per series, each complete JSON; no staging folder left."""
    files = [path for path in output.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"result.json"}
    for path in files:
        assert json.loads(path.read_text())["status"] in {"failed", "nothing_eligible", "unusable", "not_applicable"}
    assert [path for path in output.parent.iterdir() if path.name.startswith(".")] == []


def _codes(output: Path) -> set[str]:
    content = json.loads((output / "result.json").read_text())
    errors = [content["error"], *(entry["error"] for entry in content["series"]), *content["skipped"]]
    return {error["code"] for error in errors if error}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("as_json", [False, True])
def test_bad_input_is_refused_in_one_line_with_its_code(name, as_json, toy_models, tmp_path, capfd):
    make, codes, status = BAD[name]
    make(tmp_path / "in")
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    assert _run(tmp_path / "in", tmp_path / "out", toy_models, *["--json"] * as_json) == status
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if line[:1] == "E" and line[1:4].isdigit()]
    assert lines, said.err
    assert {line[:4] for line in lines} & codes
    assert len(lines) == len(set(lines))
    assert "Traceback" not in said.err
    assert _codes(tmp_path / "out") & codes
    if as_json:
        events = [json.loads(line) for line in said.out.splitlines()]
        assert {event["code"] for event in events if event["event"] == "error"} & codes
    _assert_only_results(tmp_path / "out")
    _assert_no_patient_data(tmp_path / "out", said.out + said.err)
    assert before == {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}


def test_a_missing_slice_may_be_accepted(toy_models, tmp_path, capfd):
    _missing_slice(tmp_path / "in")
    assert _run(tmp_path / "in", tmp_path / "out", toy_models, "--allow-gaps") == 0
    said = capfd.readouterr()
    _assert_no_patient_data(tmp_path / "out", said.out + said.err)
    entry = json.loads((tmp_path / "out" / "result.json").read_text())["series"][0]
    assert json.loads((tmp_path / "out" / entry["folder"] / "result.json").read_text())["warnings"]


def test_a_good_series_beside_bad_files_is_published(toy_models, tmp_path, capfd):
    """Foreign files are named as left out; a damaged image makes the study partial."""
    _ct(tmp_path / "in" / "good")
    _text(tmp_path / "in" / "text")
    assert _run(tmp_path / "in", tmp_path / "whole", toy_models) == 0
    write_radiograph_phantom(tmp_path / "in" / "dx", rows=96, columns=80)
    damaged = next((tmp_path / "in" / "dx").glob("*"))
    good = pydicom.dcmread(next((tmp_path / "in" / "good").glob("*")), stop_before_pixels=True)
    _edit([damaged], PatientName=CANARY, PatientID=good.PatientID, PatientBirthDate=good.get("PatientBirthDate", ""))
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    assert _run(tmp_path / "in", tmp_path / "part", toy_models) == 5
    said = capfd.readouterr()
    content = json.loads((tmp_path / "part" / "result.json").read_text())
    assert content["status"] == "partial"
    assert {item["code"] for item in content["skipped"]} == {"E101", "E102"}
    assert [entry["status"] for entry in content["series"]] == ["complete"]
    _assert_no_patient_data(tmp_path / "part", said.out + said.err)


def test_an_unwritable_output_is_refused_before_any_work(toy_models, tmp_path, capfd):
    """Root may write anywhere, but not below a file."""
    _ct(tmp_path / "in")
    (tmp_path / "file").write_text("a file")
    assert _run(tmp_path / "in", tmp_path / "file" / "out", toy_models) == 2
    said = capfd.readouterr()
    assert said.err.startswith("E202 ")
    assert said.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "a file"


def test_a_full_output_is_left_alone(toy_models, tmp_path, capfd):
    _ct(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    assert _run(tmp_path / "in", tmp_path / "out", toy_models, "--overwrite") == 2
    assert capfd.readouterr().err.startswith("E201 ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["note.txt"]


def test_a_missing_input_is_named_as_such(toy_models, tmp_path, capfd):
    assert _run(tmp_path / "ZZPHI", tmp_path / "out", toy_models) == 3
    said = capfd.readouterr()
    assert said.err.startswith("E100 ")
    _assert_only_results(tmp_path / "out")
    _assert_no_patient_data(tmp_path / "out", said.err)


def _flip_weights(models: Path) -> None:
    path = models / "toy-ct" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _flip_metadata(models: Path) -> None:
    path = models / "toy-ct" / "configs" / "metadata.json"
    path.write_text(path.read_text().replace('"window": 4', '"window": 5'))


def _remove_weights(models: Path) -> None:
    (models / "toy-ct" / WEIGHTS).unlink()


def _no_bundle(models: Path) -> None:
    shutil.rmtree(models)
    models.mkdir()


@pytest.mark.parametrize(
    ("damage", "code"),
    [(_flip_weights, "E301"), (_flip_metadata, "E301"), (_remove_weights, "E300"), (_no_bundle, "E300")],
)
def test_a_model_that_is_not_what_it_claims_is_never_used(damage, code, toy_models, tmp_path, capfd):
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    damage(models)
    _ct(tmp_path / "in")
    assert _run(tmp_path / "in", tmp_path / "out", models) == 4
    said = capfd.readouterr()
    assert said.err.splitlines()[-1].startswith(f"{code} ")
    _assert_only_results(tmp_path / "out")
    assert _codes(tmp_path / "out") == {code}
    _assert_no_patient_data(tmp_path / "out", said.out + said.err)


def test_a_good_run_names_no_patient_either(toy_models, tmp_path, capfd):
    """The DICOM objects carry the name, as they must; nothing else does."""
    paths = _ct(tmp_path / "in")
    for number, path in enumerate(paths):
        path.rename(path.with_name(f"{CANARY}-{number}.dcm"))
    assert _run(tmp_path / "in", tmp_path / "out", toy_models, "--json") == 0
    said = capfd.readouterr()
    _assert_no_patient_data(tmp_path / "out", said.out + said.err)
    uid = str(pydicom.dcmread(next((tmp_path / "in").iterdir())).SOPInstanceUID)
    assert uid not in said.out + said.err
    report = pydicom.dcmread(next((tmp_path / "out").rglob("sr.dcm")))
    assert str(report.PatientName) == CANARY
