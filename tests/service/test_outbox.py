"""The outbox: every object of every archive ends confirmed or failed, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomap.errors import AnomapError
from anomap.service.outbox import Outbox
from tests.service.parts import State

REFUSED = AnomapError("E601", "the archive answered with status 0xA700")


@pytest.fixture
def outbox(state):
    return Outbox(state.database, "archive", attempts=3, backoff=30.0)


def _states(state):
    return [row["state"] for row in state.rows("SELECT state FROM objects ORDER BY id")]


def _job(state):
    return state.rows("SELECT state, code, message FROM jobs ORDER BY id")[0]


def test_objects_go_out_in_their_order_one_job_at_a_time(state, outbox):
    state.to_send("9.2", "9.1", series="1.1")
    state.to_send("9.3", series="1.2")
    assert [(item.job, item.uid, item.study_uid) for item in outbox.due(200.0)] == [
        (1, "9.2", "1.2"),
        (1, "9.1", "1.2"),
    ]
    for item in outbox.due(200.0):
        outbox.failed(item, 200.0, REFUSED)
    assert [item.uid for item in outbox.due(200.0)] == ["9.3"], "a job that waits holds up no other"
    assert [item.uid for item in outbox.due(230.0)] == ["9.2", "9.1"]


def test_each_archive_has_its_own(state, outbox):
    state.to_send("9.1", archives=("archive", "other"))
    other = Outbox(state.database, "other", 3, 30.0)
    outbox.confirmed(outbox.due(200.0)[0].id, 200.0)
    assert outbox.due(200.0) == []
    assert _job(state)["state"] == "outbox"
    other.confirmed(other.due(200.0)[0].id, 201.0)
    assert _job(state)["state"] == "done"


def test_a_failed_attempt_waits_longer_each_time_and_the_last_gives_up(state, outbox):
    state.to_send("9.1", "9.2")
    outbox.confirmed(outbox.due(200.0)[1].id, 200.0)
    now = 200.0
    for pause in (30.0, 60.0):
        (item,) = outbox.due(now)
        outbox.failed(item, now, REFUSED)
        assert outbox.due(now + pause - 0.1) == []
        now += pause
    (item,) = outbox.due(now)
    assert item.attempts == 2
    outbox.failed(item, now, REFUSED)
    assert _states(state) == ["failed", "confirmed"]
    assert _job(state) == {"state": "failed", "code": "E601", "message": REFUSED.message}
    assert outbox.due(1e12) == outbox.unconfirmed(1e12) == []


def test_what_was_sent_is_asked_about_when_it_is_time(state, outbox):
    state.to_send("9.1")
    (item,) = outbox.due(200.0)
    outbox.sent(item, 200.0, ask_at=205.0)
    assert outbox.due(1e12) == []
    assert outbox.unconfirmed(204.9) == []
    (item,) = outbox.unconfirmed(205.0)
    assert item.sent_at == 200.0
    outbox.ask_later(item, 205.0, 210.0)
    assert outbox.unconfirmed(209.0) == []
    assert len(outbox.unconfirmed(210.0)) == 1


def test_an_archive_that_has_lost_it_is_sent_it_again(state, outbox):
    state.to_send("9.1")
    outbox.sent(outbox.due(200.0)[0], 200.0, 200.0)
    outbox.failed(outbox.unconfirmed(200.0)[0], 300.0, AnomapError("E602", "not listed"))
    (item,) = outbox.due(330.0)
    outbox.sent(item, 330.0, 330.0)
    assert state.rows("SELECT code, attempts, sent_at FROM objects") == [
        {"code": None, "attempts": 1, "sent_at": 330.0}
    ]


def test_a_commitment_is_about_what_was_asked_and_nothing_else(state, outbox):
    state.to_send("9.1", "9.2")
    for item in outbox.due(200.0):
        outbox.sent(item, 200.0, 200.0)
    first, second = outbox.unconfirmed(200.0)
    outbox.asked([first], 200.0, "7.1", again_at=240.0)
    assert [item.uid for item in outbox.of_transaction("7.1")] == ["9.1"]
    assert outbox.of_transaction("6.6.6") == []
    assert Outbox(state.database, "other", 3, 30.0).of_transaction("7.1") == []
    assert [item.uid for item in outbox.unconfirmed(239.0)] == ["9.2"]
    outbox.asked([first, second], 240.0, "7.2", again_at=280.0)
    assert outbox.of_transaction("7.1") == [], "an answer that comes too late counts for nothing: it was asked again"
    outbox.confirmed(first.id, 241.0)
    assert [item.uid for item in outbox.of_transaction("7.2")] == ["9.2"]


def test_what_is_confirmed_or_given_up_changes_no_more(state, outbox):
    state.to_send("9.1", "9.2")
    one, two = outbox.due(200.0)
    outbox.confirmed(one.id, 200.0)
    state.database.connection.execute("UPDATE objects SET state = 'failed' WHERE uid = '9.2'")
    for item in (one, two):
        outbox.failed(item, 201.0, REFUSED)
        outbox.sent(item, 201.0, 201.0)
        outbox.asked([item], 201.0, "7.1", 201.0)
        outbox.ask_later(item, 201.0, 201.0)
    outbox.confirmed(two.id, 202.0)
    assert _states(state) == ["confirmed", "failed"]
    assert state.rows("SELECT DISTINCT transaction_uid FROM objects") == [{"transaction_uid": None}]


def test_a_person_who_discards_a_job_ends_its_sending(state, outbox):
    lease = state.to_send("9.1")
    (item,) = outbox.due(200.0)
    state.jobs.discard(lease.job, 200.0)
    outbox.sent(item, 201.0, 201.0)  # it was on its way just then
    assert _states(state) == ["failed"]
    assert _job(state)["state"] == "discarded"


def test_the_reason_of_a_partial_analysis_survives_its_sending(state, outbox):
    state.to_send("9.1")
    state.database.connection.execute("UPDATE jobs SET code = 'E102', message = 'one file was damaged'")
    outbox.confirmed(outbox.due(200.0)[0].id, 200.0)
    assert _job(state) == {"state": "done", "code": "E102", "message": "one file was damaged"}


class Crash(Exception):  # noqa: N818 (no error)
    """The node dies here."""


@settings(max_examples=40, deadline=None)
@given(crashes=st.lists(st.integers(0, 6), max_size=6), losses=st.sets(st.integers(0, 5), max_size=3))
def test_crashes_between_any_two_steps_end_in_one_confirmed_set(crashes, losses, tmp_path_factory):
    """The archive keeps a set of UIDs; the node dies after so many steps, forgets all but its file, and starts anew."""
    state = State(tmp_path_factory.mktemp("crash"))
    state.to_send("9.1", "9.2", "9.3")
    archive: set[str] = set()
    plan, now, stored = [*crashes, 10**6], 200.0, 0
    for left in plan:
        outbox = Outbox(state.database, "archive", 100, 30.0)
        try:
            for _ in range(12):
                for item in outbox.due(now):
                    stored += 1
                    if stored not in losses:  # an archive that says yes and loses it
                        archive.add(item.uid)
                    left = _step(left)
                    outbox.sent(item, now, now)
                    left = _step(left)
                for item in outbox.unconfirmed(now):
                    if item.uid in archive:
                        outbox.confirmed(item.id, now)
                    else:
                        outbox.failed(item, now, AnomapError("E602", "not listed"))
                    left = _step(left)
                now += 4000.0
        except Crash:
            state.reopen()
            state.jobs.recover(now)
    assert archive == {"9.1", "9.2", "9.3"}
    assert _states(state) == ["confirmed"] * 3
    assert state.states() == ["done"]
    state.database.close()


def _step(left):
    if left == 0:
        raise Crash
    return left - 1
