"""Rows 18, 22, 23, 25 and 29: what peers send, how they name it, and when they stop. A running node with an archive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest

from anomap.dicom.phantom import write_ct_phantom
from anomap.service.spool import key_of
from tests.clinic.watch import clinic, counter, files, jobs_of
from tests.clinic.wire import CT, Gone, Peer, data_pdus, echo, part10, store_command, store_files
from tests.service.clinic import Node, dicom_archive, eventually, storescu
from tests.service.clinic import Orthanc as Archive

SLOTS = 3


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Archive]:
    one = Archive(tmp_path_factory.mktemp("archive"), 1)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def node(toy_models, archive, tmp_path_factory) -> Iterator[Node]:
    settings = {"listen": {"max_associations": SLOTS, "silence_s": 5.0}, "analysis": {"steps": 0}}
    folder = tmp_path_factory.mktemp("node")
    with clinic(folder, toy_models, archives=[dicom_archive(archive)], **settings) as one:
        yield one


def series(folder: Path, seed: int, slices: int = 5) -> tuple[str, list[Path]]:
    """A CT and the key of its series."""
    paths = write_ct_phantom(folder, slices=slices, rows=64, columns=64, seed=seed)
    return key_of(str(pydicom.dcmread(paths[0]).SeriesInstanceUID)), paths


@pytest.mark.fault(18, "the same SOP Instance UID with other content", "the first is kept, an alarm, 0x0000")
def test_of_two_images_with_one_uid_the_first_counts(node, tmp_path, seen):
    key, paths = series(tmp_path / "ct", 100, 2)
    assert storescu(node.port, "ANOMAP", *paths) == 0
    before = {path: path.read_bytes() for path in (node.state / "images" / key).iterdir()}
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(paths[0])
    assert storescu(node.port, "ANOMAP", paths[0]) == 0
    assert {path: path.read_bytes() for path in (node.state / "images" / key).iterdir()} == before
    (alarm,) = [alarm for alarm in node.status()["alarms"] if alarm["series_key"] == key]
    assert counter(node, "anomap_images_received")["conflict"] >= 1
    assert [line["level"] for line in node.events("image_conflict")] == ["error"]
    seen(f"0x0000, the first kept, alarm: {alarm['text']}")


BAD_UIDS = {
    "a path": "../../ZZPHI",
    "an absolute path": "/tmp/ZZPHI",
    "empty": "",
    "66 digits": "1." + "2" * 64,
    "spaces": "1.2 .3",
    "letters": "1.2.ZZPHI",
    "a leading zero": "1.02.3",
    "a null byte": "1.2\0.3",
}
WHERE = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.fault(22, f"UID: {n}", "refused, no file anywhere")) for n in BAD_UIDS]
)
def test_a_bad_uid_names_no_file(name, node, tmp_path, seen):
    (path,) = write_ct_phantom(tmp_path / "ct", slices=1, rows=64, columns=64, seed=200)
    before, answers = files(node), []
    good = part10(path)
    for keyword in (*WHERE, "the message"):
        data = good.data
        if keyword in WHERE:
            old = str(pydicom.dcmread(path)[keyword].value).encode()
            new = BAD_UIDS[name].encode()
            data = data.replace(_uid_element(keyword, old), _uid_element(keyword, new))
            assert data != good.data
        uid = BAD_UIDS[name] if keyword in ("SOPInstanceUID", "the message") else good.uid
        try:
            with Peer(node.port) as peer:
                answers.append(f"0x{peer.associate([CT]).store(good.sop_class, uid, data):04X}")
        except Gone:
            answers.append("aborted")
    seen(f"in {', '.join(WHERE)} and the message: {', '.join(answers)}")
    assert "0x0000" not in answers
    assert files(node) == before
    assert not Path("/tmp/ZZPHI").exists()
    assert "ZZPHI" not in node.log()
    assert echo(node.port)


def _uid_element(keyword: str, value: bytes) -> bytes:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    value += b"\0" * (len(value) % 2)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    return head + b"UI" + len(value).to_bytes(2, "little") + value


@pytest.mark.fault(23, "a foreign calling AE title, and a wrong called one", "A-ASSOCIATE-RJ")
def test_strangers_are_turned_away(node, tmp_path, seen):
    _, paths = series(tmp_path / "ct", 300, 1)
    answers = []
    for titles in ({"calling": "STRANGER"}, {"called": "OTHER"}):
        with Peer(node.port) as peer, pytest.raises(Gone) as gone:
            peer.associate([CT], **titles)
        answers.append(gone.value.args[0])
    assert answers == [(1, 1, 3), (1, 1, 7)]
    assert storescu(node.port, "ANOMAP", *paths, calling="STRANGER") != 0
    eventually(lambda: counter(node, "anomap_associations_lost").get("rejected", 0) >= 3, "all counted")
    seen("rejected permanently: calling AE title not recognised (3), called AE title not recognised (7)")


@pytest.mark.fault(23, "more associations than allowed", "A-ASSOCIATE-RJ, transient; works as soon as one has ended")
def test_associations_over_the_limit_are_rejected_for_now(node, seen):
    peers = [Peer(node.port).associate([CT]) for _ in range(SLOTS)]
    with Peer(node.port) as late, pytest.raises(Gone) as gone:
        late.associate([CT])
    assert gone.value.args[0] == (2, 3, 2)
    peers[0].release()
    eventually(lambda: echo(node.port), "a free place", 3)
    for peer in peers[1:]:
        peer.close()
    seen(f"association {SLOTS + 1} rejected: local limit exceeded, transient")


@pytest.mark.fault(23, "strangers that knock all the time, most places taken", "those who may come in get in")
def test_strangers_take_no_place(node, seen):
    """pynetdicom counts whom it is just rejecting."""
    stop, knocks, waits = threading.Event(), [], []

    def knock() -> None:
        while not stop.is_set():
            with Peer(node.port) as peer, suppress(Gone):
                peer.associate([CT], calling="STRANGER")
            knocks.append(1)

    held = [Peer(node.port).associate([CT]) for _ in range(SLOTS - 1)]
    strangers = [threading.Thread(target=knock) for _ in range(8)]
    for stranger in strangers:
        stranger.start()
    try:
        for _ in range(5):
            began = time.monotonic()
            eventually(lambda: echo(node.port), "a place")
            waits.append(time.monotonic() - began)
    finally:
        stop.set()
        for stranger in strangers:
            stranger.join()
        for peer in held:
            peer.close()
    seen(f"5 C-ECHO answered within {max(waits):.1f} s amid {len(knocks)} strangers")
    assert len(knocks) > 10


@pytest.mark.fault(25, "the peer aborts in the middle of a series, and sends the rest later", "partial, then whole")
def test_a_series_that_comes_in_two_parts_gets_a_report_of_each(node, archive, tmp_path, seen):
    """The second report says that it takes the place of the first."""
    key, paths = series(tmp_path / "ct", 400, 10)
    uids = {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths}
    files_ = [part10(path) for path in paths]
    peer = Peer(node.port).associate([CT])
    for file in files_[:5]:
        assert peer.store(file.sop_class, file.uid, file.data) == 0
    peer.send(data_pdus(1, store_command(files_[5].sop_class, files_[5].uid), files_[5].data)[:-3000])
    peer.abort()
    eventually(lambda: [job["state"] for job in jobs_of(node).get(key, [])] == ["done"], "the first part", 40)
    assert store_files(node.port, paths[5:]) == [0] * 5
    eventually(lambda: [job["state"] for job in jobs_of(node)[key]] == ["done", "done"], "the second part", 40)
    first, second = jobs_of(node)[key]
    assert (first["images"], second["images"]) == (5, 10)
    reports = [r for r in archive.results() if r.Modality == "SR" and str(r.StudyInstanceUID) == _study(paths)]
    assert len(reports) == 2
    late = max(reports, key=lambda report: len(_evidence(report) & uids))
    early = min(reports, key=lambda report: len(_evidence(report) & uids))
    assert _evidence(late) >= uids
    previous = late.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert previous.ReferencedSOPInstanceUID == early.SOPInstanceUID
    seen("reports of 5 and of 10 images; the second names the first as its predecessor")


def _study(paths: list[Path]) -> str:
    return str(pydicom.dcmread(paths[0]).StudyInstanceUID)


def _evidence(report: pydicom.Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }


@pytest.mark.fault(29, "our own results come back from the archive", "taken, counted, not analysed")
def test_our_own_results_set_off_nothing(node, archive, tmp_path, seen):
    key, paths = series(tmp_path / "ct", 500, 2)
    assert store_files(node.port, paths) == [0, 0]
    eventually(lambda: [job["state"] for job in jobs_of(node).get(key, [])] == ["done"], "its job", 40)
    results = [r for r in archive.results() if str(r.StudyInstanceUID) == _study(paths)]
    assert {r.Modality for r in results} >= {"SR"}
    back = tmp_path / "back"
    back.mkdir()
    for number, result in enumerate(results):
        result.save_as(back / f"{number}.dcm")
    jobs, before = len(node.status()["jobs"]), files(node)
    ignored = counter(node, "anomap_objects_ignored").get("E116", 0)
    assert store_files(node.port, sorted(back.iterdir())) == [0] * len(results)
    assert counter(node, "anomap_objects_ignored")["E116"] == ignored + len(results)
    time.sleep(2.0)  # longer than the quiet time: proves that nothing happens
    assert len(node.status()["jobs"]) == jobs
    assert files(node) == before
    seen(f"{len(results)} objects taken with 0x0000, no job, no file")
