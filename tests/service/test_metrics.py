"""Metrics: what Prometheus reads, from a fixed set of labels, and no count is lost."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anomap.errors import CODES, AnomapError
from anomap.service.metrics import exposition
from anomap.service.status import STATES
from anomap.service.types import JobState


def _samples(state):
    text = exposition(state.spool, state.database).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_empty_node_has_every_state_and_names_every_counter(state):
    samples = _samples(state)
    assert {key[1][1] for key in samples if key[0] == "anomap_jobs"} == set(map(str, STATES))
    assert samples[("anomap_disk_free_bytes",)] > 0
    text = exposition(state.spool, state.database).decode()
    for name in (
        "images_received", "objects_ignored", "objects_refused", "associations_lost", "series_analysed", "job_errors",
        "objects_sent", "objects_confirmed", "send_errors",
    ):  # fmt: skip
        assert f"# TYPE anomap_{name}_total counter" in text


def test_counts_and_ages_are_those_of_the_job_table(state, monkeypatch):
    monkeypatch.setattr("anomap.service.metrics.time.time", lambda: 1080.0)
    state.to_send("9.1", "9.2", series="1.1", archives=("a", "b"))  # its images came at 80
    state.database.connection.execute("UPDATE objects SET state = 'confirmed' WHERE destination = 'b'")
    state.jobs.close(state.running("1.2"), 101.0, JobState.FAILED, AnomapError("E606", "died"))
    samples = _samples(state)
    assert samples["anomap_jobs", ("state", "outbox")] == samples["anomap_jobs", ("state", "failed")] == 1
    assert samples["anomap_outbox_objects", ("archive", "a"), ("state", "queued")] == 2
    assert samples["anomap_outbox_oldest_seconds", ("archive", "a")] == 1000.0
    assert samples["anomap_outbox_oldest_seconds", ("archive", "b")] == 0.0


@pytest.mark.parametrize(
    ("counter", "label", "metric"),
    [
        ("received", "new", ("anomap_images_received_total", ("reception", "new"))),
        ("ignored", "E111", ("anomap_objects_ignored_total", ("code", "E111"))),
        ("refused", "disk", ("anomap_objects_refused_total", ("reason", "disk"))),
        ("associations", "rejected", ("anomap_associations_lost_total", ("how", "rejected"))),
        ("analysed", "REVIEW", ("anomap_series_analysed_total", ("verdict", "REVIEW"))),
        ("job_errors", "E606", ("anomap_job_errors_total", ("code", "E606"))),
        ("sent", "archive", ("anomap_objects_sent_total", ("archive", "archive"))),
        ("confirmed", "archive", ("anomap_objects_confirmed_total", ("archive", "archive"))),
        ("send_errors", "E600", ("anomap_send_errors_total", ("code", "E600"))),
    ],
)
def test_every_counter_is_shown_and_survives_a_restart(counter, label, metric, state):
    state.database.count(counter, label)
    assert _samples(state)[metric] == 1
    state.reopen()
    state.database.count(counter, label)
    assert _samples(state)[metric] == 2


def test_nothing_of_a_series_or_a_patient_is_a_label(state):
    """Whatever ends a job, its label is a code; names are those of the settings."""
    state.to_send("9.1.77", series="1.2.840.99")
    for code in CODES:
        state.database.count("job_errors", code)
    text = exposition(state.spool, state.database).decode()
    assert "1.2.840.99" not in text
    assert "9.1.77" not in text
    kinds = {name for key in _samples(state) for name, _ in key[1:]}
    assert kinds <= {"state", "archive", "reception", "code", "reason", "how", "verdict"}


def test_drift_is_read_from_the_newest_results(state):
    def finished(number, p_value):
        folder = state.spool.root / "results" / str(number) / "01-CT-00000000"
        folder.mkdir(parents=True)
        content = {
            "kind": "series", "status": "complete", "p_value": p_value, "cohort": {"id": "a", "patients": 99},
            "run": {"created": f"2026-01-01T00:00:{number:02d}"},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(content))
        job = state.running(f"1.{number}").job
        state.database.connection.execute(
            "UPDATE jobs SET folder = ?, p_value = ? WHERE id = ?", (f"results/{number}", p_value, job)
        )

    finished(1, 0.01)
    assert ("anomap_drift_p_value",) not in _samples(state)
    for number in range(2, 21):
        finished(number, 0.01)
    samples = _samples(state)
    assert samples["anomap_drift_p_value",] < 0.01
    assert samples["anomap_drift_results",] == 20
