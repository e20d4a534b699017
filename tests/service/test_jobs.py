"""The job table: no image is lost, no job runs twice at a time, no old result overtakes a new one."""

from __future__ import annotations

import pytest

from anomap.errors import AnomapError
from anomap.service.jobs import LONGEST_BACKOFF_S, backoff_s
from anomap.service.types import JobState, Output
from tests.service.parts import BASIC_TEXT_SR, image

DEAD = AnomapError("E606", "the analysis process died")
UNUSABLE = AnomapError("E103", "a gap")


def _finish(state, lease, now=101.0, archives=("archive",)):
    folder = state.spool.result(lease.job, lease.run)
    outputs = [Output(uid=f"9.{lease.job}", sop_class=BASIC_TEXT_SR, path=f"{folder}/01/sr.dcm")]
    return state.jobs.finish(lease, now, {"folder": folder, "verdict": "PASS"}, outputs, archives)


def _objects(state):
    return [(row["job_id"], row["state"]) for row in state.rows("SELECT job_id, state FROM objects ORDER BY id")]


def _failed(state):
    lease = state.running()
    state.jobs.close(lease, 101.0, JobState.FAILED, DEAD)
    return lease


def test_a_series_is_analysed_once_it_has_been_quiet(state):
    assert state.jobs.receive(image("1"), 0.0) == "new"
    assert state.jobs.receive(image("2"), 9.0) == "new"
    assert state.jobs.promote(18.9) == 0
    assert state.jobs.lease(18.9, 60) is None
    assert state.jobs.promote(19.0) == 1
    lease = state.jobs.lease(19.0, 60)
    assert (lease.job, lease.run, lease.attempt, lease.previous) == (1, 1, 1, ())
    assert state.rows("SELECT images FROM jobs") == [{"images": 2}]
    assert _finish(state, lease) is JobState.OUTBOX
    assert _objects(state) == [(1, "queued")]


def test_jobs_start_in_the_order_of_their_series(state):
    for series in ("1.1", "1.2", "1.3"):
        state.jobs.receive(image(f"{series}.1", series), 0.0)
    state.jobs.promote(20.0)
    assert [state.jobs.lease(20.0, 60).job for _ in range(3)] == [1, 2, 3]
    assert state.jobs.lease(20.0, 60) is None


def test_the_same_image_again_starts_nothing(state):
    lease = state.running()
    for _ in range(2):
        assert state.jobs.receive(image("1.2.3.1"), 101.0) == "known"
    _finish(state, lease)
    assert state.jobs.receive(image("1.2.3.1"), 102.0) == "known"
    assert state.states() == ["outbox"]


def test_another_digest_analyses_a_resend_anew(state):
    _finish(state, state.running())
    state.reopen(digest="newer software")
    assert state.states() == ["outbox"]
    assert state.jobs.receive(image("1.2.3.1"), 200.0) == "known"
    assert state.states() == ["outbox", "receiving"]


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.REFUSED])
def test_a_resend_tries_again_what_went_wrong(state, end):
    state.jobs.close(state.running(), 101.0, end, UNUSABLE)
    assert state.rows("SELECT code, message, lease_until FROM jobs") == [
        {"code": "E103", "message": "a gap", "lease_until": None}
    ]
    state.jobs.receive(image("1.2.3.1"), 102.0)
    assert state.states() == [end, "receiving"]


def test_what_a_person_discarded_stays_so_until_more_comes(state):
    lease = state.running()
    state.jobs.discard(lease.job, 101.0)
    assert _finish(state, lease) is None
    state.jobs.receive(image("1.2.3.1"), 102.0)
    assert state.states() == ["discarded"]
    state.jobs.receive(image("1.2.3.2"), 103.0)
    assert state.states() == ["discarded", "receiving"]


def test_late_images_get_a_job_of_their_own_and_the_older_result_is_not_sent(state):
    lease = state.running()
    state.jobs.receive(image("1.2.3.2"), 100.0)
    state.jobs.promote(110.0)
    assert state.jobs.lease(110.0, 60) is None, "the newer job must not overtake the older"
    assert _finish(state, lease, 111.0) is JobState.SUPERSEDED
    assert state.rows("SELECT folder FROM jobs WHERE id = 1") == [{"folder": None}]
    assert _objects(state) == []
    assert state.jobs.lease(112.0, 60).job == 2


def test_images_after_the_analysis_lead_to_a_report_that_names_the_former(state):
    first = state.running()
    _finish(state, first)
    state.jobs.receive(image("1.2.3.2"), 102.0)
    state.jobs.promote(112.0)
    assert state.jobs.lease(112.0, 60).previous == (f"{state.spool.result(1, 1)}/01/sr.dcm",)


def test_images_in_a_pause_between_attempts_postpone_the_next(state):
    state.jobs.retry_later(state.running(), 101.0, 5.0, DEAD)
    state.jobs.receive(image("1.2.3.2"), 105.0)
    assert state.states() == ["receiving"]
    state.jobs.promote(114.9)
    assert state.states() == ["receiving"]
    state.jobs.promote(115.0)
    assert state.jobs.lease(115.0, 60).attempt == 2


def test_images_in_a_long_pause_do_not_shorten_it(state):
    state.jobs.retry_later(state.running(), 101.0, 100.0, DEAD)
    state.jobs.receive(image("1.2.3.2"), 105.0)
    state.jobs.promote(200.9)
    assert state.states() == ["receiving"]
    assert state.jobs.promote(201.0) == 1


@pytest.mark.parametrize("how", ["release", "retry_later", "fail", "refuse", "expire", "recover"])
def test_a_run_that_ends_without_result_gives_way_to_its_successor(state, how):
    lease = state.running()
    state.jobs.receive(image("1.2.3.2"), 101.0)
    {
        "release": lambda: state.jobs.release(lease, 102.0),
        "retry_later": lambda: state.jobs.retry_later(lease, 102.0, 1.0, DEAD),
        "fail": lambda: state.jobs.close(lease, 102.0, JobState.FAILED, DEAD),
        "refuse": lambda: state.jobs.close(lease, 102.0, JobState.REFUSED, UNUSABLE),
        "expire": lambda: state.jobs.expire(1000.0),
        "recover": lambda: state.jobs.recover(102.0),
    }[how]()
    assert state.states() == ["superseded", "receiving"]


def test_other_content_under_a_known_uid_changes_nothing_and_raises_an_alarm(state):
    _finish(state, state.running())
    assert state.jobs.receive(image("1.2.3.1", content="other"), 102.0) == "conflict"
    assert state.jobs.receive(image("1.2.3.1", series="4.5"), 103.0) == "conflict"
    assert state.jobs.known("1.2.3.1") == (image("1.2.3.1").sha256, True)
    assert state.states() == ["outbox"]
    assert [row["at"] for row in state.rows("SELECT at FROM alarms")] == [102.0, 103.0]
    assert len(state.rows("SELECT * FROM series")) == 1


def test_only_the_newest_alarms_are_kept(state):
    state.jobs.receive(image("1"), 0.0)
    with state.database.transaction() as connection:
        connection.executemany("INSERT INTO alarms (at, series_key, text) VALUES (?, 'k', 't')", [(0.0,)] * 2000)
    state.jobs.receive(image("1", content="other"), 5.0)
    assert state.rows("SELECT count(*) AS n, max(at) AS newest FROM alarms") == [{"n": 1000, "newest": 5.0}]


def test_a_file_that_was_cleaned_away_comes_back_with_a_resend(state):
    _finish(state, state.running())
    state.database.connection.execute("UPDATE images SET present = 0")
    assert state.jobs.known("1.2.3.1") == (image("1").sha256, False)
    assert state.jobs.receive(image("1.2.3.1"), 102.0) == "known"
    assert state.jobs.known("1.2.3.1") == (image("1").sha256, True)
    assert state.jobs.known("1.2.3.9") is None


def test_an_interruption_is_no_attempt_and_a_failure_is(state):
    lease = state.running()
    state.jobs.release(lease, 101.0)
    lease = state.jobs.lease(101.0, 60)
    assert (lease.attempt, lease.run) == (1, 2)
    state.jobs.retry_later(lease, 102.0, 30.0, DEAD)
    assert state.rows("SELECT code, due_at FROM jobs") == [{"code": "E606", "due_at": 132.0}]
    assert state.jobs.lease(131.9, 60) is None
    lease = state.jobs.lease(132.0, 60)
    assert (lease.attempt, lease.run) == (2, 3)


def test_a_lease_lasts_as_long_as_it_is_renewed(state):
    lease = state.running()
    state.jobs.renew(lease, 150.0, 60.0)
    assert state.jobs.expire(205.0) == 0
    assert state.jobs.expire(211.0) == 1
    assert state.states() == ["ready"]


def test_who_has_lost_the_lease_changes_nothing_any_more(state):
    old = state.running()
    state.jobs.expire(1000.0)
    new = state.jobs.lease(1000.0, 60)
    assert (new.job, new.run) == (old.job, 2)
    state.jobs.renew(old, 1001.0, 1e6)
    state.jobs.release(old, 1001.0)
    state.jobs.close(old, 1001.0, JobState.FAILED, DEAD)
    state.jobs.retry_later(old, 1001.0, 1.0, DEAD)
    assert _finish(state, old) is None
    assert state.rows("SELECT state, attempts, lease_until FROM jobs") == [
        {"state": "running", "attempts": 2, "lease_until": 1060.0}
    ]
    assert _finish(state, new) is JobState.OUTBOX
    assert _objects(state) == [(1, "queued")]


def test_a_start_takes_up_what_ran(state):
    state.running()
    state.reopen()
    assert state.jobs.recover(500.0) == 1
    assert state.jobs.recover(500.0) == 0
    assert state.jobs.lease(500.0, 60).run == 2


def test_without_archives_or_objects_a_job_is_done(state):
    assert _finish(state, state.running("1.1"), archives=()) is JobState.DONE
    assert state.jobs.finish(state.running("1.2"), 101.0, {}, [], ["archive"]) is JobState.DONE
    assert _objects(state) == []


def test_every_archive_gets_every_object(state):
    state.to_send("9.1", "9.2", archives=("a", "b"))
    rows = [(r["destination"], r["uid"]) for r in state.rows("SELECT * FROM objects ORDER BY id")]
    assert rows == [("a", "9.1"), ("a", "9.2"), ("b", "9.1"), ("b", "9.2")]


def test_retrying_a_failed_analysis_analyses_again_with_all_its_attempts(state):
    lease = _failed(state)
    assert state.jobs.retry(lease.job, 200.0) is JobState.READY
    again = state.jobs.lease(200.0, 60)
    assert (again.attempt, again.run) == (1, 2)
    assert state.rows("SELECT code, message FROM jobs") == [{"code": None, "message": None}]


def test_retrying_failed_sending_sends_what_was_made(state):
    lease = state.to_send("9.1", "9.2")
    state.database.connection.execute("UPDATE objects SET state = 'confirmed' WHERE uid = '9.1'")
    state.database.connection.execute("UPDATE objects SET state = 'failed', attempts = 60 WHERE uid = '9.2'")
    state.database.connection.execute("UPDATE jobs SET state = 'failed'")
    assert state.jobs.retry(lease.job, 200.0) is JobState.OUTBOX
    rows = state.rows("SELECT state, attempts, due_at FROM objects ORDER BY id")
    assert rows[0]["state"] == "confirmed"
    assert rows[1] == {"state": "queued", "attempts": 0, "due_at": 200.0}


def test_retrying_what_was_cleaned_away_analyses_again(state):
    """Its files are gone: sending would fail for ever."""
    lease = state.to_send("9.1")
    state.database.connection.execute("UPDATE objects SET state = 'failed'")
    state.database.connection.execute("UPDATE jobs SET state = 'failed', folder = NULL")
    assert state.jobs.retry(lease.job, 200.0) is JobState.READY
    assert _finish(state, state.jobs.lease(200.0, 60)) is JobState.OUTBOX
    assert _objects(state) == [(1, "queued")]


def test_discarding_stops_all_sending_and_a_retry_takes_it_up_again(state):
    lease = state.to_send("9.1", "9.2", "9.3")
    state.database.connection.execute("UPDATE objects SET state = 'sent' WHERE uid = '9.2'")
    state.database.connection.execute("UPDATE objects SET state = 'confirmed' WHERE uid = '9.3'")
    state.jobs.discard(lease.job, 102.0)
    assert [row[1] for row in _objects(state)] == ["failed", "failed", "confirmed"]
    assert state.jobs.retry(lease.job, 103.0) is JobState.OUTBOX
    assert [row[1] for row in _objects(state)] == ["queued", "queued", "confirmed"]


def test_no_old_job_is_retried_over_a_newer_one(state):
    lease = _failed(state)
    state.jobs.receive(image("1.2.3.1"), 102.0)
    with pytest.raises(AnomapError, match="E605 job 1 has a successor"):
        state.jobs.retry(lease.job, 103.0)
    state.jobs.discard(2, 104.0)
    assert state.jobs.retry(lease.job, 105.0) is JobState.READY


def _retried_below_a_discarded_one(state):
    """Job 1 waits again, job 2 of the same series is discarded."""
    _failed(state)
    state.jobs.receive(image("1.2.3.1"), 102.0)
    state.jobs.discard(2, 103.0)
    state.jobs.retry(1, 104.0)
    assert state.states() == ["ready", "discarded"]


def test_of_two_retried_jobs_of_a_series_the_newer_is_enough(state):
    _retried_below_a_discarded_one(state)
    assert state.jobs.retry(2, 105.0) is JobState.READY
    assert state.states() == ["superseded", "ready"]


def test_new_images_take_the_place_of_a_retried_job_below_a_discarded_one(state):
    _retried_below_a_discarded_one(state)
    state.jobs.receive(image("1.2.3.2"), 105.0)
    assert state.states() == ["superseded", "discarded", "receiving"]


@pytest.mark.parametrize("job", [0, 1, 2, -1])
def test_only_what_can_be_retried_or_discarded_is(state, job):
    _finish(state, state.running(), archives=())
    with pytest.raises(AnomapError, match="E605"):
        state.jobs.retry(job, 200.0)
    with pytest.raises(AnomapError, match="E605"):
        state.jobs.discard(job, 200.0)
    assert state.states() == ["done"]


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 30), (1, 30), (2, 60), (3, 120), (8, 3600), (10**6, 3600)])
def test_the_pause_doubles_up_to_an_hour(attempt, seconds):
    assert backoff_s(attempt, 30.0) == seconds <= LONGEST_BACKOFF_S
