"""One study, four ways in: command line, MAP application, Slicer logic, browser viewer. The same scores and map."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from AnomapLib.geometry import voxelsOf
from AnomapLib.logic import AnomapLogic, Row, Settings, State
from pydicom import dcmread

from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import read_study
from tests.browser import chromium
from tests.service.clinic import ROOT
from tests.slicer_extension.runs import finish, ijk_to_ras, local_runner
from tests.slicer_extension.scene import Application
from tests.viewer.session import Tab, viewing

QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass
class Result:
    """What came out of one way in.

    Attributes:
        content: ``result.json`` of the series.
        objects: "sr", "seg", "pm" as read.
        heat: Window scores on the volume's grid; None where a way gives none.
        rows: Of the results table; None where there is none.
    """

    content: dict[str, Any]
    objects: dict[str, Any]
    heat: np.ndarray | None = None
    rows: Any = None


def of_folder(folder: Path) -> Result:
    """The only series of an output folder."""
    (path,) = folder.glob("*/result.json")
    return Result(json.loads(path.read_text()), objects_in(path.parent))


def objects_in(folder: Path) -> dict[str, Any]:
    return {name: dcmread(folder / f"{name}.dcm") for name in ("sr", "seg", "pm")}


def by_command_line(study: Path, models: Path, out: Path) -> Result:
    words = ["-m", "anomap", "analyze", str(study), str(out), "--models", str(models)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=ROOT, env=QUIET)
    return of_folder(out)


def by_application(study: Path, models: Path, out: Path) -> Result:
    words = ["-m", "deploy_app", "-i", str(study), "-o", str(out), "-m", str(models)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=ROOT, env=QUIET)
    return of_folder(out)


def by_slicer(study: Path, models: Path, out: Path) -> Result:
    """As the module does, on a node that a left-handed reader has made: its slices run downwards."""
    (series,) = read_study(study).series
    files = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): str(path) for path in study.iterdir()}
    affine = series.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (len(series.pixels) - 1)
    affine[:3, 0] *= -1
    application = Application()
    node = application.volume(np.round(series.pixels[::-1]).astype(np.int16), ijk_to_ras(affine), "ct")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(str(header.SOPInstanceUID) for header in series.headers))
    logic = AnomapLogic(application.scene, local_runner(), files.get)
    logic.start(node, Settings(modelFolder=str(models)))
    assert finish(logic) is State.DONE, logic.message
    folder = Path(logic.outcome.dicomFiles[0]).parent
    content = json.loads((folder / "result.json").read_text())
    heat = voxelsOf(logic.outcome.overlayNode)[::-1].copy()
    result = Result(content, objects_in(folder), heat, logic.outcome.rows)
    logic.close()
    return result


def by_viewer(study: Path, models: Path, out: Path) -> Result:
    """As a person does: open, Run, read the table, download the report."""
    with viewing(out, models) as session, chromium() as browser:
        tab = Tab(browser, session)
        tab.type_path(study)
        tab.wait_for_volume("CT")
        tab.page.click("#run")
        tab.page.wait_for_selector("#gate")
        rows = [line.split("\t") for line in tab.page.locator("#rows tbody tr").all_inner_texts()]
        (path,) = out.glob("anomap-job-*/result/result.json")
        content = json.loads(path.read_text())
        with tab.page.expect_download() as download:
            tab.page.click("#download")
        with zipfile.ZipFile(download.value.path()) as archive:
            archive.extractall(out / "report")
    return Result(content, objects_in(out / "report"), rows=rows)


WAYS = {"MAP application": by_application, "Slicer": by_slicer, "viewer": by_viewer}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parity") / "ct"
    write_ct_phantom(folder, slices=5, rows=64, columns=72, spacing_mm=(5.0, 5.0, 4.5), needle_lps_mm=(20, -30, 210))
    return folder


@pytest.fixture(scope="module")
def reference(study, toy_models, tmp_path_factory) -> Result:
    return by_command_line(study, toy_models, tmp_path_factory.mktemp("cli") / "out")


@pytest.fixture(scope="module", params=WAYS)
def other(request, study, toy_models, tmp_path_factory) -> Result:
    return WAYS[request.param](study, toy_models, tmp_path_factory.mktemp("way") / "out")


def leading(region: dict[str, Any]) -> tuple[float, str]:
    """A region's score and unit in ``result.json``: that of its maps which exceeds its threshold most."""
    unit = {"wd_patch": "hu", "neighbour_patch": "sd"}[region["score"]]
    return region[f"peak_score_{region['score']}_{unit}"], unit.replace("hu", "HU")


def without_run(content: dict[str, Any]) -> dict[str, Any]:
    """What must not differ: everything but times, and the choice of outputs with its hash."""
    left = {key: value for key, value in content.items() if key not in ("run", "outputs", "projection")}
    return {**left, "steps": content["projection"]["steps"], "preset": content["projection"]["preset"]}


def test_scores_p_values_regions_and_verdict_are_the_same(reference, other):
    assert without_run(other.content) == without_run(reference.content)
    assert len(reference.content["images"]) == 5
    assert reference.content["regions"]


def test_the_map_and_the_regions_are_the_same(reference, other):
    for name in ("pm", "seg"):
        mine, theirs = (result.objects[name].copy() for result in (other, reference))
        key = "FloatPixelData" if name == "pm" else "PixelData"
        assert mine[key].value == theirs[key].value
        assert mine.NumberOfFrames == theirs.NumberOfFrames
        frames = [d.PerFrameFunctionalGroupsSequence for d in (mine, theirs)]
        assert [f.PlanePositionSequence for f in frames[0]] == [f.PlanePositionSequence for f in frames[1]]


def numbers(report: Any) -> list[tuple[str, str]]:
    """All measured values of a report with their concepts, in order."""
    found = []
    for item in report.iterall():
        if item.keyword == "MeasuredValueSequence" and item.value:
            found.append(str(item.value[0].NumericValue))
    return found


def test_the_report_measures_the_same(reference, other):
    assert numbers(other.objects["sr"]) == numbers(reference.objects["sr"]) != []


def test_what_slicer_shows_is_what_the_report_says(reference, study, toy_models):
    result = by_slicer(study, toy_models, Path())
    scores = [image["score_wd_patch_hu"] for image in reference.content["images"]]
    slices = sorted((row for row in result.rows if row.kind == "slice"), key=lambda row: row.number)
    assert [row.score for row in slices] == scores
    places = [row for row in result.rows if row.kind == "place"]
    known = sorted((image["score_neighbour_patch_sd"] for image in reference.content["images"]), reverse=True)
    assert [row.score for row in places] == known[:10]
    for row, region in zip(
        [row for row in result.rows if row.kind == "region"], reference.content["regions"], strict=True
    ):
        assert isinstance(row, Row)
        left, posterior, superior = region["centroid_lps_mm"]
        assert row.ras == pytest.approx((-left, -posterior, superior), abs=1e-6)
        assert (row.score, row.unit) == leading(region)
    threshold = reference.content["thresholds"]["region_score_wd_patch_hu"]
    marked = np.zeros(result.heat.shape, bool)  # of the SEG's frames, by where they lie
    seg = reference.objects["seg"]
    heights = sorted(
        {float(dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]) for path in study.iterdir()}
    )
    frames = seg.pixel_array.reshape(-1, *result.heat.shape[1:])
    for frame, what in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        height = float(what.PlanePositionSequence[0].ImagePositionPatient[2])
        marked[int(np.argmin(np.abs(np.subtract(heights, height))))] |= frame > 0
    assert marked.any()
    assert (result.heat[marked] > threshold).all()


def test_what_the_viewer_shows_is_what_the_report_says(reference, study, toy_models, tmp_path):
    result = by_viewer(study, toy_models, tmp_path / "viewer")
    regions = reference.content["regions"]
    images = len(reference.content["images"])
    assert len(result.rows) == len(regions) + min(images, 10) + images
    shown = [row[1] for row in result.rows[: len(regions)]]
    led = [leading(region) for region in regions]
    assert shown == [f"{score:.3g}" + (f" {unit}" if unit != "HU" else "") for score, unit in led]
