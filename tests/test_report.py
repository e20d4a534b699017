"""result.json: valid by its schema, honest about units, free of identifiers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from anomap.errors import AnomapError, ExitStatus
from anomap.output import failure_result
from anomap.report import (
    hashed,
    output_entry,
    refused_result,
    score_key,
    series_result,
    skipped_entry,
    study_entry,
    study_result,
    study_verdict,
)
from anomap.types import Skipped, Verdict
from tests.made import made_analysis

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "result.schema.json").read_text())


def _valid(content: dict) -> dict:
    """Validate, and give what a reader of the file would get."""
    read = json.loads(json.dumps(content, allow_nan=False))
    jsonschema.Draft202012Validator(SCHEMA).validate(read)
    return read


def _study(entries: list[dict], skipped: list[Skipped] = (), **changes: object) -> dict:
    facts = {
        "status": "complete",
        "exit_status": ExitStatus.OK,
        "config": {},
        "run": {"created": "2026-01-01T00:00:00+00:00", "device": "cpu", "seconds": {"all": 1.0}},
    }
    return study_result(entries, skipped, **{**facts, **changes})


@pytest.mark.parametrize("modality", ["CT", "DX"])
@pytest.mark.parametrize("cohort", [0, 120])
def test_a_series_follows_the_schema(modality, cohort):
    frames = 3 if modality == "CT" else 1
    verdict = Verdict.REVIEW if cohort else Verdict.UNCALIBRATED
    content = _valid(series_result(made_analysis(modality=modality, frames=frames, cohort=cohort, verdict=verdict)))
    assert content["verdict"] == verdict
    assert len(content["images"]) == frames


def test_a_study_follows_the_schema():
    content = series_result(made_analysis())
    refused = refused_result(made_analysis().series, AnomapError("E113", "coronal"), "not_applicable", None)
    entries = [study_entry("01-CT-0badcafe", content), study_entry("02-CT-0badcafe", refused)]
    _valid(refused)
    _valid(_study(entries, [Skipped(name="a.dcm", code="E110", reason="a localizer")]))


def test_a_series_that_failed_gives_the_study_its_reason():
    """The verdict of the study is REVIEW because of it, so people must read why."""
    failed = refused_result(made_analysis().series, AnomapError("E114", "no body in it"), "unusable", None)
    fine = series_result(made_analysis(verdict=Verdict.PASS))
    content = _valid(_study([study_entry("01-CT-0badcafe", fine), study_entry("02-CT-0badcafe", failed)]))
    assert content["verdict"] == Verdict.REVIEW
    assert content["reasons"] == [{"code": "E114", "text": "no body in it"}]
    assert "REVIEW. no body in it" in content["__mercure_notification"]["text"]


@pytest.mark.parametrize("code", ["E100", "E202", "E301", "E402", "E500"])
def test_a_failed_run_follows_the_schema(code):
    assert _valid(failure_result(AnomapError(code, "what happened")))["error"]["code"] == code


def test_the_schema_turns_down_what_it_should():
    content = series_result(made_analysis())
    for change in ({"not_a_diagnosis": False}, {"verdict": "FINE"}, {"p_value": 0}, {"schema": "anomap.result/2"}):
        with pytest.raises(jsonschema.ValidationError):
            _valid({**content, **change})


def test_every_score_is_there_under_a_key_with_its_unit():
    analysis = made_analysis()
    content = _valid(series_result(analysis))
    for n, image in enumerate(content["images"]):
        for name, values in analysis.score_map.per_image.items():
            assert image[score_key(name, "HU")] == values[n]
    for name, worst in analysis.result.summary.items():
        assert content["scores"][score_key(name, "HU")]["score"] == worst


@pytest.mark.parametrize(
    ("name", "unit", "key"),
    [
        ("wd_patch", "HU", "score_wd_patch_hu"),
        ("wd_full", "grey level", "score_wd_full_grey"),
        ("mse_body", "HU", "score_mse_body_hu2"),
        ("mse_patch", "grey level", "score_mse_patch_grey2"),
        ("w_distance", "HU", "score_w_distance_sd"),
        ("feature_residual", "HU", "score_feature_residual_1"),
        ("feature_distance", "HU", "score_feature_distance_sd"),
        ("feature_patch", "HU", "score_feature_patch_sd"),
        ("neighbour_distance", "HU", "score_neighbour_distance_sd"),
        ("neighbour_patch", "HU", "score_neighbour_patch_sd"),
        ("combined", "grey level", "score_combined_z"),
    ],
)
def test_a_score_key_ends_in_its_unit(name, unit, key):
    assert score_key(name, unit) == key


def test_every_registered_score_has_a_unit():
    from anomap.scoring import SCORES

    for name in SCORES:
        assert re.search(r"_(hu|hu2|sd|z|1)$", score_key(name, "HU")), name


def test_uids_are_hashed_unless_asked_for():
    analysis = made_analysis()
    uid = analysis.series.frame_ids[0]
    assert uid not in json.dumps(series_result(analysis))
    assert series_result(analysis)["images"][0]["sop_instance_uid_sha256"] == hashed(uid)
    clear = _valid(series_result(analysis, identified=True))
    assert clear["images"][0]["sop_instance_uid"] == uid


def test_file_names_are_hashed_unless_asked_for():
    item = Skipped(name="ZZPHI^CANARY.dcm", code="E101", reason="not a DICOM file")
    assert "ZZPHI" not in json.dumps(skipped_entry(item))
    assert skipped_entry(item, identified=True)["name"] == item.name


def test_without_spacing_nothing_is_in_millimetres():
    analysis = made_analysis(modality="DX", frames=1, spacing_mm=(1, 1), frame_of_reference="")
    content = series_result(analysis)
    assert content["geometry"]["spacing_mm"] is None
    for region in content["regions"]:
        assert "area_mm2" not in region
        assert region["centroid_lps_mm"] is None


def test_a_centroid_index_points_at_the_labelled_pixels():
    analysis = made_analysis()
    region = series_result(analysis)["regions"][0]
    k, row, col = (round(value) for value in region["centroid_index"])
    assert analysis.result.labels[k, row, col] == region["label"]
    np.testing.assert_allclose(region["centroid_index"], np.argwhere(analysis.result.labels).mean(axis=0), atol=1e-9)


def test_only_review_and_reject_notify_people():
    for verdict in Verdict:
        content = series_result(made_analysis(verdict=verdict))
        assert ("__mercure_notification" in content) == (verdict in (Verdict.REVIEW, Verdict.REJECT))


def test_two_runs_differ_under_run_alone():
    first = made_analysis()
    later = replace(first.result, provenance={**first.result.provenance, "created": "2030", "seconds": {"project": 9}})
    one, two = series_result(first), series_result(replace(first, result=later))
    assert one.pop("run") != two.pop("run")
    assert one == two


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], None),
        (["PASS", "PASS"], "PASS"),
        (["PASS", "REJECT", "REVIEW"], "REJECT"),
        (["PASS", "UNCALIBRATED"], "UNCALIBRATED"),
        (["PASS", "NOT_APPLICABLE"], "NOT_APPLICABLE"),
        (["PASS", None], "REVIEW"),
        ([None], "REVIEW"),
    ],
)
def test_a_study_passes_only_when_every_series_does(verdicts, expected):
    assert study_verdict([{"verdict": verdict} for verdict in verdicts]) == expected


def test_an_output_entry_has_the_hash_of_the_file(tmp_path):
    (tmp_path / "sr.dcm").write_bytes(b"abc")
    entry = output_entry(tmp_path / "sr.dcm", "1.2.3")
    assert entry["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert entry["bytes"] == 3
