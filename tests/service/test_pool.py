"""The workers' threads: every end of a job is booked, and no end of a process loses one."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.output import RESULT
from anomap.service import pool
from anomap.service.pool import Child, Worker, outputs_of
from anomap.service.settings import Work
from anomap.service.spool import key_of
from tests.service.clinic import eventually
from tests.service.parts import image

SERIES = "1.2.3"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """For the children."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _ready(state, folder_of_images=True):
    """A job of a radiograph that waits for a worker."""
    folder = state.spool.images(key_of(SERIES))
    folder.mkdir(parents=True)
    if folder_of_images:
        write_radiograph_phantom(folder, rows=96, columns=80)
    state.jobs.receive(image("1.2.3.1", SERIES), time.time() - 60)
    state.jobs.promote(time.time())


def _worker(state, models, *, steps=2, kind=Worker, **limits):
    work = Work(**{"attempts": 2, "backoff_s": 0.1, **limits})
    config = AnalyzeConfig(steps=steps, device="cpu", overwrite=True, time_limit_s=work.time_limit_s)
    return kind(1, state.spool, state.database, state.jobs, models, config, work, ["archive"], threading.Event())


@contextmanager
def _at_work(worker):
    worker.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        worker.join(40)
        assert not worker.is_alive()


def _job(state):
    return state.rows("SELECT state, attempts, runs, code, verdict FROM jobs")[0]


def _child(worker):
    """Its process, once it is analysing."""
    return eventually(lambda: worker.child if worker.child and worker.child.alive else None, "a process", 30)


def _results(state):
    return sorted(path.name for path in (state.root / "results").iterdir())


def test_a_job_is_analysed_and_its_objects_wait_in_the_outbox(state, toy_models):
    _ready(state)
    with _at_work(_worker(state, toy_models)):
        eventually(lambda: _job(state)["state"] == "outbox", "the result", 60)
    job = state.rows("SELECT * FROM jobs")[0]
    content = json.loads((state.root / job["folder"] / RESULT).read_text())
    assert (job["verdict"], job["p_value"]) == (content["verdict"], content["series"][0]["p_value"])
    assert job["seconds"] > 0
    names = [row["path"].rsplit("/", 1)[1] for row in state.rows("SELECT path FROM objects ORDER BY id")]
    assert names == [name for name in ("seg.dcm", "pm.dcm", "sr.dcm") if name in names]
    assert names[-1] == "sr.dcm"
    assert [item.path for item in outputs_of(state.spool, job["folder"])] == [
        row["path"] for row in state.rows("SELECT path FROM objects ORDER BY id")
    ]
    assert state.rows("SELECT label, value FROM counters WHERE name = 'analysed'") == [
        {"label": content["verdict"], "value": 1}
    ]


def test_a_process_that_is_killed_is_replaced_and_the_job_tried_again(state, toy_models):
    _ready(state)
    with _at_work(_worker(state, toy_models)) as worker:
        first = _child(worker).process.pid
        os.kill(first, signal.SIGKILL)
        eventually(lambda: _job(state)["state"] == "outbox", "the second attempt", 60)
        assert worker.child.process.pid != first
    assert (_job(state)["attempts"], _job(state)["runs"]) == (2, 2)
    assert state.rows("SELECT label, value FROM counters WHERE name = 'job_errors'") == [{"label": "E606", "value": 1}]


def test_the_last_attempt_gives_up_and_says_why(state, toy_models):
    _ready(state)
    with _at_work(_worker(state, toy_models, attempts=1, steps=10**6, time_limit_s=0.3)):
        eventually(lambda: _job(state)["state"] == "failed", "the end", 60)
    assert _job(state) == {"state": "failed", "attempts": 1, "runs": 1, "code": "E402", "verdict": None}
    assert _results(state) == []


def test_a_process_that_hangs_is_ended_by_the_node(state, toy_models, monkeypatch):
    """It is frozen, so that it can't look at the clock itself."""
    monkeypatch.setattr(pool, "_LATE_S", 0.5)
    monkeypatch.setattr(pool, "_STOP_GRACE_S", 0.5)
    _ready(state)
    with _at_work(_worker(state, toy_models, attempts=1, time_limit_s=0.5)) as worker:
        frozen = _child(worker).process
        os.kill(frozen.pid, signal.SIGSTOP)
        eventually(lambda: _job(state)["state"] == "failed", "the end", 30)
        assert frozen.poll() == -signal.SIGKILL
    assert _job(state)["code"] == "E402"


def test_unusable_images_are_refused_at_once_and_the_process_goes_on(state, toy_models):
    _ready(state, folder_of_images=False)
    with _at_work(_worker(state, toy_models)) as worker:
        eventually(lambda: _job(state)["state"] == "refused", "the refusal", 60)
        assert worker.child.alive
    assert (_job(state)["attempts"], _job(state)["code"]) == (1, "E100")
    assert _results(state) == []


def test_a_stop_gives_the_job_back_as_if_it_had_not_been_tried(state, toy_models):
    _ready(state)
    with _at_work(_worker(state, toy_models, steps=10**6)) as worker:
        process = _child(worker).process
        eventually(lambda: _job(state)["state"] == "running", "the job runs", 30)
    assert _job(state) == {"state": "ready", "attempts": 0, "runs": 1, "code": None, "verdict": None}
    assert process.poll() is not None
    assert _results(state) == []


def test_the_result_of_a_job_that_was_discarded_meanwhile_goes_nowhere(state, toy_models):
    _ready(state)
    with _at_work(_worker(state, toy_models)):
        eventually(lambda: _job(state)["state"] == "running", "the job runs", 30)
        state.jobs.discard(1, time.time())
        eventually(lambda: state.rows("SELECT 1 FROM counters WHERE name = 'analysed'"), "the analysis ends", 60)
        eventually(lambda: _results(state) == [], "its folder goes", 5)
    assert _job(state)["state"] == "discarded"
    assert state.rows("SELECT * FROM objects") == []


class Broken(Worker):
    """Its process says that it is done, and what it has left can't be read."""

    def _analyse(self, lease, folder):
        (self.spool.root / folder).mkdir()
        (self.spool.root / folder / RESULT).write_text('{"exit_status": 0, "series": "ZZPHI^CANARY"')


def test_what_nobody_foresaw_uses_up_the_attempts_and_no_more(state, toy_models, capsys):
    _ready(state)
    with _at_work(_worker(state, toy_models, kind=Broken)):
        eventually(lambda: _job(state)["state"] == "failed", "both attempts", 20)
    assert (_job(state)["attempts"], _job(state)["code"]) == (2, "E500")
    assert _results(state) == []
    assert "ZZPHI" not in capsys.readouterr().err


def test_the_first_known_reason_is_given_when_nothing_could_be_analysed():
    series = [{"error": None}, {"error": {"code": "E103", "message": "a gap"}}]
    skipped = [{"code": "E110", "reason": "a localizer"}]
    assert str(pool._why({"series": series, "skipped": skipped})).startswith("E103 a gap")
    assert str(pool._why({"series": [], "skipped": skipped})).startswith("E110 a localizer")
    assert pool._why({"series": [], "skipped": []}).code == "E100"


def test_a_process_that_is_gone_takes_no_order_and_says_how_it_ended(toy_models):
    child = Child(toy_models, AnalyzeConfig(), 0.0)
    try:
        answers = child.answers()
        assert eventually(lambda: next(answers), "ready", 30) == {"event": "ready"}
        os.kill(child.process.pid, signal.SIGKILL)
        with pytest.raises(AnomapError, match="E606 the analysis process was ended by signal 9"):
            eventually(lambda: next(answers), "an answer", 30)
        with pytest.raises(AnomapError, match="E606"):
            child.order({"source": "x" * 10**6})
    finally:
        child.end()
    child.end()


def test_a_process_ends_with_all_that_it_has_started(toy_models):
    """It has a group of its own, which Ctrl-C at the node's terminal doesn't reach."""
    child = Child(toy_models, AnalyzeConfig(), 0.0)
    assert os.getpgid(child.process.pid) == child.process.pid != os.getpgid(0)
    child.end()
    assert not child.alive
    with pytest.raises(ProcessLookupError):
        os.killpg(child.process.pid, 0)
