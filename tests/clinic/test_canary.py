"""A patient called ZZPHI^CANARY goes through everything that can go wrong. Only images and results may know of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.clinic.faults import edit, raw
from tests.clinic.moody import FULL, Moody
from tests.clinic.wire import CT, Gone, Peer, part10, store_files
from tests.service.clinic import ROOT, Node, eventually, kill

NAME, IDENTIFIER = "ZZPHI^CANARY", "ZZPHI-ID"
# The name in clear, in UTF-16 and ISO 2022 (as Ｚ in JIS X 0208), and percent-encoded as in URLs.
SIGNS = [b"ZZPHI", b"CANARY", "ZZPHI".encode("utf-16-le"), "Ｚ".encode("iso2022_jp"), "Ｚ".encode(), b"%5EC"]
SIGNS += [rb"\uff3a", rb"\xef\xbc\xba"]


def mark(dataset: Dataset) -> None:
    """The patient in every corner of a header, in UTF-8."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"{NAME}=ＺＺＰＨＩ^鳥"
    dataset.PatientID = IDENTIFIER
    dataset.StudyDescription = dataset.SeriesDescription = dataset.ProtocolName = f"{NAME} study"
    dataset.PatientComments = dataset.AccessionNumber = "ZZPHI-ACC"
    dataset.InstitutionName = dataset.ReferringPhysicianName = dataset.StationName = "ZZPHI CLINIC"
    dataset.StudyID = "ZZPHI-STUDY"
    block = dataset.private_block(0x0099, "ZZPHI MAKER", create=True)
    block.add_new(1, "LO", NAME)


def marked_ct(folder: Path, seed: int, slices: int = 3) -> list[Path]:
    paths = write_ct_phantom(folder, slices=slices, rows=64, columns=64, seed=seed)
    edit(paths, mark)
    return [path.rename(path.with_name(f"{NAME}-{path.name}")) for path in paths]


def japanese(dataset: Dataset) -> None:
    raw(0x00080005, "CS", b"\\ISO 2022 IR 87")(dataset)
    raw(0x00100010, "PN", b"ZZPHI^CANARY=" + "ＺＺ".encode("iso2022_jp"))(dataset)


def broken(dataset: Dataset) -> None:
    """Values that don't fit their kind; pydicom quotes such in warnings and exceptions."""
    raw(0x00201002, "IS", NAME)(dataset)
    raw(0x00280030, "DS", NAME)(dataset)
    raw(0x00080020, "DA", NAME)(dataset)
    raw(0x00400275, "UN", NAME.encode())(dataset)


@dataclass
class Scene:
    """The node after everything, and the folder for temporary files of all processes."""

    node: Node
    temporary: Path
    spoken: list[str]


def others(folder: Path) -> list[Path]:
    """Inputs that fail, one series each."""
    made = []
    for number, change in enumerate((japanese, broken, _two_patients, _constant, _modality)):
        paths = marked_ct(folder / f"bad-{number}", 10 + number)
        edit(paths, change)
        made += paths
    cut = marked_ct(folder / "cut", 20)
    for path in cut:
        path.write_bytes(path.read_bytes()[:-3000])
    dx = write_radiograph_phantom(folder / "dx", rows=96, columns=80)
    edit(dx, mark)
    return [*made, *cut, *dx]


def _two_patients(dataset: Dataset) -> None:
    dataset.PatientID = f"ZZPHI-{dataset.InstanceNumber}"


def _constant(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def _modality(dataset: Dataset) -> None:
    dataset.Modality = "ZZPHI"


def run(*words: object, **environment: str) -> str:
    """A command; all that it says."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scene(toy_models, tmp_path_factory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("canary")
    temporary = base / "tmp"
    temporary.mkdir()
    moody = Moody().start()
    settings = {"analysis": {"steps": 0}, "work": {"quiet_s": 0.5, "attempts": 2}}
    node = Node(base / "node", toy_models, [moody.destination(attempts=2), _closed()], **settings)
    node.start(TMPDIR=str(temporary))
    try:
        moody.status = FULL
        assert store_files(node.port, marked_ct(base / "ct", 1)) == [0] * 3
        (worker,) = eventually(node.workers, "a worker", 20)
        kill(worker)
        eventually(lambda: node.states() == ["failed"], "given up by both archives", 90)
        store_files(node.port, others(base / "others"))
        _rude(node, base)
        eventually(lambda: not set(node.states()) & {"receiving", "ready", "running", "outbox"}, "the rest", 120)
        spoken = [node.page(path).decode() for path in ("/", "/status.json", "/metrics", "/health")]
        spoken += [_not_found(node, f"/{NAME}"), _not_found(node, f"/jobs/{NAME}/preview/1.png")]
        for words in ([], ["--json"], ["--check"], ["--retry", "1"], ["--retry", "999"], ["--discard", "1"]):
            spoken.append(run("-m", "anomap.cli", "status", node.settings, *words))
        yield Scene(node, temporary, spoken)
    finally:
        node.stop()
        moody.stop()


def _closed() -> dict[str, object]:
    """A DICOMweb archive where nobody listens."""
    url = "http://127.0.0.1:9/dicom-web"
    return {"name": "web", "kind": "dicomweb", "url": url, "confirm": "qido", "attempts": 2, "backoff_s": 0.2}


def _not_found(node: Node, path: str) -> str:
    import urllib.error
    import urllib.parse

    try:
        return node.page(urllib.parse.quote(path)).decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _rude(node: Node, base: Path) -> None:
    """The name where UIDs, titles and data sets should be; the same UID with other content; a broken association."""
    (path,) = write_ct_phantom(base / "rude", slices=1, rows=64, columns=64, seed=90)
    good = part10(path)
    for uid, data in ((f"1.2.{NAME}", good.data), (good.uid, NAME.encode() * 500), (good.uid, b"")):
        try:
            with Peer(node.port) as peer:
                peer.associate([CT]).store(CT[0], uid, data)
        except Gone:
            continue
    for titles in ({"calling": "ZZPHI CANARY"}, {"called": "ZZPHI"}):
        with Peer(node.port) as peer, pytest.raises(Gone):
            peer.associate([CT], **titles)
    with Peer(node.port) as peer:
        peer.send(b"\x01\x00\x00\x00\x02\x00" + NAME.encode() * 40)
    paths = marked_ct(base / "again", 1)
    edit(paths, _constant)
    store_files(node.port, paths)


def found_in(folder: Path, *, allowed: str = r"$^") -> list[str]:
    """Files and names below a folder that hold a sign of the patient."""
    bad = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(sign in os.fsencode(name) for sign in SIGNS):
            bad.append(name)
        if path.is_file() and not re.fullmatch(allowed, name) and any(sign in path.read_bytes() for sign in SIGNS):
            bad.append(name)
    return bad


def test_only_images_and_results_know_the_patient(scene):
    """Log, job table with its journal, JSON, previews and file names; nothing in the temporary folder at all."""
    allowed = r"state/(images|results/.*)/[0-9a-z-]+/?[0-9a-z]*\.dcm"
    assert found_in(scene.node.folder, allowed=allowed) == []
    assert found_in(scene.temporary) == []
    assert len([p for p in scene.node.state.rglob("*.dcm") if b"ZZPHI" in p.read_bytes()]) > 10, "nothing was tried"


def test_nothing_that_the_node_says_names_the_patient(scene):
    for text in (*scene.spoken, scene.node.log()):
        assert not [sign for sign in SIGNS if sign in text.encode()]
        assert "Traceback" not in text
    assert len(scene.node.log()) > 5000
    assert set(scene.node.states()) >= {"refused", "failed"}
    assert all(line.startswith("{") for line in scene.node.log().splitlines()), "somebody else writes to the log"


def test_results_carry_the_patient(scene):
    """They must: an archive files them by it."""
    reports = [pydicom.dcmread(path) for path in scene.node.state.rglob("sr.dcm")]
    assert reports
    assert {report.PatientID[:5] for report in reports} == {"ZZPHI"}


@pytest.mark.parametrize("command", ["cli", "json", "app"])
def test_a_command_with_failures_names_no_patient(command, toy_models, tmp_path):
    """`anomap analyze` and the MONAI Deploy application, over good, bad and foreign files."""
    temporary, source, output = tmp_path / "tmp", tmp_path / "in", tmp_path / "out"
    temporary.mkdir()
    marked_ct(source / "good", 1)
    paths = marked_ct(source / "cut", 2)
    paths[0].write_bytes(paths[0].read_bytes()[:-3000])
    edit(marked_ct(source / "broken", 3), broken)
    edit(marked_ct(source / "constant", 4), _constant)
    (source / f"{NAME}.txt").write_text(f"Dear {NAME}, {IDENTIFIER}")
    words = ["-m", "anomap", "analyze", source, output, "--models", toy_models, "--steps", "0"]
    if command == "app":
        settings = tmp_path / "settings.yaml"
        settings.write_text("analyze: {steps: 0}\n")
        words = ["-m", "deploy_app", "-i", source, "-o", output, "-m", toy_models, "-c", settings]
    said = run(*words, *["--json"] * (command == "json"), TMPDIR=str(temporary))
    assert said
    assert not [sign for sign in SIGNS if sign in said.encode()], said[:2000]
    assert (output / "result.json").exists()
    assert found_in(output, allowed=r"[^/]+/[a-z]+\.dcm") == []
    assert found_in(temporary) == []
