"""The sender: every object ends confirmed, whatever the archive does; a refused one holds up no other."""

from __future__ import annotations

import json
import threading
import time

import pytest
from flask import Flask, Response, request

from anomap.service.outbox import Outbox
from anomap.service.sender import Sender
from tests.service.clinic import eventually
from tests.service.parts import Archive, destination, http, settings


def _sender(state, folder, words):
    config = settings(folder, words)
    (place,) = config.destination
    return Sender(place, "ANOMAP", state.spool, state.database, threading.Event())


def _states(state):
    return [row["state"] for row in state.rows("SELECT state FROM objects ORDER BY id")]


def _codes(state):
    return [row["code"] for row in state.rows("SELECT code FROM objects ORDER BY id")]


def _counters(state):
    """Those of sending."""
    rows = state.rows("SELECT * FROM counters WHERE name != 'received'")
    return {(row["name"], row["label"]): row["value"] for row in rows}


def test_an_archive_that_is_not_asked_counts_as_having_what_it_took(state, tmp_path, capsys):
    archive = Archive()
    state.to_send("9.1", "9.2")
    with archive.listening():
        assert _sender(state, tmp_path, archive.words()).send_due() == 2
    assert [item.SOPInstanceUID for item in archive.stored] == ["9.1", "9.2"]
    assert state.states() == ["done"]
    assert _counters(state) == {("sent", "archive"): 2}
    said = capsys.readouterr().err
    assert "ZZPHI" not in said
    assert '"9.1"' not in said


def test_an_archive_that_is_away_gets_all_of_it_when_it_is_back(state, tmp_path):
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words())
    state.to_send("9.1", "9.2")
    sender.send_due()
    assert _codes(state) == ["E600", "E600"]
    with archive.listening():
        eventually(lambda: sender.send_due() and state.states() == ["done"], "all is sent", 10)
    assert len(archive.stored) == 2
    assert _counters(state)["send_errors", "E600"] == 2


def test_a_refused_object_holds_up_no_other_and_is_tried_until_it_is_given_up(state, tmp_path):
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words(attempts=2))
    state.to_send("9.1", "9.2")
    state.database.connection.execute("UPDATE objects SET sop_class = '1.2.840.10008.5.1.4.1.1.66.4' WHERE uid = '9.1'")
    with archive.listening():
        sender.send_due()
        assert _states(state) == ["queued", "confirmed"]
        eventually(lambda: sender.send_due() and state.states() == ["failed"], "it is given up", 10)
    assert [item.SOPInstanceUID for item in archive.stored] == ["9.2"]
    assert state.rows("SELECT code FROM jobs") == [{"code": "E601"}]


def test_a_file_that_is_gone_is_its_own_failure(state, tmp_path):
    archive = Archive()
    state.to_send("9.1", "9.2")
    (state.root / state.rows("SELECT path FROM objects")[0]["path"]).write_bytes(b"no DICOM")
    with archive.listening():
        _sender(state, tmp_path, archive.words()).send_due()
    assert _states(state) == ["queued", "confirmed"]


def test_an_association_that_breaks_is_opened_again(state, tmp_path):
    archive = Archive()
    archive.aborts = True
    sender = _sender(state, tmp_path, archive.words())
    state.to_send("9.1", "9.2")
    with archive.listening():
        sender.send_due()
        assert _codes(state) == ["E600", "E600"]
        archive.aborts = False
        eventually(lambda: sender.send_due() and state.states() == ["done"], "all is sent", 10)


@pytest.fixture
def web():
    """An archive over DICOMweb that keeps what it is told to keep."""
    app = Flask("archive")
    app.kept, app.answer, app.taken = set(), None, 0

    @app.post("/studies")
    def store():
        app.taken += 1
        return Response("{}", content_type="application/dicom+json")

    @app.get("/studies/<study>/instances")
    def find(study):
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in app.kept & {request.args["SOPInstanceUID"]}]
        return app.answer or Response(json.dumps(found), content_type="application/dicom+json")

    with http(app) as app.url:
        yield app


def _web(url, **more):
    return destination(kind="dicomweb", url=url, **{"confirm_s": 60.0, **more})


def test_only_what_the_archive_lists_is_confirmed(state, tmp_path, web):
    sender = _sender(state, tmp_path, _web(web.url))
    state.to_send("9.1", "9.2")
    sender.send_due()
    web.kept = {"9.2"}
    assert sender.confirm_due() == 1
    assert _states(state) == ["sent", "confirmed"]
    assert state.states() == ["outbox"]
    assert sender.confirm_due() == 0, "it asks again a little later, not at once"
    assert _counters(state) == {("sent", "archive"): 2, ("confirmed", "archive"): 1}


def test_what_the_archive_does_not_list_in_time_is_sent_again(state, tmp_path, web):
    sender = _sender(state, tmp_path, _web(web.url, confirm_s=0.3))
    state.to_send("9.1")
    sender.send_due()
    eventually(lambda: sender.confirm_due() or _states(state) == ["queued"], "it is put back", 10)
    assert _codes(state) == ["E602"]
    eventually(sender.send_due, "it is due again", 10)
    web.kept = {"9.1"}
    eventually(lambda: sender.confirm_due() and state.states() == ["done"], "it is confirmed", 10)
    assert web.taken == 2


def test_an_answer_that_makes_no_sense_about_one_keeps_no_other_from_being_asked_about(state, tmp_path, web):
    sender = _sender(state, tmp_path, _web(web.url))
    state.to_send("9.1", series="1.1")
    state.to_send("9.2", series="1.2")
    sender.send_due()
    sender.send_due()
    web.answer = Response("[3]", content_type="application/dicom+json")
    assert sender.confirm_due() == 0
    assert state.rows("SELECT count(*) AS n FROM objects WHERE due_at > ?", time.time()) == [{"n": 2}]


def test_a_commitment_is_asked_once_and_settled_by_its_answer(state, tmp_path, capsys):
    """The archive gives none: that is written down before the question, so the answer could come first."""
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words(confirm="commitment", confirm_s=60.0))
    state.to_send("9.1", "9.2", "9.3")
    with archive.listening():
        sender.send_due()
        sender.confirm_due()
    (row,) = state.rows("SELECT DISTINCT transaction_uid FROM objects")
    assert sender.confirm_due() == 0
    sender.committed("6.6.6", ["9.1", "9.2", "9.3"], [])
    assert _states(state) == ["sent"] * 3
    sender.committed(row["transaction_uid"], ["9.1"], ["9.2"])
    assert _states(state) == ["confirmed", "queued", "sent"]
    assert row["transaction_uid"] not in capsys.readouterr().err


def test_a_commitment_that_is_never_answered_sends_again(state, tmp_path):
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words(confirm="commitment", confirm_s=0.4))
    state.to_send("9.1")
    with archive.listening():
        sender.send_due()
        eventually(lambda: sender.confirm_due() or _states(state) == ["queued"], "it is put back", 10)
    assert _codes(state) == ["E602"]


def test_its_thread_sends_until_it_is_stopped_and_survives_a_broken_job_table(state, tmp_path, capsys):
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words())
    state.database.connection.execute("ALTER TABLE objects RENAME TO elsewhere")
    with archive.listening():
        sender.start()
        try:
            eventually(lambda: "sender_failed" in capsys.readouterr().err, "the failure is told", 10)
            state.database.connection.execute("ALTER TABLE elsewhere RENAME TO objects")
            state.to_send("9.1")
            eventually(lambda: state.states() == ["done"], "it goes on", 10)
        finally:
            sender.stop.set()
            sender.join(10)
    assert not sender.is_alive()


def test_a_stop_in_the_midst_leaves_the_rest_for_the_next_start(state, tmp_path):
    archive = Archive()
    sender = _sender(state, tmp_path, archive.words())
    state.to_send("9.1", "9.2")
    sender.stop.set()
    with archive.listening():
        sender.send_due()
    assert archive.stored == []
    assert [item.attempts for item in Outbox(state.database, "archive", 3, 1.0).due(time.time())] == [0, 0]
