"""Row 13: what is stored otherwise but shows the same gets the same score. Row 30: a model that answers NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from safetensors.numpy import load_file, save_file

from anomap import cli
from anomap.bundle import METADATA, WEIGHTS, bundle_sha256, file_sha256
from tests.clinic.faults import ct, edit, radiograph, raw
from tests.clinic.watch import clinic
from tests.clinic.wire import store_files


def stored(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<u2").astype(int)


def signed(dataset: Dataset) -> None:
    dataset.PixelData = (stored(dataset) - 1024).astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
    dataset.BitsStored, dataset.HighBit = 16, 15


def sixteen_bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 16, 15


def padded(dataset: Dataset) -> None:
    """A padding value that no pixel has."""
    sixteen_bits(dataset)
    raw(0x00280120, "US", b"\xff\xff")(dataset)


def windowed(dataset: Dataset) -> None:
    """Windows and a VOI LUT are for viewers; HU don't care."""
    dataset.WindowCenter, dataset.WindowWidth = "-600", "10"
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], b"\0\0\xff\xff"
    table.add_new(0x00283002, "US", [2, 0, 16])
    table.add_new(0x00283006, "OW", b"\0\0\xff\xff")
    dataset.VOILUTSequence = [table]


def inverted(dataset: Dataset) -> None:
    """MONOCHROME1 with the complement."""
    dataset.PixelData = (4095 - stored(dataset)).astype("<u2").tobytes()
    dataset.PhotometricInterpretation, dataset.PresentationLUTShape = "MONOCHROME1", "INVERSE"
    dataset.PixelIntensityRelationshipSign = 1
    dataset.WindowCenter = str(4096 - float(dataset.WindowCenter))


TWINS: dict[str, tuple[Callable[..., list[Path]], Callable[[Dataset], None]]] = {
    "CT with signed pixels": (ct, signed),
    "CT with 16 bits stored": (ct, sixteen_bits),
    "CT with a padding value": (ct, padded),
    "CT with other windows and a VOI LUT": (ct, windowed),
    "radiograph in MONOCHROME1": (radiograph, inverted),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.fault(13, n, "the same score as its plain twin")) for n in TWINS]
)
def test_a_twin_has_the_same_score(name, toy_models, tmp_path, seen):
    make, change = TWINS[name]
    scores = []
    for which in ("plain", "twin"):
        paths = make(tmp_path / which, 7)
        if which == "twin":
            edit(paths, change)
        words = ["analyze", str(tmp_path / which), str(tmp_path / f"{which}-out"), "--models", str(toy_models)]
        assert cli.main([*words, "--steps", "2", "--outputs", "sr"]) == 0
        (path,) = (tmp_path / f"{which}-out").glob("*/result.json")
        content = json.loads(path.read_text())
        scores.append(numbers({key: content[key] for key in ("p_value", "images") if key in content}))
    assert len(scores[0]) > 3
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4)
    seen(f"{len(scores[0])} numbers equal within {np.abs(np.array(scores[1]) / scores[0] - 1).max():.1g}")


def numbers(content: object) -> list[float]:
    """All numbers of a JSON value but zeros, in order."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [value for item in content for value in numbers(item)]
    return [float(content)] if isinstance(content, int | float) and content else []


@pytest.fixture
def nan_models(toy_models, tmp_path) -> Path:
    """A bundle in order in every way, but its generator answers NaN."""
    import shutil

    models = tmp_path / "nan-models"
    shutil.copytree(toy_models / "toy-ct", models / "toy-ct")
    path, metadata = models / "toy-ct" / WEIGHTS, models / "toy-ct" / METADATA
    weights = load_file(path)
    names = [name for name in weights if name.endswith("weight") and "synthesis" in name]
    weights[names[-1]] = np.full_like(weights[names[-1]], np.nan)
    save_file(weights, path)
    content = json.loads(metadata.read_text())
    content["anomap"]["files"]["models/" + path.name] = file_sha256(path)
    content["anomap"]["sha256"] = bundle_sha256(content["anomap"])
    metadata.write_text(json.dumps(content))
    for cohort in (models / "toy-ct").rglob("*cohort*.json"):
        cohort.unlink()
    return models


@pytest.mark.fault(30, "the model answers NaN", "error (exit 4), never PASS")
def test_a_model_that_answers_nan_gives_no_verdict(nan_models, tmp_path, capfd, seen):
    ct(tmp_path / "in", 8)
    words = ["analyze", str(tmp_path / "in"), str(tmp_path / "out"), "--models", str(nan_models), "--steps", "2"]
    assert cli.main(words) == 4
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["verdict"] == "REVIEW"  # of the study: a person must look
    assert [entry["verdict"] for entry in content["series"]] == [None]
    assert not list((tmp_path / "out").rglob("*.dcm"))
    line = capfd.readouterr().err.strip().splitlines()[-1]
    seen(line)
    assert "ZZPHI" not in line


@pytest.mark.fault(30, "node: the model answers NaN", "job failed after its attempts, nothing sent")
def test_a_node_with_a_model_that_answers_nan_sends_nothing(nan_models, tmp_path, seen):
    paths = ct(tmp_path / "ct", 9)
    settings = {"analysis": {"steps": 0}, "work": {"quiet_s": 0.5, "attempts": 2, "backoff_s": 0.2}}
    with clinic(tmp_path / "node", nan_models, **settings) as node:
        assert store_files(node.port, paths) == [0] * 4
        job = node.wait("failed")["jobs"][0]
        assert job["verdict"] is None
        assert not list((node.state / "results").iterdir())
        seen(f"failed after {job['attempts']} attempts with {job['code']}")
