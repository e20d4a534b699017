"""The stages in a row: right files, right status, the same numbers every time, failures recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from anomap import study as study_module
from anomap.bundle import load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError, ExitStatus
from anomap.pipeline import Analysis, analyze_series, cohort_id
from anomap.report import hashed, series_result
from anomap.study import StudyOutcome, analyze, folder_name, resolve_device, study_status
from anomap.types import Skipped
from tests.dicom.tools import complaints

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "result.schema.json").read_text())
QUICK = AnalyzeConfig(steps=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT series and two radiographs of one phantom."""
    folder = tmp_path_factory.mktemp("study")
    write_ct_phantom(folder / "ct", slices=3, rows=64, columns=64)
    write_radiograph_phantom(folder / "dx1", rows=96, columns=80, seed=1)
    write_radiograph_phantom(folder / "dx2", rows=96, columns=80, seed=2)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "P", "Phantom", ""
        dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def outcome(study: Path, toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyOutcome:
    return analyze(study, tmp_path_factory.mktemp("out") / "result", toy_models, QUICK)


def _results(output: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(output.glob("*/result.json"))}


def test_every_series_has_a_folder_and_every_folder_its_result(outcome):
    assert outcome.status is ExitStatus.OK
    assert outcome.content["status"] == "complete"
    results = _results(outcome.output)
    assert [entry["folder"] for entry in outcome.content["series"]] == list(results)
    assert sorted(result["modality"] for result in results.values()) == ["CT", "DX", "DX"]
    assert json.loads((outcome.output / "result.json").read_text()) == outcome.content


def test_every_result_follows_the_schema(outcome):
    for path in outcome.output.rglob("result.json"):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


def test_the_files_are_those_the_result_lists(outcome):
    for name, result in _results(outcome.output).items():
        listed = {entry["file"] for entry in result["outputs"]}
        assert listed | {"result.json"} == {path.name for path in (outcome.output / name).iterdir()}
        assert {"sr.dcm", "preview.png"} <= listed
        assert ("pm.dcm" in listed) == (result["modality"] == "CT")
        assert "sc.dcm" not in listed
        for entry in result["outputs"]:
            if entry["file"].endswith(".dcm"):
                read = pydicom.dcmread(outcome.output / name / entry["file"])
                assert read.SOPClassUID == entry["sop_class_uid"]


@pytest.fixture(scope="module")
def moved(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files with other names, in another order and one folder."""
    folder = tmp_path_factory.mktemp("moved")
    for number, path in enumerate(sorted(study.rglob("*.dcm"), reverse=True)):
        shutil.copy(path, folder / f"{number:03d}")
    return folder


def _pairs(first: Path, second: Path) -> list[tuple[dict, dict]]:
    """Results of the same series; folders are numbered in the order of reading, which may differ."""
    one, two = ({name[3:]: result for name, result in _results(path).items()} for path in (first, second))
    assert set(one) == set(two)
    return [(one[name], two[name]) for name in one]


def test_names_and_order_of_files_change_nothing(moved, toy_models, outcome, tmp_path):
    again = analyze(moved, tmp_path / "out", toy_models, QUICK)
    for one, two in _pairs(outcome.output, again.output):
        assert _without_run(one) == _without_run(two)


def test_the_batch_size_changes_rounding_at_most(study, toy_models, outcome, tmp_path):
    again = analyze(study, tmp_path / "out", toy_models, replace(QUICK, batch_size=1))
    for one, two in _pairs(outcome.output, again.output):
        assert len(one["regions"]) == len(two["regions"])
        for a, b in zip(one["images"], two["images"], strict=True):
            assert a["seed"] == b["seed"]
            for key in (key for key in a if key.startswith("score")):
                assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-4), key


def _without_run(result: dict) -> dict:
    return {key: value for key, value in result.items() if key not in ("run", "outputs")}


def test_a_run_repeated_is_the_same_to_the_last_digit(study, toy_models, outcome, tmp_path):
    again = analyze(study, tmp_path / "out", toy_models, QUICK)
    first, second = _results(outcome.output), _results(again.output)
    assert list(first) == list(second)
    for name, result in first.items():
        assert _without_run(result) == _without_run(second[name])
        preview = (outcome.output / name / "preview.png").read_bytes()
        assert preview == (again.output / name / "preview.png").read_bytes()


def test_verdict_and_p_agree_between_the_levels(outcome):
    for entry in outcome.content["series"]:
        own = _results(outcome.output)[entry["folder"]]
        for key in ("verdict", "p_value", "reasons", "status"):
            assert entry[key] == own[key]


def test_outputs_are_those_asked_for(study, toy_models, tmp_path):
    outcome = analyze(study / "dx1", tmp_path / "out", toy_models, replace(QUICK, outputs=("sr", "sc")))
    folder = tmp_path / "out" / outcome.content["series"][0]["folder"]
    assert {path.name for path in folder.iterdir()} == {"sr.dcm", "sc.dcm", "result.json"}


def test_provenance_is_complete(study, toy_models):
    bundle = load_bundle(toy_models / "toy-radiograph")
    series = read_study(study / "dx1").series[0]
    analysis = analyze_series(series, bundle, QUICK, choice="why")
    provenance = analysis.result.provenance
    assert set(provenance) == {
        "software_version", "bundle_name", "bundle_version", "bundle_sha256", "config_sha256", "preset", "device",
        "seeds", "seconds", "created", "cohort_id",
    }  # fmt: skip
    assert set(provenance["seconds"]) == {"prepare", "project", "score", "calibrate"}
    assert provenance["bundle_sha256"] == bundle.info.sha256
    assert provenance["seeds"] == [int(seed) for seed in analysis.reconstruction.seeds]
    assert provenance["config_sha256"] == QUICK.sha256("cpu")
    assert analysis.choice == "why"


def test_slices_of_a_series_are_compared_with_their_neighbours(toy_models, tmp_path):
    write_ct_phantom(tmp_path, slices=6, rows=64, columns=64)
    bundle, series = load_bundle(toy_models / "toy-ct"), read_study(tmp_path).series[0]
    pixels = series.pixels.copy()
    pixels[3, 30:34, 20:44] = 1500.0  # a rod in one slice
    found, plain = (analyze_series(one, bundle, QUICK) for one in (replace(series, pixels=pixels), series))
    scores, usual = (one.score_map.per_image["neighbour_patch"] for one in (found, plain))
    assert scores.argmax() == 3
    assert scores[3] > 2 * usual[3]
    np.testing.assert_allclose(scores[[0, 1, 5]], usual[[0, 1, 5]], rtol=1e-4)
    images = series_result(found, [], identified=False)["images"]
    assert images[3]["top_change_model_px"] == found.score_map.top_change[3].tolist()
    assert images[3]["score_neighbour_patch_sd"] == scores[3]
    alone = analyze_series(series.frames(slice(3, 4)), bundle, QUICK)
    assert "neighbour_patch" not in alone.score_map.per_image
    assert series_result(alone, [], identified=False)["images"][0]["top_change_model_px"] is None


def test_a_cohort_id_changes_with_its_content(toy_bundle):
    cohort = toy_bundle.cohort
    assert cohort_id(cohort) == cohort_id(replace(cohort))
    assert cohort_id(cohort) != cohort_id(replace(cohort, scores=cohort.scores + 1))
    assert cohort_id(cohort) != cohort_id(replace(cohort, region_threshold=cohort.region_threshold + 1))
    assert cohort_id(None) == ""


def test_stages_are_told_in_order(study, toy_models, tmp_path):
    events: list[dict] = []
    analyze(study / "ct", tmp_path / "out", toy_models, QUICK, events.append)
    stages = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "stage"))
    assert stages == ["read", "load model", "prepare", "project", "score", "calibrate", "write"]
    steps = [event["done"] for event in events if event["event"] == "stage" and event["stage"] == "project"]
    assert steps == sorted(steps)


def _break(monkeypatch: pytest.MonkeyPatch, error: Exception, modality: str = "CT") -> None:
    """Let the analysis of one modality fail."""
    working = study_module.write_series

    def broken(analysis: Analysis, folder: Path, config: AnalyzeConfig, previous: Sequence[Dataset]) -> dict:
        content = working(analysis, folder, config, previous)
        if analysis.series.modality == modality:
            raise error
        return content

    monkeypatch.setattr(study_module, "write_series", broken)


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (AnomapError("E114", "no body found"), "E114", "unusable"),
        (ValueError("ZZPHI^CANARY"), "E500", "failed"),
        (MemoryError(), "E400", "failed"),
    ],
)
def test_a_series_that_fails_is_recorded_and_the_rest_is_published(
    study, toy_models, tmp_path, monkeypatch, error, code, state
):
    _break(monkeypatch, error)
    outcome = analyze(study, tmp_path / "out", toy_models, QUICK)
    assert outcome.status is ExitStatus.PARTIAL
    assert outcome.content["verdict"] != "PASS"
    states = {entry["modality"]: entry["status"] for entry in outcome.content["series"]}
    assert states == {"CT": state, "DX": "complete"}
    failed = next(entry for entry in outcome.content["series"] if entry["modality"] == "CT")
    assert failed["error"]["code"] == code
    assert [path.name for path in (tmp_path / "out" / failed["folder"]).iterdir()] == ["result.json"]
    assert [error.code for error in outcome.errors] == [code]
    for path in (tmp_path / "out").rglob("result.json"):
        text = path.read_text()
        assert "ZZPHI" not in text
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))


def test_when_all_series_fail_the_run_failed(study, toy_models, tmp_path, monkeypatch):
    _break(monkeypatch, RuntimeError("x"))
    outcome = analyze(study / "ct", tmp_path / "out", toy_models, QUICK)
    assert outcome.status is ExitStatus.FAILED
    assert outcome.content["status"] == "failed"


def test_a_full_disk_ends_the_run_with_a_refusal(study, toy_models, tmp_path, monkeypatch):
    _break(monkeypatch, AnomapError("E202", "writing failed: No space left on device"))
    with pytest.raises(AnomapError, match="E202"):
        analyze(study / "ct", tmp_path / "out", toy_models, QUICK)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_a_time_limit_ends_the_run(study, toy_models, tmp_path):
    with pytest.raises(AnomapError, match="E402") as caught:
        analyze(study, tmp_path / "out", toy_models, replace(QUICK, steps=100_000, time_limit_s=0.5))
    assert caught.value.status == 124
    assert json.loads((tmp_path / "out" / "result.json").read_text())["error"]["code"] == "E402"


def test_a_series_outside_the_domain_is_not_applicable(tmp_path, toy_models):
    write_ct_phantom(tmp_path / "in", slices=3, rows=64, columns=64, orientation=(1, 0, 0, 0, 0, -1))
    outcome = analyze(tmp_path / "in", tmp_path / "out", toy_models, QUICK)
    assert outcome.status is ExitStatus.UNUSABLE_INPUT
    assert outcome.content["verdict"] == "NOT_APPLICABLE"
    entry = outcome.content["series"][0]
    assert (entry["status"], entry["error"]["code"]) == ("not_applicable", "E113")
    result = json.loads((tmp_path / "out" / entry["folder"] / "result.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(result)
    assert result["domain"]["ok"] is False


@pytest.mark.parametrize(
    ("states", "skipped", "expected"),
    [
        (["complete", "complete"], [], ("complete", 0)),
        (["complete", "not_applicable"], ["E110", "E101", "E116"], ("complete", 0)),
        (["complete", "failed"], [], ("partial", 5)),
        (["complete", "unusable"], [], ("partial", 5)),
        (["complete"], ["E102"], ("partial", 5)),
        (["complete"], ["E103"], ("partial", 5)),
        (["failed", "not_applicable"], [], ("failed", 4)),
        (["unusable"], [], ("nothing_eligible", 3)),
        (["not_applicable"], [], ("nothing_eligible", 3)),
        ([], ["E101"], ("nothing_eligible", 3)),
    ],
)
def test_the_exit_status_follows_from_what_happened(states, skipped, expected):
    items = [Skipped(name="x", code=code, reason="why") for code in skipped]
    assert study_status(states, items) == expected


def test_a_folder_is_named_by_number_modality_and_hashed_uid(study):
    ct = next(series for series in read_study(study).series if series.modality == "CT")
    dx = next(series for series in read_study(study).series if series.modality == "DX")
    assert folder_name(1, ct) == f"01-CT-{hashed(str(ct.headers[0].SeriesInstanceUID), 8)}"
    assert folder_name(12, dx) == f"12-DX-{hashed(str(dx.headers[0].SOPInstanceUID), 8)}"


def test_a_device_this_machine_lacks_is_refused():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(AnomapError, match="E401"):
        resolve_device("cuda:63")


def test_scores_are_finite_and_maps_lie_on_the_source_grid(study, toy_models):
    series = read_study(study / "ct").series[0]
    analysis = analyze_series(series, load_bundle(toy_models / "toy-ct"), QUICK)
    assert analysis.score_map.maps["wd"].shape == series.pixels.shape
    assert analysis.result.labels.shape == series.pixels.shape
    assert all(np.isfinite(values).all() for values in analysis.score_map.per_image.values())


def test_loaded_models_are_used_again(study, toy_models, tmp_path):
    events: list[dict] = []
    bundles: dict = {}
    analyze(study / "ct", tmp_path / "first", toy_models, QUICK, bundles=bundles)
    assert list(bundles) == ["toy-ct"]
    analyze(study / "ct", tmp_path / "second", toy_models, QUICK, events.append, bundles=bundles)
    assert not [event for event in events if event.get("stage") == "load model"]


def test_a_later_report_names_the_one_whose_place_it_takes(toy_models, tmp_path):
    paths = write_ct_phantom(tmp_path / "in", slices=4, rows=64, columns=64)
    late = paths[-1].rename(tmp_path / "late.dcm")
    analyze(tmp_path / "in", tmp_path / "early", toy_models, QUICK)
    late.rename(paths[-1])
    (early,) = (tmp_path / "early").glob("*/sr.dcm")
    analyze(tmp_path / "in", tmp_path / "whole", toy_models, QUICK, previous=[pydicom.dcmread(early)])
    (whole,) = (tmp_path / "whole").glob("*/sr.dcm")
    named = pydicom.dcmread(whole).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == pydicom.dcmread(early).SOPInstanceUID
    assert complaints(whole) == []
    analyze(tmp_path / "in", tmp_path / "again", toy_models, QUICK, previous=[pydicom.dcmread(whole)])
    (again,) = (tmp_path / "again").glob("*/sr.dcm")
    assert "PredecessorDocumentsSequence" not in pydicom.dcmread(again), "a report does not take its own place"
