"""Rows 1 to 17, 19, 21 and 30: bad and odd files, on the command line and by C-STORE to a running node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from anomap import cli
from anomap.service.spool import key_of
from anomap.service.types import OPEN
from tests.clinic import faults
from tests.clinic.odd import CASES
from tests.clinic.watch import clinic, counter, files, jobs_of, memory_mb, rss_mb
from tests.clinic.wire import CT, Gone, Peer, data_pdus, echo, part10, store_command, store_files
from tests.service.clinic import Node, eventually

MARKED = [
    pytest.param(case, id=f"{case.row}-{case.name}", marks=pytest.mark.fault(case.row, case.name, case.expected))
    for case in CASES
]
SENDABLE = [
    pytest.param(
        case, id=f"{case.row}-{case.name}", marks=pytest.mark.fault(case.row, f"node: {case.name}", case.expected)
    )
    for case in CASES
    if case.node != faults.NOT_SENDABLE
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """All inputs, made once; the command line proves that it leaves them as they are."""
    base = tmp_path_factory.mktemp("faults")
    folders = {}
    for number, case in enumerate(CASES):
        folders[case.name] = base / f"{number:03d}"
        case.make(folders[case.name], number)
    return folders


@dataclass
class Sent:
    """What the node made of a case."""

    answers: list[int | str]
    jobs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def node(toy_models, tmp_path_factory) -> Iterator[Node]:
    quick = {"steps": 0, "outputs": ["sr", "pm"]}
    with clinic(tmp_path_factory.mktemp("node"), toy_models, analysis=quick) as one:
        yield one


@pytest.fixture(scope="module")
def sent(node, inputs) -> dict[str, Sent]:
    """All of it sent at once, and everything analysed that can be."""
    assert node.process is not None
    before = rss_mb(node.process.pid)
    answers, keys = {}, {}
    for case in CASES:
        if case.node != faults.NOT_SENDABLE:
            known = set((node.state / "images").iterdir())
            paths = sorted(path for path in inputs[case.name].rglob("*") if _is_part10(path))
            answers[case.name] = store_files(node.port, paths)
            keys[case.name] = {path.name for path in set((node.state / "images").iterdir()) - known}
    grown = rss_mb(node.process.pid) - before
    assert grown < 80, "the listener kept what it was sent"
    eventually(lambda: not {job["state"] for job in node.status()["jobs"]} & set(OPEN), "all jobs closed", 150)
    jobs = jobs_of(node)
    return {name: Sent(answers[name], [job for key in keys[name] for job in jobs[key]]) for name in answers}


def _is_part10(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _codes(output: Path) -> set[str]:
    content = json.loads((output / "result.json").read_text())
    errors = [content["error"], *(entry["error"] for entry in content["series"]), *content["skipped"]]
    return {error["code"] for error in errors if error}


def _assert_anonymous(*texts: str) -> None:
    assert not [text for text in texts if "ZZPHI" in text]


@pytest.mark.parametrize("case", MARKED)
def test_a_bad_file_is_refused_in_one_line_or_analysed_right(case, inputs, toy_models, tmp_path, capfd, seen):
    before = _contents(inputs[case.name])
    peak = memory_kb()
    words = ["analyze", str(inputs[case.name]), str(tmp_path / "out"), "--models", str(toy_models), "--steps", "0"]
    status = cli.main([*words, "--outputs", "sr", "pm"])
    said = capfd.readouterr()
    codes = _codes(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    seen(f"exit {status}, {' '.join(sorted(codes)) or 'no code'}, {content['status']}")
    assert status == case.status, said.err
    assert codes & case.codes or not case.codes
    assert "Traceback" not in said.err + said.out
    _assert_anonymous(said.out, said.err, *(path.read_text() for path in (tmp_path / "out").rglob("*.json")))
    _assert_anonymous(*map(str, (path.relative_to(tmp_path) for path in (tmp_path / "out").rglob("*"))))
    assert _contents(inputs[case.name]) == before
    if status not in (0, 5):
        assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"result.json"}
        assert content["verdict"] in (None, "NOT_APPLICABLE")
    assert memory_kb() - peak < 200_000, "the peak of memory has risen by 200 MB"
    _assert_no_private(tmp_path / "out")


def memory_kb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _assert_no_private(output: Path) -> None:
    for path in output.rglob("*.dcm"):
        for element in pydicom.dcmread(path).iterall():
            assert not element.tag.is_private or "anomap" in str(element.value).lower() or "ZZPHI" not in repr(element)


@pytest.mark.parametrize("case", SENDABLE)
def test_the_node_takes_a_bad_file_as_it_should(case, sent, node, seen):
    what = sent[case.name]
    states = [(job["state"], job["code"]) for job in what.jobs]
    said = sorted({f"0x{a:04X}" if isinstance(a, int) else str(a) for a in what.answers})
    seen(f"answered {', '.join(said)}; " + (", ".join(f"{s} {c or ''}".strip() for s, c in states) or "no job"))
    if case.node == faults.CONTEXT:
        assert set(what.answers) == {"context refused"}
        assert not states
    elif case.node == faults.UNREADABLE:
        assert set(what.answers) == {0xC000}
        assert not states
    else:
        assert set(what.answers) == {0}
        if case.node == faults.IGNORED:
            assert not states
        elif case.node.startswith("done"):
            assert {state for state, _ in states} == {"done"}
            assert all(code in case.codes for _, code in states) or {code for _, code in states} == {None}
        else:
            assert states == [("refused", case.node)]


LIES = {  # said -> is: pydicom tells explicit from implicit VR by looking
    "explicit VR, said to be implicit": (ImplicitVRLittleEndian, ExplicitVRLittleEndian, 0),
    "implicit VR, said to be explicit": (ExplicitVRLittleEndian, ImplicitVRLittleEndian, 0),
    "big endian, said to be little endian": (ExplicitVRLittleEndian, ExplicitVRBigEndian, 0xC000),
}


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(name, marks=pytest.mark.fault(3, f"node: {name}", "read as it is, or refused and nothing kept"))
        for name in LIES
    ],
)
def test_a_data_set_that_lies_about_its_encoding(lie, node, tmp_path, seen):
    said, real, expected = LIES[lie]
    (path,) = faults.ct(tmp_path, 900 + list(LIES).index(lie), 1)
    encoded(path, real)
    file = part10(path)
    before = files(node)
    with Peer(node.port) as peer:
        peer.associate([(CT[0], str(said))])
        status = peer.store(CT[0], file.uid, file.data, (CT[0], str(said)))
    if status == 0:
        key = key_of(str(pydicom.dcmread(path).SeriesInstanceUID))
        job = eventually(lambda: [j for j in jobs_of(node)[key] if j["state"] not in OPEN], "its job", 30)[0]
        assert (job["state"], job["verdict"]) == ("done", "UNCALIBRATED")
    else:
        assert files(node) == before
    seen(f"0x{status:04X}" + ("; read as it is" if status == 0 else "; nothing kept"))
    assert status == expected


def encoded(path: Path, syntax: UID) -> None:
    """Write a file in another uncompressed transfer syntax."""
    dataset = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset._read_implicit = dataset._read_little = None  # else pydicom refuses the change
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset.save_as(path, implicit_vr=implicit, little_endian=little)


@pytest.mark.parametrize(
    "syntax",
    [
        pytest.param(
            s, marks=pytest.mark.fault(9, f"a CT in {s.name}", "the same numbers as in explicit little endian")
        )
        for s in (ImplicitVRLittleEndian, ExplicitVRBigEndian)
    ],
)
def test_the_encoding_changes_no_number(syntax, toy_models, tmp_path, seen):
    outcomes = []
    for name in ("plain", "other"):
        for path in faults.ct(tmp_path / name, 910):
            encoded(path, syntax if name == "other" else ExplicitVRLittleEndian)
        assert cli.main(["analyze", *(str(tmp_path / n) for n in (name, f"{name}-out")), "--models", str(toy_models),
                         "--steps", "2"]) == 0  # fmt: skip
        (path,) = (tmp_path / f"{name}-out").glob("*/result.json")
        content = json.loads(path.read_text())
        del content["run"], content["outputs"]
        outcomes.append(content)
    assert outcomes[0] == outcomes[1]
    seen("result.json equal to the last digit")


@pytest.mark.fault(2, "node: random bytes, nothing and a text as data sets", "refused, 0xC000, nothing kept")
def test_data_sets_that_are_none_are_refused(node, seen):
    before, refused = files(node), counter(node, "anomap_objects_refused").get("unreadable", 0)
    answers = []
    with Peer(node.port) as peer:
        peer.associate([CT])
        for data in (b"", b"Dear ZZPHI^CANARY\n" * 100, bytes(range(256)) * 20):
            peer.send(data_pdus(1, store_command(CT[0], "1.2.3.4"), data))
            try:
                answers.append(f"0x{peer.status():04X}")
            except Gone as error:
                answers.append(str(error))
                peer = Peer(node.port).associate([CT])
    seen(", ".join(answers))
    assert set(answers) == {"0xC000"}
    assert files(node) == before
    assert counter(node, "anomap_objects_refused")["unreadable"] == refused + 3


@pytest.mark.fault(5, "node: all bad files one after the other", "log without names, node works")
def test_the_node_has_come_through_it_all(sent, node, tmp_path, seen):
    assert sent
    _assert_anonymous(node.log(), node.page().decode(), node.page("/metrics").decode(), *files(node))
    assert "Traceback" not in node.log()
    assert echo(node.port)
    seen(f"{len(sent)} inputs sent; node and worker use {memory_mb(node):.0f} MB")
    assert memory_mb(node) < 900
