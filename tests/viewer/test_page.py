"""The viewer in a browser: Chromium, a real server process, real analyses by the toy models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.browser import chromium
from tests.service.clinic import ROOT, eventually
from tests.viewer.session import Tab, viewing

NAMES = {"patient_name": "ZZPHI^CANARY", "patient_id": "ZZPHI"}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def session(tmp_path_factory, toy_models):
    with viewing(tmp_path_factory.mktemp("session"), toy_models) as started:
        yield started
        assert started.stop(signal.SIGINT) == 0, "Ctrl-C"
        assert "ZZPHI" not in started.said()
        assert "Traceback" not in started.said()


@pytest.fixture
def tab(browser, session):
    """The page. Whatever a test does: no script fails, nothing comes from elsewhere, and no name is anywhere."""
    made = Tab(browser, session)
    yield made
    assert made.errors == []
    assert {url.split("/")[2] for url in made.asked if not url.startswith("blob:")} == {f"127.0.0.1:{session.port}"}
    assert all(url.startswith(f"blob:{session.url}") for url in made.asked if url.startswith("blob:"))
    state = made.page.evaluate("JSON.stringify(window.trame.state.state)")
    assert "left_out" in state
    for content in (made.page.content(), state):
        assert "ZZPHI" not in content
        assert not re.search(r"\b[12]\.\d+\.\d+\.\d+\.\d", content), "a UID"
    made.page.close()


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """A zip with a CT of five slices and something that is none."""
    folder = tmp_path_factory.mktemp("ct")
    files = write_ct_phantom(folder, slices=5, rows=48, columns=48, spacing_mm=(8.0, 8.0, 8.0), **NAMES)
    with zipfile.ZipFile(folder / "ct.zip", "w") as archive:
        for path in files:
            archive.write(path, f"ZZPHI/{path.name}")
        archive.writestr("ZZPHI.txt", "not DICOM")
    return folder / "ct.zip"


def test_a_zip_is_sent_analysed_cancelled_analysed_again_and_looked_at(tab, session, browser, ct):
    tab.send(ct)
    tab.wait_for_volume("CT series 1: 5 images of 48 × 48, every 8 mm")
    assert "left out: 1 × E101" in tab.text(".left-out")
    assert list(tab.places()) == ["Axial", "Sagittal", "Coronal"]
    tab.until(lambda: tab.picture().max() > 200, "the volume is drawn")
    assert tab.coloured() < 0.002

    tab.choose("preset", "paper")
    tab.page.click("#run")
    tab.until(session.workers, "an analysis runs")
    tab.message("project")
    tab.page.click("#cancel")
    tab.message("cancelled")
    eventually(lambda: session.workers() == [], "no process is left", 20)
    assert tab.page.locator("#result").count() == 0

    tab.choose("preset", "fast")
    tab.page.click("#run")
    tab.page.wait_for_selector("#gate")
    assert tab.text("#gate").startswith("UNCALIBRATED")
    assert "toy-ct 0.0.1 against toy cohort" in tab.text("#cohort")
    rows = tab.page.locator("#rows tbody tr")
    assert rows.count() >= 5
    assert "region" in tab.text("#result") or "slice" in tab.text("#result")
    tab.page.click("#log summary")
    assert "device: cpu" in tab.text("#log")

    before = tab.places()
    rows.last.click()
    tab.until(lambda: tab.places() != before, "the views have jumped")
    assert "jumped" in rows.last.get_attribute("class")

    _flip_and_slide(tab)
    _download(tab)
    second = Tab(browser, session)
    assert second.text("#gate") == tab.text("#gate")
    second.page.close()


def _flip_and_slide(tab):
    slider = "#threshold [role=slider]"
    tab.page.press(slider, "Home")
    share = tab.until(lambda: tab.coloured() > 0.03 and tab.coloured(), "all that was scored is coloured")
    tab.page.press(slider, "End")
    tab.until(lambda: tab.coloured() < share / 2, "only the highest scores are coloured")
    tab.page.press(slider, "Home")
    tab.until(lambda: tab.coloured() > 0.9 * share, "and all again")
    tab.page.press("#opacity [role=slider]", "Home")
    tab.until(lambda: tab.coloured() < share / 2, "the overlay is transparent")
    grey = tab.still()
    tab.page.check("#reconstruction")
    tab.until(lambda: np.abs(tab.picture() - grey).max(axis=2).mean() > 1.0, "the reconstruction is shown")
    tab.page.uncheck("#reconstruction")
    tab.until(lambda: np.abs(tab.picture() - grey).max(axis=2).mean() < 0.5, "the input is shown")


def _download(tab):
    with tab.page.expect_download() as waiting:
        tab.page.click("#download")
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert {"sr.dcm", "pm.dcm"} <= set(archive.namelist())
        with archive.open("sr.dcm") as file:
            assert dcmread(file).Modality == "SR"


def test_dragging_and_scrolling_in_a_view_changes_it(tab, ct):
    tab.send(ct)
    tab.wait_for_volume("CT series 1")
    tab.until(lambda: tab.picture().max() > 200, "the volume is drawn")
    box = tab.page.locator(".view-name").first.locator("..").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before = tab.still()
    tab.page.mouse.move(*middle)
    tab.page.mouse.down()
    tab.page.mouse.move(middle[0] + 80, middle[1] + 60, steps=5)
    tab.page.mouse.up()
    tab.until(lambda: np.abs(tab.picture() - before).mean() > 1.0, "window and level have changed")
    place = tab.places()
    tab.page.mouse.wheel(0, -200)
    tab.until(lambda: tab.places()["Axial"] != place["Axial"], "another slice is shown")


def test_a_typed_folder_with_several_series_gives_a_choice(tab, tmp_path):
    write_ct_phantom(tmp_path, slices=3, rows=40, columns=40, **NAMES)
    write_radiograph_phantom(tmp_path, rows=64, columns=56, images=2, **NAMES)
    tab.type_path(tmp_path)
    tab.wait_for_volume("CT series 1: 3 images")
    tab.choose("series", "DX series 1, image 2")
    tab.until(lambda: list(tab.places()) == ["Image"], "a single image has the place to itself")
    tab.until(lambda: abs(_shape_of_image(tab) - 56 / 64) < 0.02, "it is seen whole")
    tab.page.click("#run")
    tab.page.wait_for_selector("#gate")
    assert "toy-radiograph" in tab.text("#cohort")


def _shape_of_image(tab):
    """Width to height of what isn't black, apart from what lies over it."""
    lit = tab.picture().min(axis=2) > 8
    columns, rows = np.flatnonzero(lit.mean(axis=0) > 0.5), np.flatnonzero(lit.mean(axis=1) > 0.5)
    return len(columns) / max(len(rows), 1)


def test_only_the_slice_shown_is_analysed_when_asked_for(tab, ct):
    tab.send(ct)
    tab.wait_for_volume("CT series 1")
    tab.page.check("#only-shown")
    tab.page.click("#run")
    tab.page.wait_for_selector("#gate")
    assert tab.page.locator("#rows tbody tr", has_text="slice").count() == 1
    tab.page.uncheck("#only-shown")


def _text(folder: Path) -> Path:
    (folder / "ZZPHI.txt").write_text("not DICOM")
    return folder / "ZZPHI.txt"


def _mr(folder: Path) -> Path:
    (path,) = write_ct_phantom(folder, slices=1, rows=32, columns=32, **NAMES)
    dataset = dcmread(path)
    dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(("make", "code"), [(_text, "E101"), (_mr, "E111")])
def test_what_is_unusable_is_said_in_one_line_and_the_page_lives(make, code, tab, tmp_path, ct):
    tab.send(make(tmp_path))
    tab.page.locator("#error", has_text=code).wait_for()
    assert len(tab.text("#error").splitlines()) == 1
    tab.send(ct)
    tab.wait_for_volume("CT series 1")
    tab.until(lambda: tab.page.locator("#error").count() == 0, "the error has gone")


def test_a_typed_path_that_leads_nowhere_or_to_nothing_is_said(tab, tmp_path):
    tab.type_path(tmp_path / "missing")
    tab.page.locator("#error", has_text="E100 the input is neither a folder nor a file").wait_for()
    tab.type_path(tmp_path)
    tab.page.locator("#error", has_text="E100 the input holds no files").wait_for()


def test_an_analysis_that_fails_says_why(tab, ct):
    tab.send(ct)
    tab.wait_for_volume("CT series 1")
    tab.choose("model", "toy-radiograph")
    tab.page.click("#run")
    tab.page.locator("#error", has_text="E113").wait_for()
    tab.choose("model", "auto")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_analysis_ends_with_the_viewer(number, browser, tmp_path, toy_models, ct):
    with viewing(tmp_path, toy_models, ct) as session:
        tab = Tab(browser, session)
        tab.wait_for_volume("CT series 1")
        tab.choose("preset", "paper")
        tab.page.click("#run")
        tab.message("project")
        workers = session.workers()
        assert workers
        status = session.stop(number)
        assert status == (-signal.SIGKILL if number is signal.SIGKILL else 0), session.said()
        eventually(lambda: not any(_alive(pid) for pid in workers), "the analysis has ended", 20)
        if number is not signal.SIGKILL:
            left = [path.name for path in tmp_path.iterdir() if path.name.startswith("anomap-")]
            assert left == [], "nothing unpacked or computed is left"
        tab.page.close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_port_in_use_is_one_line(session):
    words = [sys.executable, "-m", "anomap.cli", "viewer", "--no-open", "--port", str(session.port)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"E200 port {session.port} can't be listened on: ")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "rebound.example"}, {"Host": ""}, {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:1"}],
)
@pytest.mark.parametrize("path", ["", "ws", "upload", "report.zip"])
def test_other_pages_and_other_names_of_this_machine_are_refused(path, headers, session):
    if path == "ws":
        headers = {
            **headers, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }  # fmt: skip
    request = urllib.request.Request(session.url + path, headers=headers, method="POST" if path == "upload" else "GET")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code in (400, 403)


def test_answers_forbid_what_comes_from_elsewhere(session):
    with urllib.request.urlopen(session.url, timeout=10) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self' ")
        assert answer.headers["Cache-Control"] == "no-store"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(session.url + "report.zip?", timeout=10)
    by_name = urllib.request.Request(session.url, headers={"Host": "localhost:9000"})  # through ssh -L
    with urllib.request.urlopen(by_name, timeout=10) as answer:
        assert answer.status == 200


if os.environ.get("UPDATE_DOCS"):

    def test_the_picture_of_the_documentation(browser, tmp_path):
        """The shipped model on a CT phantom with a metal rod in one slice."""
        dataset = dcmread(path := write_ct_phantom(tmp_path / "ct", slices=24)[12])
        pixels = dataset.pixel_array.copy()
        for n in range(30):
            pixels[70 + n // 3 : 73 + n // 3, 44 + n : 46 + n] = 2000 - int(dataset.RescaleIntercept)
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(path)
        with viewing(tmp_path, ROOT / "models", tmp_path / "ct") as session:
            tab = Tab(browser, session)
            tab.wait_for_volume("CT series 1")
            tab.page.click("#run")
            tab.page.wait_for_selector("#gate", timeout=300_000)
            tab.page.locator("#rows tbody tr").nth(0).click()  # region 1
            for _ in range(4):
                tab.page.press("#threshold [role=slider]", "PageDown")
            tab.page.mouse.move(5, 5)
            tab.page.wait_for_timeout(2000)
            tab.page.screenshot(path=ROOT / "docs" / "images" / "viewer.png")
            tab.page.close()
