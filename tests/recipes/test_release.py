"""The Lua router in a real Orthanc: a segmenter's archive gets what a report of the node passes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from anomap.bundle import load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import read_study
from anomap.dicom.report import build_report
from anomap.dicom.segmentation import build_segmentation
from anomap.pipeline import analyze_series
from anomap.types import Verdict
from tests.service.clinic import Orthanc, eventually, free_port, running, storescu

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "recipes" / "release.lua"


@dataclass
class Route:
    """An archive with the script, the segmenter behind it, and reports as the node would store them."""

    archive: Orthanc
    segmenter: Orthanc
    models: Path

    def report(self, folder: Path, verdict: Verdict) -> list[Path]:
        """Write the SR, and the SEG it refers to, on what a folder holds."""
        (series,) = read_study(folder).series
        analysis = analyze_series(series, load_bundle(self.models / "toy-ct"), AnalyzeConfig(steps=1))
        result = replace(analysis.result, verdict=verdict)
        segmentation = build_segmentation(series, result)
        objects = [build_report(series, analysis.prepared, analysis.score_map, result, segmentation), segmentation]
        out = folder.with_name(f"{folder.name}-{verdict}")
        out.mkdir()
        paths = [out / f"{number}.dcm" for number, made in enumerate(objects) if made is not None]
        for path, made in zip(paths, objects, strict=False):
            made.save_as(path, enforce_file_format=True)
        return paths

    def send(self, *paths: Path, calling: str = "MODALITY") -> None:
        assert storescu(self.archive.dicom, self.archive.title, *paths, calling=calling, words=["-R"]) == 0

    def released(self, paths: list[Path]) -> int:
        """How many of some images the segmenter has."""
        return sum(bool(self.segmenter.post("/tools/lookup", uid_of(path).encode())) for path in paths)


def uid_of(path: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


@pytest.fixture(scope="module")
def route(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    folder = tmp_path_factory.mktemp("route")
    anyone = {"DicomCheckModalityHost": False, "DicomAlwaysAllowStore": True}
    segmenter = Orthanc(folder / "segmenter", free_port(), anyone)
    known = {
        "segmenter": {"AET": segmenter.title, "Host": "127.0.0.1", "Port": segmenter.dicom},
        "anomap": {"AET": "ANOMAP", "Host": "127.0.0.1", "Port": 1},
        "modality": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": 1},
    }
    archive = Orthanc(folder / "archive", free_port(), {"DicomModalities": known}, SCRIPT.read_text())
    with running(segmenter, archive):
        yield Route(archive, segmenter, toy_models)


def images(folder: Path, patient: str) -> list[Path]:
    return write_ct_phantom(folder, slices=4, rows=48, columns=48, spacing_mm=(5, 8, 8), patient_id=patient)


def test_a_pass_releases_the_series_and_what_came_before_it_did_not(route: Route, tmp_path: Path) -> None:
    """The last of the cases is the pass: by then Orthanc has dealt with those that must release nothing."""
    held = {}
    for verdict in (Verdict.REVIEW, Verdict.REJECT, Verdict.UNCALIBRATED):
        held[verdict] = images(tmp_path / verdict, f"R-{verdict}")
        route.send(*held[verdict])
        route.send(*route.report(tmp_path / verdict, verdict), calling="ANOMAP")
    held["no answer"] = images(tmp_path / "silent", "R-silent")
    route.send(*held["no answer"])
    held["another sender"] = images(tmp_path / "forged", "R-forged")
    route.send(*held["another sender"])
    route.send(*route.report(tmp_path / "forged", Verdict.PASS), calling="MODALITY")
    late = images(tmp_path / "late", "R-late")
    moved = tmp_path / "later.dcm"
    late[-1].rename(moved)
    report = route.report(tmp_path / "late", Verdict.PASS)  # on three of four slices
    route.send(*late[:3], moved)
    route.send(*report, calling="ANOMAP")
    held["late slice"] = [*late[:3], moved]

    passed = images(tmp_path / "passed", "R-passed")
    route.send(*passed)
    assert route.released(passed) == 0  # images alone go nowhere
    route.send(*route.report(tmp_path / "passed", Verdict.PASS), calling="ANOMAP")
    eventually(lambda: route.released(passed) == len(passed), "the passed series reaches the segmenter")
    eventually(lambda: {job["State"] for job in route.archive.get("/jobs?expand")} == {"Success"}, "all jobs done")
    assert len(route.archive.get("/jobs")) == 1
    assert {name: route.released(paths) for name, paths in held.items()} == dict.fromkeys(held, 0)
    assert len(route.segmenter.get("/instances")) == len(passed)  # nor did the report go
    log = (route.archive.folder / "log").read_text()
    assert "other images are here than were looked at" in log
    assert "Error while executing Lua" not in log


def test_a_segmenter_that_is_down_gets_nothing_and_orthanc_says_so(toy_models: Path, tmp_path: Path) -> None:
    known = {
        "segmenter": {"AET": "SEGMENTER", "Host": "127.0.0.1", "Port": free_port()},
        "anomap": {"AET": "ANOMAP", "Host": "127.0.0.1", "Port": 1},
        "modality": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": 1},
    }
    archive = Orthanc(tmp_path / "archive", free_port(), {"DicomModalities": known}, SCRIPT.read_text())
    with running(archive):
        alone = Route(archive, archive, toy_models)
        alone.send(*images(tmp_path / "in", "R-down"))
        alone.send(*alone.report(tmp_path / "in", Verdict.PASS), calling="ANOMAP")
        (job,) = eventually(lambda: archive.get("/jobs?expand"), "a job")
        eventually(lambda: archive.get(f"/jobs/{job['ID']}")["State"] == "Failure", "the job fails")
