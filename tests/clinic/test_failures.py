"""Whatever dies, one set of results arrives. Orthanc, the node and its workers are really killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anomap.dicom.phantom import write_ct_phantom
from anomap.output import STAGING_PREFIX
from tests.clinic.results import CT_RESULTS, require_one_set, results_of
from tests.clinic.valve import Valve
from tests.service.clinic import Node, Orthanc, dicom_archive, eventually, free_port, kill, running, storescu

STEPS = 200  # some seconds of analysis


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64)


@pytest.fixture
def orthanc(tmp_path: Path) -> Orthanc:
    return Orthanc(tmp_path / "orthanc", free_port())


@pytest.fixture
def node(orthanc: Orthanc, toy_models: Path, tmp_path: Path) -> Node:
    return Node(tmp_path / "node", toy_models, [dicom_archive(orthanc)], analysis={"steps": STEPS})


def send(node: Node, series: list[Path]) -> None:
    assert storescu(node.port, "ANOMAP", *series) == 0


def wait_until_amid_analysis(node: Node) -> None:
    """Until a worker has begun to write, long before it can be done."""
    eventually(lambda: list((node.state / "results").glob(f"*/{STAGING_PREFIX}*")), "an analysis")
    assert node.states() == ["running"]


def leftovers(node: Node) -> list[Path]:
    return list((node.state / "results").iterdir())


def test_a_killed_worker_is_replaced(orthanc: Orthanc, node: Node, series: list[Path]):
    with running(orthanc, node):
        send(node, series)
        wait_until_amid_analysis(node)
        (worker,) = node.workers()
        kill(worker)
        node.wait("done")
        assert [line["code"] for line in node.events("job_failed")] == ["E606"]
        assert node.status()["jobs"][0]["attempts"] == 2
        require_one_set(orthanc, series[0], CT_RESULTS)
        assert len(leftovers(node)) == 1


def test_a_node_killed_amid_an_analysis_starts_it_anew(orthanc: Orthanc, node: Node, series: list[Path]):
    with running(orthanc, node):
        send(node, series)
        wait_until_amid_analysis(node)
        node.kill()
        assert results_of(orthanc, series[0]) == []
        node.start()
        node.wait("done")
        assert [line["recovered"] for line in node.events("started")] == [0, 1]
        require_one_set(orthanc, series[0], CT_RESULTS)
        assert len(leftovers(node)) == 1


def test_a_worker_ends_with_its_node(orthanc: Orthanc, node: Node, series: list[Path]):
    with running(orthanc, node):
        send(node, series)
        wait_until_amid_analysis(node)
        (worker,) = node.workers()
        node.stop(signal.SIGKILL)  # the node alone
        eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker notices", 20)
        assert not list((node.state / "results").glob("*/result.json"))
        node.start()
        node.wait("done")
        require_one_set(orthanc, series[0], CT_RESULTS)


def test_a_node_killed_amid_a_transfer_sends_it_again(
    orthanc: Orthanc, toy_models: Path, series: list[Path], tmp_path: Path
):
    with Valve(orthanc.dicom, hold_after=30_000) as valve:
        archive = {**dicom_archive(orthanc), "port": valve.port}
        node = Node(tmp_path / "node", toy_models, [archive])
        with running(orthanc, node):
            send(node, series)
            assert valve.held.wait(60), node.log()[-1500:]
            assert node.states() == ["outbox"]
            before = {str(dataset.SOPInstanceUID) for dataset in results_of(orthanc, series[0])}
            assert len(before) < len(CT_RESULTS)  # the rest is on its way
            node.kill()
            valve.cut()
            node.start()
            node.wait("done")
            after = require_one_set(orthanc, series[0], CT_RESULTS)
            assert before <= {str(dataset.SOPInstanceUID) for dataset in after}
            assert len(node.events("job_analysed")) == 1  # what was made is sent, not made again


def test_sigterm_gives_a_running_job_back(orthanc: Orthanc, node: Node, series: list[Path]):
    with running(orthanc, node):
        send(node, series)
        wait_until_amid_analysis(node)
        assert node.stop(signal.SIGTERM) == 0
        assert node.states() == ["ready"]
        assert leftovers(node) == []
        assert results_of(orthanc, series[0]) == []
        assert [line["event"] for line in node.events("stopped")] == ["stopped"]
        node.start()
        job = node.wait("done")["jobs"][0]
        assert job["attempts"] == 1  # the interrupted one doesn't count
        require_one_set(orthanc, series[0], CT_RESULTS)


def stop(orthanc: Orthanc) -> Callable[[], None]:
    """Archive down: connections are refused."""
    orthanc.stop()
    return orthanc.start


def freeze(orthanc: Orthanc) -> Callable[[], None]:
    """Archive hung: it takes connections and says nothing."""
    assert orthanc.process is not None
    process = orthanc.process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("fail", [stop, freeze])
def test_results_wait_for_an_archive_that_is_away(
    orthanc: Orthanc,
    toy_models: Path,
    series: list[Path],
    tmp_path: Path,
    fail: Callable[[Orthanc], Callable[[], None]],
):
    node = Node(tmp_path / "node", toy_models, [dicom_archive(orthanc, timeout_s=1.0)])
    with running(orthanc, node):
        heal = fail(orthanc)
        try:
            send(node, series)
            node.wait("outbox")
            eventually(lambda: len(node.events("object_not_sent")) >= 4, "more than one attempt")
            assert {line["code"] for line in node.events("object_not_sent")} == {"E600"}
            assert node.status()["outbox"][0]["state"] == "queued"
        finally:
            heal()
        node.wait("done")
        require_one_set(orthanc, series[0], CT_RESULTS)
