"""The example application: a segmentation after PASS, the report alone after anything else, and never a silent gap."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser, scripts

from anomap.dicom.read import ReadConfig, read_study
from anomap.errors import AnomapError
from deploy_app.examples.gated_segmentation.segmenter import (
    INFERENCE,
    LUNG_FIELDS,
    THRESHOLD,
    load_segmenter,
    probabilities,
)
from tests.deploy_app.gated import QUICK, ROOT, run, write_cohort
from tests.dicom.tools import complaints

PROGRAM = "deploy_app.examples.gated_segmentation"
MANY = """
import json, sys
from pathlib import Path
from anomap.config import AnalyzeConfig
from anomap.gate.policy import policy_for
from deploy_app.examples.gated_segmentation.app import run_gated
for words in json.loads(sys.argv[1]):
    Path(words["folder"]).mkdir()
    config = AnalyzeConfig(steps=1, outputs=("sr",), cohort=tuple(words["cohort"]))
    policy = policy_for(Path(words["policy"]) if words["policy"] else None, config)
    paths = [Path(words[name]) for name in ("source", "folder", "models")]
    run_gated(*paths, config, policy, Path(words["bundle"]))
"""


def traced_bundle(folder: Path) -> tuple[Path, Path]:
    """The shipped segmenter with a trace: a file that appears as soon as its configuration is evaluated."""
    bundle, trace = folder / "lung_fields", folder / "was_loaded"
    shutil.copytree(LUNG_FIELDS, bundle)
    config = json.loads((bundle / INFERENCE).read_text())
    config["initialize"].append(f"$Path({str(trace)!r}).touch()")
    (bundle / INFERENCE).write_text(json.dumps(config))
    return bundle, trace


@pytest.fixture(scope="module")
def site(toy_models, tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("site")
    cohort = write_cohort(folder, toy_models)
    (folder / "review.toml").write_text("alpha_review = 0.999\n")
    (folder / "reject.toml").write_text("alpha_review = 0.999\nalpha_reject = 0.999\n")
    return {"source": str(folder / "normals" / "p03"), "models": str(toy_models), "cohort": [str(cohort)], "policy": "",
            "folder": folder}  # fmt: skip


@pytest.fixture(scope="module")
def runs(site, tmp_path_factory) -> dict[str, tuple[dict, Path, bool]]:
    """Case -> the top result, its folder, and whether the segmenter was loaded."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "damaged").mkdir()
    bundle, _ = traced_bundle(folder / "damaged")
    (bundle / "models" / "model.safetensors").write_bytes(b"not weights")
    special = {
        "pass": {},
        "review": {"policy": str(site["folder"] / "review.toml")},
        "reject": {"policy": str(site["folder"] / "reject.toml")},
        "uncalibrated": {"cohort": []},
        "no models": {"models": str(folder / "nowhere")},
        "no input": {"source": str(folder / "damaged" / "lung_fields" / "configs")},
        "damaged segmenter": {"bundle": str(bundle)},
    }
    words, traces = [], {}
    for name, changed in special.items():
        (folder / name).mkdir()
        traced, traces[name] = traced_bundle(folder / name)
        out = {"folder": str(folder / name / "out"), "bundle": str(traced)}
        words.append({**site, **out, **changed})
    done = run("-c", MANY, json.dumps(words, default=str))
    found = {}
    for name in special:
        out = folder / name / "out"
        assert (out / "result.json").is_file(), done.stderr[-3000:]
        found[name] = (json.loads((out / "result.json").read_text()), out, traces[name].exists())
    return found


def objects(folder: Path) -> list[str]:
    return sorted(pydicom.dcmread(path, stop_before_pixels=True).Modality for path in folder.rglob("*.dcm"))


def test_a_study_that_passed_has_report_and_segmentation(runs, site):
    content, folder, loaded = runs["pass"]
    assert (content["verdict"], content["exit_status"], content["segmentation"]["state"]) == ("PASS", 0, "written")
    assert loaded
    assert objects(folder) == ["SEG", "SR"]
    (entry,) = content["segmentation"]["files"]
    dataset = pydicom.dcmread(folder / "segmentation" / entry["file"])
    (series,) = read_study(Path(site["source"]), ReadConfig()).series
    found = probabilities(load_segmenter(), series) > THRESHOLD
    np.testing.assert_array_equal(dataset.pixel_array.reshape(found.shape), found)
    assert dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    source = series.headers[0]
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert "NOT A DIAGNOSIS" in dataset.SeriesDescription
    assert complaints(folder / "segmentation" / entry["file"]) == []


@pytest.mark.parametrize(
    ("case", "status", "made"),
    [
        ("review", 10, ["SR"]),
        ("reject", 20, ["SR"]),
        ("uncalibrated", 10, ["SR"]),
        ("no models", 4, []),
        ("no input", 3, []),
    ],
)
def test_anything_else_leaves_the_segmenter_untouched(case, status, made, runs):
    content, folder, loaded = runs[case]
    assert content["exit_status"] == status
    assert not loaded
    assert objects(folder) == made
    assert content.get("segmentation", {}).get("state") == ("withheld" if made else None)


def test_a_segmenter_that_fails_after_a_pass_is_no_success(runs):
    content, folder, loaded = runs["damaged segmenter"]
    assert (content["verdict"], content["exit_status"], loaded) == ("PASS", 5, False)
    assert content["segmentation"]["state"] == "failed"
    assert content["segmentation"]["error"]["code"] == "E301"
    assert objects(folder) == ["SR"]


@pytest.mark.parametrize(("policy", "status", "state"), [("", 0, "written"), ("review.toml", 10, "withheld")])
def test_the_program_ends_with_the_status_of_its_result(policy, status, state, site, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(QUICK % json.dumps(site["cohort"][0]))
    more = ["--policy", site["folder"] / policy] if policy else []
    out = tmp_path / "out"
    words = ["-i", site["source"], "-o", out, "-m", site["models"], "-c", settings]
    done = run("-m", PROGRAM, *words, *more)
    assert done.returncode == status, done.stderr[-3000:]
    assert json.loads((out / "result.json").read_text())["segmentation"]["state"] == state
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["gate", "result.json", *["segmentation"] * (not policy)]
    )


def test_a_wrong_policy_is_a_usage_error_before_any_work(site, tmp_path):
    (tmp_path / "policy.toml").write_text("alpha = 1\n")
    words = ["-i", site["source"], "-o", tmp_path / "out", "-m", site["models"], "--policy", tmp_path / "policy.toml"]
    done = run("-m", PROGRAM, *words)
    assert done.returncode == 2
    assert "E200" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_bundle_passes_monais_own_checks():
    config, metadata = LUNG_FIELDS / INFERENCE, LUNG_FIELDS / "configs" / "metadata.json"
    schema = json.loads((ROOT / "tests" / "metadata.schema.json").read_text())
    jsonschema.validate(json.loads(metadata.read_text()), schema)
    scripts.verify_net_in_out(
        net_id="network_def", meta_file=str(metadata), config_file=str(config), bundle_root=str(LUNG_FIELDS)
    )


def test_monais_parser_loads_the_weights_of_the_bundle():
    parser = ConfigParser()
    parser.read_config(str(LUNG_FIELDS / INFERENCE))
    parser["bundle_root"] = str(LUNG_FIELDS)
    parser.get_parsed_content("initialize")
    image = torch.linspace(-1, 1, 128 * 128).reshape(1, 1, 128, 128)
    logits = parser.get_parsed_content("network_def")(image)
    np.testing.assert_array_equal(logits.detach(), load_segmenter().network(image).detach())
    assert (LUNG_FIELDS / "models" / "model.safetensors").stat().st_size < 2_000_000


def test_a_folder_without_a_bundle_is_said_so(tmp_path):
    with pytest.raises(AnomapError, match="E300"):
        load_segmenter(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    bundle, _ = traced_bundle(tmp_path)
    config = json.loads((bundle / INFERENCE).read_text())
    config["network_def"]["channels"] = [8, 16, 32, 64]
    (bundle / INFERENCE).write_text(json.dumps(config))
    with pytest.raises(AnomapError, match="E302"):
        load_segmenter(bundle)
