"""The status page: read-only, without names, and a browser shows it as it is meant."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from urllib.request import urlopen

import pytest
from pydicom import dcmread

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.service.settings import Web
from anomap.service.spool import key_of
from anomap.service.types import JobState
from anomap.service.web import Page, create_app
from tests.browser import chromium
from tests.service.clinic import ROOT, Node, eventually, free_port, running
from tests.service.listening import send
from tests.service.parts import Archive, image

PICTURE = bytes.fromhex("89504e470d0a1a0a") + b"preview"


@pytest.fixture
def page(state):
    """The page of a node with one finished job, one that failed and an alarm."""
    lease = state.to_send("9.1.77", series="1.2.840.99")
    folder = state.root / state.spool.result(lease.job, lease.run)
    (folder / "01" / "preview.png").write_bytes(PICTURE)
    (folder / "secret.png").write_bytes(b"secret")
    error = AnomapError("E606", "<script>alert(1)</script> & died")
    state.jobs.close(state.running("1.2"), 101.0, JobState.FAILED, error)
    state.jobs.receive(image("1.2.1", "1.2", content="other"), 102.0)
    return create_app(state.spool, state.database, lambda: True).test_client()


def test_the_page_shows_queue_archives_series_and_alarms(page):
    text = page.get("/").get_data(as_text=True)
    for shown in ("REVIEW", "p = 0.01", key_of("1.2.840.99"), "E606", "/jobs/1/preview/0.png", "archive", "alarm"):
        assert shown in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert '<span class="pill good">running</span>' in text


def test_no_uid_and_nothing_of_a_patient_is_on_any_page(page):
    for path in ("/", "/status.json", "/metrics", "/health"):
        text = page.get(path).get_data(as_text=True)
        for forbidden in ("1.2.840.99", "9.1.77", "ZZPHI"):
            assert forbidden not in text


def test_an_empty_node_says_so_and_one_in_trouble_too(state):
    client = create_app(state.spool, state.database, lambda: False).test_client()
    text = client.get("/").get_data(as_text=True)
    assert "Nothing has been received yet." in text
    assert '<span class="pill bad">in trouble</span>' in text
    assert (client.get("/health").status_code, client.get("/health").text) == (503, "a part of the node has stopped\n")


def test_every_route_answers_with_its_kind(page):
    kinds = {path: page.get(path).headers["Content-Type"] for path in ("/", "/status.json", "/metrics", "/health")}
    assert kinds["/"].startswith("text/html")
    assert kinds["/status.json"] == "application/json"
    assert kinds["/metrics"].startswith("text/plain; version=0.0.4")
    assert (page.get("/health").status_code, page.get("/health").text) == (200, "ok\n")
    assert page.get("/favicon.ico").status_code == 204
    assert page.get("/status.json").json["queue"]["failed"] == 1
    assert "anomap_jobs{" in page.get("/metrics").text


def test_previews_are_pictures_of_results_and_nothing_else(page):
    got = page.get("/jobs/1/preview/0.png")
    assert (got.data, got.headers["Content-Type"]) == (PICTURE, "image/png")


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/1/preview/1.png", "/jobs/1/preview/-1.png", "/jobs/2/preview/0.png", "/jobs/99/preview/0.png",
        "/jobs/99999999999999999999/preview/0.png", "/jobs/1/preview/99999999999999999999.png",
        "/jobs/1/preview/../secret.png", "/jobs/1/preview/..%2f..%2fsecret.png", "/jobs/%2e%2e/preview/0.png",
        "/static/../status.html", "/static/status.html", "/../../etc/passwd", "//etc/passwd", "/jobs/1/preview/0.png/",
        "/jobs/1;drop/preview/0.png", "/nothing",
    ],
)  # fmt: skip
def test_no_other_path_gives_anything(path, page):
    got = page.get(path)
    assert got.status_code == 404
    assert b"secret" not in got.data
    assert got.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
@pytest.mark.parametrize("path", ["/", "/status.json", "/jobs/1/preview/0.png"])
def test_nothing_can_be_changed(method, path, page, state):
    before = state.states()
    assert getattr(page, method)(path).status_code == 405
    assert state.states() == before


@pytest.mark.parametrize("path", ["/", "/jobs/1/preview/0.png", "/status.json", "/nothing"])
def test_every_answer_forbids_what_it_does_not_need(path, page):
    headers = page.get(path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; img-src 'self'; ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_server_names_no_software_and_ends_when_told(state):
    web = Web(port=free_port())
    served = Page(web, state.spool, state.database, lambda: True)
    served.start()
    with urlopen(f"http://127.0.0.1:{web.port}/health", timeout=10) as answer:
        assert answer.read() == b"ok\n"
        assert "Server" not in answer.headers
    with pytest.raises(AnomapError, match=f"E200 port {web.port} can't be listened on"):
        Page(web, state.spool, state.database, lambda: True)
    served.stop()

    def gone():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", web.port)) != 0

    eventually(gone, "nobody listens", 10)
    eventually(lambda: "web" not in [thread.name for thread in threading.enumerate()], "its thread ends", 10)


# --- in a browser ---


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A running node with a finished radiograph, a refused CT and an alarm.

    With UPDATE_DOCS=1 it has the shipped models and takes the picture of docs/images.
    """
    for_docs, folder = bool(os.environ.get("UPDATE_DOCS")), tmp_path_factory.mktemp("node")
    archive = Archive(tuple(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("66.4", "30", "88.34")))
    models = ROOT / "models" if for_docs else _toy_models(folder)
    place = {"name": "archive", "host": "127.0.0.1", "port": archive.port, "ae_title": "PACS", "confirm": "none"}
    made = Node(folder, models, [place], analysis={} if for_docs else {"steps": 2})
    size = {} if for_docs else {"rows": 96, "columns": 80}
    names = {"patient_name": "ZZPHI^CANARY", "patient_id": "ZZPHI"}
    sent = write_radiograph_phantom(folder / "dx", needle=True, **size, **names)
    slices = write_ct_phantom(folder / "ct", slices=5, **({} if for_docs else {"rows": 32, "columns": 32}), **names)
    other = dcmread(sent[0])
    other.PatientComments = "ZZPHI"
    with running(made), archive.listening():
        assert send(made.port, *sent, other) == [0, 0]
        made.wait("done", seconds=300)
        assert send(made.port, *(slices if for_docs else [*slices[:1], *slices[2:]])) == [0] * (5 if for_docs else 4)
        made.wait("done", "done" if for_docs else "refused", seconds=300)
        yield made


def _toy_models(folder):
    from anomap.types import PreprocessSpec
    from tests.toy import write_toy_bundle

    spec = PreprocessSpec(kind="radiograph", size=32, fit="squeeze")
    write_toy_bundle(folder / "models" / "toy-radiograph", spec, ("CR", "DX"), "CHEST")
    return folder / "models"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def _visit(browser, node, **view):
    """The loaded page, what its console said, and whom it asked."""
    tab = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **view})
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"http://127.0.0.1:{node.web}/", wait_until="networkidle")
    return tab, said, asked


def test_a_browser_shows_the_queue_and_the_series_with_its_picture(node, browser):
    tab, said, asked = _visit(browser, node)
    assert tab.title() == "anomap node: running"
    cards = dict(reversed(text.split("\n")) for text in tab.locator(".card").all_inner_texts())
    queue = json.loads(node.page("/status.json"))["queue"]
    assert {name: int(number) for name, number in cards.items()} == queue
    row = tab.locator("#jobs tbody tr").last
    assert node.status()["jobs"][-1]["verdict"] in row.inner_text()
    picture = row.locator("img")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert tab.locator("#alarms").inner_text().count("alarm") >= 1
    assert "ZZPHI" not in tab.content()
    assert not re.search(r"\b[0-2]\.\d+\.\d+\.\d+\.\d", tab.content().replace("127.0.0.1", "")), "a UID"
    assert said == []
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{node.web}"}
    if os.environ.get("UPDATE_DOCS"):
        tab.set_viewport_size({"width": 1280, "height": 400})
        tab.screenshot(path=ROOT / "docs" / "images" / "status-page.png", full_page=True)
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_it_is_readable_in_every_width_by_day_and_by_night(scheme, width, node, browser):
    """Nothing is wider than the window, and letters differ from their ground as WCAG 2.2 (1.4.3) wants."""
    tab, said, _ = _visit(browser, node, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (_luminance(background) > 0.5) == (scheme == "light")
    for selector in ("h1", ".card b", ".card", "small", ".pill.good", ".pill.bad", "td code"):
        pair = tab.locator(selector).first.evaluate(_COLOURS)
        light, dark = sorted(map(_luminance, pair), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (selector, pair)
    tab.close()


_COLOURS = """element => {
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
}"""


def _luminance(colour):
    """Relative luminance of an rgb() colour (WCAG 2.2)."""
    parts = [int(word) / 255 for word in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
