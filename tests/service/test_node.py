"""The node as a whole: it starts with what is sound, takes up what was left, and stops in good order."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading

import pytest

from anomap.bundle import WEIGHTS
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.service.node import Node, _digest, serve
from anomap.service.spool import Spool
from tests.service import clinic
from tests.service.clinic import eventually, free_port, running
from tests.service.listening import send
from tests.service.parts import State, destination, settings


@pytest.fixture(autouse=True)
def quiet_libraries(monkeypatch):
    """A node silences loggers of the whole process; a test's own are left alone."""
    monkeypatch.setattr("anomap.service.node.silence_libraries", lambda: None)


def _config(folder, text=""):
    return settings(folder, f"port = {free_port()}\n[web]\nport = {free_port()}\n[disk]\nmin_free_gb = 0.0\n{text}")


def _open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_everything_runs_until_it_is_told_to_stop_and_then_nothing_does(tmp_path, toy_models):
    config, seen = _config(tmp_path), {}
    before = set(threading.enumerate())

    def look(node):
        seen.update(alive=node.alive, listens=_open(config.listen.port), page=_open(config.web.port))
        seen["locked"] = node.spool.is_locked()

    serve(config, toy_models, look)
    assert seen == {"alive": True, "listens": True, "page": True, "locked": True}
    assert not _open(config.listen.port)
    assert not _open(config.web.port)
    assert not Spool(config.state).is_locked()
    ours = ("janitor", "worker-", "sender-", "web")
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith(ours)], "no thread", 10)


def test_it_stops_too_when_waiting_ends_with_an_error(tmp_path, toy_models):
    config = _config(tmp_path)

    def broken(node):
        raise AnomapError("E500", "a part has stopped")

    with pytest.raises(AnomapError, match="E500"):
        serve(config, toy_models, broken)
    assert not Spool(config.state).is_locked()


def test_without_a_port_there_is_no_page(tmp_path, toy_models):
    config = settings(tmp_path, f"port = {free_port()}\n[web]\nport = 0\n")
    serve(config, toy_models, lambda node: _require(node.page is None and node.alive))


def _require(fits):
    assert fits


def test_a_part_that_has_died_is_noticed(tmp_path, toy_models):
    def look(node):
        assert node.alive
        node.workers[0].stop = threading.Event()
        node.workers[0].stop.set()  # as if its thread had ended for a reason nobody foresaw
        eventually(lambda: not node.alive, "it is noticed", 10)

    serve(_config(tmp_path), toy_models, look)


def test_a_second_node_on_the_same_folder_is_refused(tmp_path, toy_models):
    config = _config(tmp_path)

    def look(_):
        with pytest.raises(AnomapError, match="E603"):
            Node(config, toy_models)

    serve(config, toy_models, look)


def test_a_model_that_was_changed_or_is_missing_starts_nothing(tmp_path, toy_models):
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    path = models / "toy-ct" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(AnomapError, match="E301"):
        Node(_config(tmp_path), models)
    (tmp_path / "none").mkdir()
    with pytest.raises(AnomapError, match="E300"):
        Node(_config(tmp_path), tmp_path / "none")
    assert not (tmp_path / "state").exists()


def test_keys_or_secrets_that_cannot_be_read_start_nothing(tmp_path, toy_models):
    words = destination(kind="dicomweb", url="http://127.0.0.1:1", token_file="nowhere")
    with pytest.raises(AnomapError, match="E200 the file nowhere can't be read"):
        Node(_config(tmp_path, words), toy_models)
    assert not Spool(tmp_path / "state").is_locked()


def test_a_port_in_use_ends_the_node_with_its_name(tmp_path, toy_models):
    config = _config(tmp_path)
    named = pytest.raises(AnomapError, match=f"E200 port {config.listen.port}")
    with socket.create_server(("127.0.0.1", config.listen.port)), named:
        serve(config, toy_models, lambda node: None)
    assert not Spool(config.state).is_locked()


def test_what_ran_when_the_last_node_died_is_taken_up(tmp_path, toy_models):
    state = State(tmp_path / "state")
    state.running()  # its images are not there, so that it ends soon
    serve(_config(tmp_path), toy_models, lambda _: eventually(lambda: state.states() == ["refused"], "it ran", 60))
    state.database.close()


def test_an_answer_to_a_commitment_reaches_every_sender(tmp_path, toy_models):
    places = [destination(name=name, host="127.0.0.1", port=free_port(), ae_title="PACS", confirm="commitment")
              for name in ("a", "b")]  # fmt: skip
    state = State(tmp_path / "state")
    state.to_send("9.1", archives=("a", "b"))
    state.database.connection.execute("UPDATE objects SET state = 'sent', due_at = 1e12, transaction_uid = destination")
    node = Node(_config(tmp_path, "".join(places)), toy_models)
    node._committed("b", ["9.1"], [])
    assert [row["state"] for row in state.rows("SELECT state FROM objects ORDER BY id")] == ["sent", "confirmed"]
    node._committed("a", ["9.1"], [])
    assert state.states() == ["done"]
    node.close()
    state.database.close()


def test_the_digest_knows_all_that_changes_a_result_and_nothing_else(tmp_path, toy_models, monkeypatch):
    first = _digest(toy_models, AnalyzeConfig())
    assert _digest(toy_models, AnalyzeConfig(batch_size=3, time_limit_s=5.0)) == first
    assert _digest(toy_models, AnalyzeConfig(steps=3)) != first
    assert _digest(toy_models, AnalyzeConfig(device="cpu")) != first
    shutil.copytree(toy_models / "toy-ct", tmp_path / "toy-ct")
    assert _digest(tmp_path, AnalyzeConfig()) != first
    monkeypatch.setattr("anomap.service.node.__version__", "99")
    assert _digest(toy_models, AnalyzeConfig()) != first


def test_a_signal_ends_it_with_zero_and_every_line_of_its_log_is_json(tmp_path, toy_models):
    """As people start it; in the midst of an analysis, which the next start takes up."""
    node = clinic.Node(tmp_path, toy_models, analysis={"steps": 10**6})
    (path,) = write_radiograph_phantom(tmp_path / "dx", rows=96, columns=80, patient_name="ZZPHI^CANARY")
    with running(node):
        assert send(node.port, path) == [0]
        eventually(lambda: node.states() == ["running"], "the analysis runs", 30)
        assert node.stop(signal.SIGTERM) == 0
    assert node.states() == ["ready"]
    events = [json.loads(line)["event"] for line in node.log().splitlines()]
    assert (events[0], events[-1]) == ("started", "stopped")
    assert "job_released" in events
    assert "ZZPHI" not in node.log()
