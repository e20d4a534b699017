"""The process a viewer starts: events in order, a result as `anomap analyze` gives it, and an end when asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

from anomap.bundle import WEIGHTS
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.study import analyze
from anomap.volume.job import read_job
from anomap.volume.run import run_job
from tests.dicom.tools import centroid, complaints, segments
from tests.service.clinic import ROOT, eventually
from tests.volume.jobs import scrambled, write_job

PHI = ("ZZPHI", "ZZCANARY", "ZZID4711")
SPACING = (5.0, 6.0, 6.0)
ENDLESS = {"preset": "paper", "steps": 10**6}
# Prints from the first moment on, to Python's stdout and to the descriptor, as libraries do.
# Prints while torch is loaded and from then on, to Python's stdout and to the descriptor, as libraries do.
CHATTER = """
import os, sys, threading, time
def chatter():
    while 'anomap.volume.run' not in sys.modules: time.sleep(0.001)
    for _ in range(200): print('{"event": "forged"}', flush=True); os.write(1, b'noise\\n'); time.sleep(0.005)
threading.Thread(target=chatter, daemon=True).start()
"""
LOUD_IMPORT = """
import sys
from importlib.abc import MetaPathFinder
class Loud(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ('torch', 'pydicom', 'highdicom'): print('{"event": "forged"}', flush=True)
sys.meta_path.insert(0, Loud())
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A CT with a patient's name, and the voxels as a viewer holds them: to the feet, to the front, to the left."""
    folder = tmp_path_factory.mktemp("ct")
    paths = write_ct_phantom(
        folder, slices=4, rows=64, columns=64, spacing_mm=SPACING, needle_lps_mm=(40.0, -20.0, 213.0),
        patient_name="ZZPHI^ZZCANARY", patient_id="ZZID4711",
    )  # fmt: skip
    (series,) = read_study(folder).series
    voxels, affine = scrambled(series.pixels.astype(np.int16), series.affine, (0, 1, 2), (True, True, False))
    return folder, paths, series, voxels, affine


@pytest.fixture
def job(phantom, toy_models, tmp_path):
    """Write a job of the phantom."""
    _, paths, _, voxels, affine = phantom

    def write(name="job", **words):
        words = {"files": paths, "models": toy_models, **words}
        return write_job(tmp_path / name, voxels, affine, **words)

    return write


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


class Process:
    """The process as the viewer starts it, and all that it says."""

    def __init__(self, *words: Path | str, **more: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "anomap.volume", *map(str, words)], cwd=ROOT, env=environment(**more),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=lambda: self.lines.extend(iter(self.popen.stdout.readline, ""))),
            threading.Thread(target=lambda: self.errors.extend(iter(self.popen.stderr.readline, ""))),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait(20)
        for reader in self._readers:
            reader.join(20)
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            pipe.close()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]

    def status(self, seconds: float = 120) -> int:
        result = self.popen.wait(seconds)
        for reader in self._readers:
            reader.join(20)
        return result

    def wait_until_it_projects(self) -> None:
        eventually(lambda: any(event.get("stage") == "project" for event in self.events), "it projects")
        time.sleep(0.5)  # in the midst of it


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def done(folder: Path, **changes: object) -> tuple[list[dict], dict, dict]:
    """Run a job in this process: events, ``view.json``, ``result.json``."""
    events: list[dict] = []
    run_job(read_job(folder), events.append)
    result = folder / "result"
    return events, json.loads((result / "view.json").read_text()), json.loads((result / "result.json").read_text())


def lps(affine: np.ndarray, index) -> np.ndarray:
    return (affine @ [*index, 1.0])[:3]


@pytest.fixture(scope="module")
def finished(phantom, toy_models, tmp_path_factory):
    """A whole run as a process, while libraries print."""
    _, paths, _, voxels, affine = phantom
    folder = tmp_path_factory.mktemp("finished")
    (folder / "sitecustomize.py").write_text(CHATTER + LOUD_IMPORT)
    write_job(folder / "job", voxels, affine, files=paths, models=toy_models)
    with Process(folder / "job", PYTHONPATH=str(folder)) as process:
        status = process.status()
    return process, status, folder / "job"


def test_events_come_in_order_and_nothing_else_comes(finished) -> None:
    process, status, _ = finished
    assert status == 0, process.errors
    assert any("forged" in line for line in process.errors), "the libraries were silent"
    events = process.events
    kinds = [event["event"] for event in events if event["event"] != "stage"]
    assert kinds == ["model", "device", "done"]
    assert events[-1] == {"event": "done", "exit_status": 0}
    first_of = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "stage"))
    assert first_of == ["read", "load model", "prepare", "project", "score", "calibrate", "write"]
    for event in events:
        assert event["event"] != "stage" or 0 <= event["done"] <= event["total"]
    (model,) = [event for event in events if event["event"] == "model"]
    assert (model["model"], model["version"]) == ("toy-ct", "0.0.1")
    (device,) = [event for event in events if event["event"] == "device"]
    assert device == {"event": "device", "device": "cpu", "torch": str(torch.__version__)}


def test_the_result_is_complete_and_its_objects_are_valid(finished, phantom) -> None:
    _, _, series, voxels, _ = phantom
    result = finished[2] / "result"
    objects = ["pm.dcm", "seg.dcm", "sr.dcm"]
    assert names(result) == sorted(
        [*objects, "reconstruction.npy", "regions.npz", "result.json", "view.json", "wd.npy"]
    )
    assert names(finished[2]) == ["job.json", "result", "voxels.npy"]
    for name in objects:
        assert complaints(result / name) == []
    view = json.loads((result / "view.json").read_text())
    assert sorted(view["dicom"]) == objects
    assert json.loads((result / "result.json").read_text())["status"] == "complete"
    assert np.load(result / "wd.npy").shape == np.load(result / "reconstruction.npy").shape == voxels.shape
    assert len(view["slices"]) == len(series.pixels)
    assert view["regions"]


def test_no_patient_is_named_outside_of_the_dicom_objects(finished) -> None:
    process, _, folder = finished
    said = "".join([*process.lines, *process.errors])
    for name in ("result.json", "view.json"):
        said += (folder / "result" / name).read_text()
    assert not [word for word in PHI if word in said]
    assert "ZZPHI" in str(dcmread(folder / "result" / "sr.dcm").PatientName)


def test_the_scores_are_those_of_anomap_analyze(finished, phantom, toy_models, tmp_path) -> None:
    source, *_ = phantom
    config = AnalyzeConfig(device="cpu", steps=2, outputs=("sr", "seg", "pm"))
    analyze(source, tmp_path / "out", toy_models, config)
    (path,) = (tmp_path / "out").glob("*/result.json")
    expected, got = json.loads(path.read_text()), json.loads((finished[2] / "result" / "result.json").read_text())
    for content in (expected, got):
        for key in ("run", "outputs"):  # times, and hashes of files that hold times
            del content[key]
    assert got == expected


def test_the_map_is_the_parametric_maps_flipped_to_the_viewer(finished) -> None:
    """The viewer's k runs to the feet and its j to the front."""
    wd = np.load(finished[2] / "result" / "wd.npy")
    view = json.loads((finished[2] / "result" / "view.json").read_text())
    seg, affine_seg = segments_of(finished[2] / "result" / "seg.dcm", finished[2].parent / "seg")
    masks = np.load(finished[2] / "result" / "regions.npz")
    affine = read_job(finished[2]).affine
    assert len(seg) == len(view["regions"])
    for values, region in zip(seg, view["regions"], strict=True):
        mask = masks[str(region["label"])]
        assert values.sum() == mask.sum()
        index = np.argwhere(mask).mean(axis=0) + region["start"]
        np.testing.assert_allclose(centroid(values, affine_seg), lps(affine, index), atol=1e-3)
        box = tuple(slice(start, start + size) for start, size in zip(region["start"], mask.shape, strict=True))
        assert wd[box][mask > 0].min() > view["threshold"]
        assert wd[box][mask > 0].max() == pytest.approx(region["score"])


def segments_of(path: Path, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks of all segments, by number, and their affine, as dcmqi reads them."""
    found: dict[int, np.ndarray] = {}
    groups = segments(path, folder)
    for values, _ in groups:
        found |= {int(number): (values == number).astype(np.uint8) for number in np.unique(values) if number}
    return [found[number] for number in sorted(found)], groups[0][1]


def test_a_part_of_the_slices_is_reported_where_it_lies(finished, job, phantom, tmp_path) -> None:
    """Slices 1 and 2: report, regions and map refer to them alone, at their own places; so does the viewer's copy."""
    _, _, series, _, affine = phantom
    folder = job(through=[lps(series.affine, (k, 30, 30)) for k in (2, 1)])
    _, view, _ = done(folder)
    result = folder / "result"
    for name in view["dicom"]:
        assert complaints(result / name) == []
    assert referenced(result / "seg.dcm") & set(series.frame_ids) <= set(series.frame_ids[1:3])
    for name in ("pm.dcm", "sr.dcm"):
        assert referenced(result / name) & set(series.frame_ids) == set(series.frame_ids[1:3])
    wd = np.load(result / "wd.npy")[::-1]  # to the head again
    assert [bool(frame.any()) for frame in wd] == [False, True, True, False]
    masks = np.load(result / "regions.npz")
    values, seg_affine = segments_of(result / "seg.dcm", tmp_path / "seg")
    for mine, region in zip(values, view["regions"], strict=True):
        index = np.argwhere(masks[str(region["label"])]).mean(axis=0) + region["start"]
        np.testing.assert_allclose(centroid(mine, seg_affine), lps(affine, index), atol=1e-3)
    whole = json.loads((finished[2] / "result" / "view.json").read_text())
    for entry, same in zip(view["slices"], whole["slices"][1:3], strict=True):  # a slice's result is its own
        np.testing.assert_allclose(entry["place_lps_mm"], same["place_lps_mm"], atol=1e-9)
        assert entry["score"] == pytest.approx(same["score"], rel=1e-5)
    heights = {round(entry["place_lps_mm"][2], 3) for entry in view["slices"]}
    assert heights == {round(lps(series.affine, (k, 0, 0))[2], 3) for k in (1, 2)}


def referenced(path: Path) -> set[str]:
    """All SOP Instance UIDs that an object refers to."""
    return {str(e.value) for e in dcmread(path).iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def test_without_files_there_is_no_dicom_and_that_is_told(job) -> None:
    folder = job(files=[])
    events, view, result = done(folder)
    assert view["dicom"] == []
    assert names(folder / "result") == [
        "reconstruction.npy",
        "regions.npz",
        "result.json",
        "view.json",
        "wd.npy",
    ]
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert "no DICOM report" in note
    assert note in view["warnings"]
    assert result["status"] == "complete"


def test_a_float_volume_that_lies_as_the_models_want_it_is_not_written_to(phantom, toy_models, tmp_path) -> None:
    """It is mapped read-only, and needs no turn and no other type."""
    _, _, series, _, _ = phantom
    voxels = series.pixels.copy()
    voxels[0, 0, 0] = np.nan
    folder = write_job(tmp_path / "job", voxels, series.affine, models=toy_models)
    _, view, _ = done(folder)
    assert view["regions"]
    np.testing.assert_array_equal(np.load(folder / "voxels.npy"), voxels)


def refused(folder: Path) -> AnomapError:
    with pytest.raises(AnomapError) as caught:
        run_job(read_job(folder), lambda event: None)
    assert not [name for name in names(folder) if name.startswith(".")]
    return caught.value


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"config": {"model": "none such"}}, "E300"),
        ({"config": {"model": "toy-radiograph"}}, "E113"),
        ({"config": {"device": "cuda:99"}}, "E401"),
        ({"config": {"preset": "slow"}}, "E200"),
        ({"config": {"time_limit_s": 1e-6}}, "E402"),
        ({"models": "/none/such"}, "E300"),
        ({"files": [], "to_world": np.diag([1, 1, 1, 1]) + np.diag([0.5, 0, 0], 1)}, "E112"),
        ({"through": [(0.0, 0.0, 9999.0)]}, "E200"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cant_be_done_is_refused_and_leaves_a_refusal_alone(job, words, code) -> None:
    folder = job(**words)
    assert refused(folder).code == code
    assert names(folder / "result") == ["result.json"]
    assert json.loads((folder / "result" / "result.json").read_text())["error"]["code"] == code


def test_broken_models_are_an_error_with_a_code(job, toy_models, tmp_path) -> None:
    shutil.copytree(toy_models, tmp_path / "models")
    folder = job(models=tmp_path / "models")
    weights = tmp_path / "models" / "toy-ct" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    assert refused(folder).code == "E301"
    shutil.rmtree(folder / "result")
    for path in (tmp_path / "models").rglob("metadata.json"):
        path.write_text("{")
    assert refused(folder).code == "E302"


def test_a_result_is_never_overwritten(job) -> None:
    folder = job()
    (folder / "result").mkdir()
    (folder / "result" / "precious").write_text("x")
    assert refused(folder).code == "E201"
    assert names(folder / "result") == ["precious"]


def test_a_refused_input_is_one_error_event_and_an_exit_status(job) -> None:
    folder = job(config={"model": "toy-radiograph"})
    with Process(folder) as process:
        assert process.status() == 3
    assert [event["event"] for event in process.events if event["event"] != "stage"] == ["error"]
    last = process.events[-1]
    assert (last["code"], last["exit_status"]) == ("E113", 3)
    assert {"title", "message", "remedy"} <= set(last)
    assert names(folder / "result") == ["result.json"]


@pytest.mark.parametrize("words", [[], ["/none/such"], ["a", "b"]], ids=str)
def test_what_is_no_job_is_told_like_every_error(words) -> None:
    with Process(*words) as process:
        assert process.status() == 2
    (event,) = process.events
    assert (event["event"], event["code"]) == ("error", "E200")


def test_a_broken_installation_is_told_like_every_error(job, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['scipy'] = None")
    with Process(job(), PYTHONPATH=str(tmp_path)) as process:
        assert process.status() == 2
    (event,) = process.events
    assert (event["event"], event["code"]) == ("error", "E203")
    assert "scipy" in event["message"]


def end_by_word(popen: subprocess.Popen) -> None:
    popen.stdin.write("cancel\n")
    popen.stdin.flush()


def end_by_silence(popen: subprocess.Popen) -> None:
    popen.stdin.close()


@pytest.mark.parametrize("end", [end_by_word, end_by_silence])
def test_a_cancelled_projection_ends_at_once_and_leaves_nothing(job, end) -> None:
    folder = job(config=ENDLESS)
    with Process(folder) as process:
        process.wait_until_it_projects()
        assert [name for name in names(folder) if name.startswith(".anomap-staging-")]
        asked = time.monotonic()
        end(process.popen)
        assert process.popen.wait(20) == 130
        assert time.monotonic() - asked < 5.0  # it would go on for hours; benchmarks/interactive.py times it
    assert names(folder) == ["job.json", "voxels.npy"]
    assert {event["event"] for event in process.events} == {"stage", "model", "device"}


def test_it_ends_also_while_it_still_loads_libraries(job) -> None:
    folder = job(config=ENDLESS)
    with Process(folder) as process:
        modules = Path(f"/proc/{process.popen.pid}/maps")
        eventually(lambda: "libtorch" in modules.read_text(), "it loads torch")
        asked = time.monotonic()
        end_by_silence(process.popen)
        assert process.popen.wait(20) == 130
        assert time.monotonic() - asked < 10.0  # a library of hundreds of megabytes is loaded in one go
    assert process.events == []


def test_terminated_it_cleans_up_too(job) -> None:
    folder = job(config=ENDLESS)
    with Process(folder) as process:
        process.wait_until_it_projects()
        process.popen.send_signal(signal.SIGTERM)
        assert process.status(20) == 130
    assert names(folder) == ["job.json", "voxels.npy"]
    assert process.events[-1]["code"] == "E403"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_viewer_that_is_killed_takes_it_along(job, tmp_path) -> None:
    """By SIGKILL, which no handler sees."""
    folder, said = job(config=ENDLESS), tmp_path / "said"
    viewer = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'anomap.volume', {str(folder)!r}],"
        f" stdin=subprocess.PIPE, stdout=open({str(said)!r}, 'w'))\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", viewer], cwd=ROOT, env=environment(), stdout=subprocess.PIPE
    ) as parent:
        try:
            child = int(parent.stdout.readline())
            eventually(lambda: '"project"' in said.read_text(), "it projects")
            assert alive(child)
        finally:
            parent.kill()
        parent.wait(20)
        eventually(lambda: not alive(child), "it has gone", 2)
    eventually(lambda: names(folder) == ["job.json", "voxels.npy"], "nothing is left", 2)
