"""Rows 26 and 27: archives that fail in every way, and a node that is killed. In the end, one result set is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anomap.dicom.phantom import write_ct_phantom
from tests.clinic.moody import CLASSES, FULL, Moody, ParametricMapStorage
from tests.clinic.watch import clinic, counter
from tests.clinic.wire import store_files
from tests.service.clinic import Node, eventually, kill, running

OBJECTS = 3  # SEG, parametric map, SR
Parts = tuple[Node, Moody, Moody]


@pytest.fixture(scope="module")
def parts(toy_models, tmp_path_factory) -> Iterator[Parts]:
    """A node with two archives."""
    good, moody = Moody("good").start(), Moody().start()
    settings = {"analysis": {"steps": 0}, "work": {"quiet_s": 0.5}}
    places = [good.destination(), moody.destination()]
    with clinic(tmp_path_factory.mktemp("node"), toy_models, archives=places, **settings) as node:
        yield node, good, moody
    good.stop()
    moody.stop()


def send(node: Node, folder: Path, seed: int) -> None:
    paths = write_ct_phantom(folder / "ct", slices=3, rows=64, columns=64, seed=seed)
    assert store_files(node.port, paths) == [0] * 3


def waiting(node: Node, archive: str) -> list[dict[str, Any]]:
    """Objects of an archive that are queued, as the database holds them."""
    from tests.service.clinic import open_state

    _, database = open_state(node.state)
    try:
        rows = database.connection.execute(
            "SELECT uid, attempts, code FROM objects WHERE destination = ? AND state = 'queued'", (archive,)
        )
        return [dict(row) for row in rows]
    finally:
        database.close()


def _down(moody: Moody) -> None:
    moody.stop()


def _slow(moody: Moody) -> None:
    moody.pause_s = 4.0


def _full(moody: Moody) -> None:
    moody.status = FULL


def _picky(moody: Moody) -> None:
    moody.stop()
    moody.start([c for c in CLASSES if c != ParametricMapStorage])


MOODS = {
    "down": (_down, "E600", OBJECTS),
    "slow: answers after the time limit": (_slow, "E600", OBJECTS),
    "full (0xA700)": (_full, "E601", OBJECTS),
    "refuses a SOP class": (_picky, "E601", 1),
}


@pytest.mark.parametrize(
    "mood",
    [
        pytest.param(m, marks=pytest.mark.fault(26, f"archive {m}", "kept and retried; the other archive gets its own"))
        for m in MOODS
    ],
)
def test_a_result_waits_until_the_archive_takes_it(mood, parts, tmp_path, seen):
    node, good, moody = parts
    change, code, left = MOODS[mood]
    before, had = len(good.got), set(moody.got)
    change(moody)
    try:
        send(node, tmp_path, list(MOODS).index(mood))
        eventually(lambda: len(good.got) == before + OBJECTS, "the other archive", 60)
        eventually(
            lambda: len(waiting(node, "moody")) == left and all(o["attempts"] >= 2 for o in waiting(node, "moody")),
            "two attempts at each object",
            40,
        )
        assert {item["code"] for item in waiting(node, "moody")} == {code}
        assert node.states()[-1] == "outbox"
        attempts = max(item["attempts"] for item in waiting(node, "moody"))
    finally:
        moody.stop()
        moody.status, moody.pause_s = 0, 0.0
        moody.start()
    eventually(lambda: node.states()[-1] == "done", "all sent", 60)
    assert set(moody.got) - had == set(good.got) - had
    assert len(set(moody.got) - had) == OBJECTS
    assert all(len(set(copies)) == 1 for copies in moody.got.values())
    assert counter(node, "anomap_send_errors")[code] >= 2
    seen(f"{left} objects kept with {code}, {attempts} attempts; all {OBJECTS} there afterwards, the other not held up")


@pytest.fixture
def crash(toy_models, tmp_path) -> Iterator[tuple[Node, Moody]]:
    moody = Moody().start()
    settings = {"analysis": {"steps": 0}, "work": {"quiet_s": 0.5}}
    node = Node(tmp_path / "node", toy_models, [moody.destination(timeout_s=10.0)], **settings)
    with running(node):
        yield node, moody
    moody.stop()


def assert_one_set(node: Node, moody: Moody) -> None:
    """One job, one report, one object of each kind, all copies of an object equal."""
    assert node.states() == ["done"]
    assert len(moody.got) == OBJECTS
    assert all(len(set(copies)) == 1 for copies in moody.got.values())
    assert len(list((node.state / "results").iterdir())) == 1


@pytest.mark.fault(27, "kill -9 of node and worker during analysis", "exactly one result set after the restart")
def test_a_node_killed_in_analysis_goes_on(crash, tmp_path, seen):
    node, moody = crash
    send(node, tmp_path, 50)
    eventually(lambda: node.events("job_started"), "the analysis")
    node.kill()
    assert not moody.got
    node.start()
    assert node.events("started")[-1]["recovered"] == 1
    node.wait("done")
    assert_one_set(node, moody)
    seen(f"recovered 1 job, {OBJECTS} objects, each once")


@pytest.mark.fault(27, "kill -9 of the node alone, its worker goes on", "the worker ends, exactly one result set")
def test_a_node_killed_without_its_worker_goes_on(crash, tmp_path, seen):
    node, moody = crash
    send(node, tmp_path, 51)
    (worker,) = eventually(node.workers, "a worker")
    node.stop(9)
    node.start()
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the orphan has ended", 20)
    node.wait("done")
    assert_one_set(node, moody)
    seen(f"worker ended by itself; {OBJECTS} objects, each once")


@pytest.mark.fault(27, "kill -9 while sending", "exactly one result set after the restart")
def test_a_node_killed_in_sending_goes_on(crash, tmp_path, seen):
    node, moody = crash
    moody.pause_s = 1.0
    send(node, tmp_path, 52)
    eventually(lambda: moody.asked == 2, "the second object is under way", 60)
    node.kill()
    moody.pause_s = 0.0
    node.start()
    node.wait("done")
    eventually(lambda: len(moody.got) == OBJECTS, "all objects")
    assert_one_set(node, moody)
    copies = sum(len(c) for c in moody.got.values())
    seen(f"{copies} transfers of {OBJECTS} objects, copies equal, UIDs the same")


@pytest.mark.fault(27, "kill -9 of the worker alone", "E606, tried again, one result set")
def test_a_killed_worker_costs_one_attempt(crash, tmp_path, seen):
    node, moody = crash
    send(node, tmp_path, 53)
    (worker,) = eventually(node.workers, "a worker")
    kill(worker)
    node.wait("done")
    assert_one_set(node, moody)
    assert [line["code"] for line in node.events("job_failed")] == ["E606"]
    assert node.status()["jobs"][0]["attempts"] == 2
    seen("E606, done at the second attempt")
