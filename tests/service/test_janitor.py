"""The janitor: closes quiet periods, takes back lost leases, removes what is old and nobody needs."""

from __future__ import annotations

import threading
import time

import pytest

from anomap.service.janitor import Janitor
from anomap.service.settings import Disk
from anomap.service.types import JobState
from tests.service.clinic import eventually
from tests.service.parts import image

DAY = 86400.0


@pytest.fixture
def janitor(state):
    return Janitor(state.spool, state.database, state.jobs, Disk(), threading.Event())


def _with_file(state, uid, series, now):
    came = image(uid, series)
    (state.root / came.path).parent.mkdir(exist_ok=True)
    (state.root / came.path).write_bytes(b"x")
    state.jobs.receive(came, now)
    return state.root / came.path


def _job(state, series, end, now=100.0):
    """A job of a series with one image and a result, in some state."""
    path = _with_file(state, f"{series}.1", series, now)
    state.jobs.promote(now + 20)
    if end != JobState.READY:
        lease = state.jobs.lease(now + 20, 60)
        folder = state.spool.result(lease.job, lease.run)
        (state.root / folder).mkdir()
        state.database.connection.execute(
            "UPDATE jobs SET state = ?, folder = ?, updated_at = ? WHERE id = ?", (end, folder, now, lease.job)
        )
    return path


def test_images_and_results_of_finished_jobs_go_when_they_are_old(state, janitor):
    path = _job(state, "1.1", JobState.DONE)
    janitor.clean(100.0 + 7 * DAY - 1)
    assert path.exists()
    janitor.clean(100.0 + 7 * DAY + 1)
    assert not path.exists()
    assert state.rows("SELECT present FROM images") == [{"present": 0}]
    assert (state.root / "results" / "000001-1").exists()
    janitor.clean(100.0 + 30 * DAY + 1)
    assert not (state.root / "results" / "000001-1").exists()
    assert state.rows("SELECT state, folder FROM jobs") == [{"state": "done", "folder": None}]


@pytest.mark.parametrize("end", ["ready", "running", "outbox"])
def test_what_is_still_needed_stays_however_old(end, state, janitor):
    path = _job(state, "1.1", JobState(end))
    janitor.clean(100.0 + 1000 * DAY)
    assert path.exists()
    assert end == "ready" or (state.root / "results" / "000001-1").exists()


@pytest.mark.parametrize("end", ["failed", "refused", "superseded", "discarded"])
def test_what_went_wrong_is_kept_no_longer(end, state, janitor):
    path = _job(state, "1.1", JobState(end))
    janitor.clean(100.0 + 31 * DAY)
    assert not path.exists()
    assert not (state.root / "results" / "000001-1").exists()


def test_a_newer_job_keeps_the_images_of_its_series_and_of_no_other(state, janitor):
    old = _job(state, "1.1", JobState.DONE)
    other = _job(state, "1.2", JobState.DONE)
    late = _with_file(state, "1.1.2", "1.1", 100.0 + 6 * DAY)
    janitor.clean(100.0 + 8 * DAY)
    assert (old.exists(), late.exists(), other.exists()) == (True, True, False)


def test_an_image_that_has_come_again_meanwhile_is_not_removed(state, janitor, monkeypatch):
    """It comes after the rows were marked and before the files are removed: the worst moment."""
    path, transaction = _job(state, "1.1", JobState.DONE), state.database.transaction

    def and_then_a_resend():
        if state.rows("SELECT present FROM images") == [{"present": 0}]:
            monkeypatch.undo()
            _with_file(state, "1.1.1", "1.1", 100.0 + 31 * DAY)
        return transaction()

    monkeypatch.setattr(state.database, "transaction", and_then_a_resend)
    janitor.clean(100.0 + 31 * DAY)
    assert state.rows("SELECT present FROM images") == [{"present": 1}]
    assert path.exists()


def test_its_clock_promotes_and_takes_back_lost_leases(state, janitor):
    state.jobs.receive(image("1.1.1", "1.1"), time.time() - 60)
    state.running("1.2", time.time() - 100)
    janitor.start()
    try:
        eventually(lambda: state.states() == ["ready", "ready"], "both wait for a worker", 10)
        seen = janitor.seen
        eventually(lambda: janitor.seen > seen, "the clock goes on", 10)
    finally:
        janitor.stop.set()
        janitor.join(10)
    assert not janitor.is_alive()


def test_a_failure_does_not_stop_the_clock(state, janitor, capsys):
    state.database.connection.execute("ALTER TABLE jobs RENAME TO elsewhere")
    janitor.start()
    try:
        eventually(lambda: "janitor_failed" in capsys.readouterr().err, "the failure is told", 10)
        state.database.connection.execute("ALTER TABLE elsewhere RENAME TO jobs")
        state.jobs.receive(image("1.1.1", "1.1"), time.time() - 60)
        eventually(lambda: state.states() == ["ready"], "the clock goes on", 10)
    finally:
        janitor.stop.set()
        janitor.join(10)
