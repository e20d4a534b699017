"""The snapshot: counts and rows of the job table, by hash, with nothing of a patient."""

from __future__ import annotations

import json

import pytest

from anomap.errors import AnomapError
from anomap.service.spool import key_of
from anomap.service.status import STATES, jobs, open_state, previews, snapshot
from anomap.service.types import JobState
from tests.service.parts import image


def test_an_empty_node_says_so(state):
    content = snapshot(state.spool, state.database)
    assert content["queue"] == dict.fromkeys([str(name) for name in STATES], 0)
    assert (content["jobs"], content["outbox"], content["alarms"]) == ([], [], [])
    assert content["running"] is False
    assert content["free_gb"] > 0
    assert "Not a diagnosis" in content["notice"]
    with state.spool.lock():
        assert snapshot(state.spool, state.database)["running"] is True


def test_queue_outbox_jobs_and_alarms_are_those_of_the_job_table(state):
    state.to_send("9.1", "9.2", series="1.1", archives=("a", "b"))
    state.database.connection.execute("UPDATE objects SET state = 'confirmed' WHERE uid = '9.1' AND destination = 'a'")
    state.jobs.close(state.running("1.2"), 101.0, JobState.REFUSED, AnomapError("E103", "a gap"))
    state.jobs.receive(image("1.2.1", "1.2", content="other"), 102.0)
    content = snapshot(state.spool, state.database)
    assert {name: n for name, n in content["queue"].items() if n} == {"outbox": 1, "refused": 1}
    assert [(row["destination"], row["state"], row["objects"]) for row in content["outbox"]] == [
        ("a", "confirmed", 1), ("a", "queued", 1), ("b", "queued", 2),
    ]  # fmt: skip
    newest, oldest = content["jobs"]
    assert (newest["id"], newest["series"], newest["state"], newest["code"]) == (2, key_of("1.2"), "refused", "E103")
    assert (oldest["verdict"], oldest["p_value"], oldest["images"]) == ("REVIEW", 0.01, 1)
    assert [alarm["series_key"] for alarm in content["alarms"]] == [key_of("1.2")]


def test_no_uid_is_in_it_and_it_is_json(state):
    state.to_send("9.1.77", series="1.2.840.99")
    text = json.dumps(snapshot(state.spool, state.database), allow_nan=False)
    assert "1.2.840.99" not in text
    assert "9.1.77" not in text


def test_the_newest_come_first_and_no_more_than_asked_for(state):
    for k in range(5):
        state.jobs.receive(image(f"1.{k}.1", f"1.{k}"), 0.0)
    assert [job["id"] for job in snapshot(state.spool, state.database, 2)["jobs"]] == [5, 4]
    assert jobs(state.database, 10, (JobState.FAILED,)) == []
    assert len(jobs(state.database, 10, (JobState.FAILED, JobState.RECEIVING))) == 5


def test_previews_are_those_of_the_job_in_order(state):
    lease = state.to_send("9.1")
    folder = state.root / state.spool.result(lease.job, lease.run)
    for name in ("02", "01"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "preview.png").write_bytes(b"x")
    assert [path.parent.name for path in previews(state.spool, state.database, lease.job)] == ["01", "02"]
    assert previews(state.spool, state.database, 99) == []
    assert previews(state.spool, state.database, 10**30) == [], "more than SQLite can count"
    state.database.connection.execute("UPDATE jobs SET folder = NULL")
    assert previews(state.spool, state.database, lease.job) == []


def test_looking_at_a_folder_without_a_node_makes_none(tmp_path, state):
    with pytest.raises(AnomapError, match="E603"):
        open_state(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    spool, database = open_state(state.root)
    assert snapshot(spool, database)["jobs"] == []
    database.close()
