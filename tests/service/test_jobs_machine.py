"""The job table under random sequences of everything that can happen to it, crashes and lost leases included."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anomap.errors import AnomapError
from anomap.service.outbox import Outbox
from anomap.service.types import JobState, Output
from tests.service.parts import BASIC_TEXT_SR, State, image

SERIES = ("1.1", "1.2")
WAITING = (JobState.RECEIVING, JobState.READY)
ERROR = AnomapError("E606", "the analysis process died")


class Table(RuleBasedStateMachine):
    """Peers send, workers come and go, people retry and discard; some workers don't know that they have lost a job."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.state = State(Path(self.folder.name))
        self.now, self.came, self.leases = 0.0, {name: [] for name in SERIES}, []
        self.covers: dict[int, set[str]] = {}  # job -> images that lay there when it was started last

    def teardown(self) -> None:
        self.state.database.close()
        self.folder.cleanup()

    @rule(series=st.sampled_from(SERIES))
    def a_new_image(self, series):
        uid = f"{series}.{len(self.came[series]) + 1}"
        assert self.state.jobs.receive(image(uid, series), self.now) == "new"
        self.came[series].append(uid)

    @rule(series=st.sampled_from(SERIES), content=st.sampled_from(["content", "other"]))
    def an_image_again(self, series, content):
        if self.came[series]:
            before = self.state.states()
            got = self.state.jobs.receive(image(self.came[series][0], series, content), self.now)
            assert got == ("known" if content == "content" else "conflict")
            assert content == "content" or self.state.states() == before

    @rule(seconds=st.sampled_from([1.0, 20.0, 100.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.state.jobs.promote(self.now)

    @rule()
    def a_worker_is_free(self):
        lease = self.state.jobs.lease(self.now, 60.0)
        if lease is not None:
            series = self.state.rows("SELECT uid FROM series WHERE key = ?", lease.series_key)[0]["uid"]
            self.covers[lease.job] = set(self.came[series])
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "refuse", "retry_later", "release", "renew"]))
    def a_worker_reports(self, data, how):
        lease, jobs = data.draw(st.sampled_from(self.leases)), self.state.jobs
        if how == "finish":
            folder = self.state.spool.result(lease.job, lease.run)
            # The UIDs of a job's objects stay the same over its runs: the worst case for what is left in the outbox.
            outputs = [Output(uid=f"9.{lease.job}", sop_class=BASIC_TEXT_SR, path=f"{folder}/sr.dcm")]
            jobs.finish(lease, self.now, {"folder": folder}, outputs, ["archive"])
        elif how == "fail":
            jobs.close(lease, self.now, JobState.FAILED, ERROR)
        elif how == "refuse":
            jobs.close(lease, self.now, JobState.REFUSED, ERROR)
        elif how == "retry_later":
            jobs.retry_later(lease, self.now, 30.0, ERROR)
        elif how == "release":
            jobs.release(lease, self.now)
        else:
            jobs.renew(lease, self.now, 60.0)

    @rule()
    def leases_expire(self):
        self.state.jobs.expire(self.now)

    @rule(digest=st.sampled_from(["digest", "newer"]))
    def the_node_starts_again(self, digest):
        self.state.reopen(digest)
        self.state.jobs.recover(self.now)

    @rule(job=st.integers(1, 4), what=st.sampled_from(["retry", "discard"]))
    def a_person_decides(self, job, what):
        try:
            getattr(self.state.jobs, what)(job, self.now)
        except AnomapError as error:
            assert error.code == "E605"  # noqa: PT017 (it need not fail)

    @rule(how=st.sampled_from(["confirmed", "failed", "sent"]))
    def the_archive_answers(self, how):
        outbox = Outbox(self.state.database, "archive", 1, 30.0)
        for item in [*outbox.due(self.now), *outbox.unconfirmed(self.now)]:
            if how == "confirmed":
                outbox.confirmed(item.id, self.now)
            elif how == "failed":
                outbox.failed(item, self.now, ERROR)
            else:
                outbox.sent(item, self.now, self.now)

    @invariant()
    def a_series_has_one_running_and_one_waiting_job_at_most(self):
        for states in (("running",), WAITING):
            rows = self.state.rows("SELECT series_key FROM jobs WHERE state IN (?, ?)", states[0], states[-1])
            keys = [row["series_key"] for row in rows]
            assert len(keys) == len(set(keys))

    @invariant()
    def no_image_is_lost(self):
        """The newest job of a series waits still, or was started when all images were there; or a person gave it up."""
        for series in SERIES:
            rows = self.state.rows("SELECT jobs.* FROM jobs JOIN series ON key = series_key WHERE uid = ? "
                                   "ORDER BY jobs.id DESC LIMIT 1", series)  # fmt: skip
            assert bool(rows) == bool(self.came[series])
            for job in rows:
                assert job["state"] != JobState.SUPERSEDED
                if job["state"] not in (*WAITING, JobState.DISCARDED):
                    assert self.covers[job["id"]] == set(self.came[series])

    @invariant()
    def only_jobs_in_the_outbox_are_sent(self):
        rows = self.state.rows("SELECT jobs.state, folder, path FROM objects JOIN jobs ON jobs.id = job_id "
                               "WHERE objects.state IN ('queued', 'sent')")  # fmt: skip
        assert all(row["state"] == "outbox" and row["path"].startswith(row["folder"] + "/") for row in rows)
        waits = self.state.rows("SELECT id FROM jobs WHERE state = 'outbox' AND id NOT IN "
                                "(SELECT job_id FROM objects WHERE state IN ('queued', 'sent'))")  # fmt: skip
        assert waits == [], "nobody would ever close such a job"

    @invariant()
    def counts_are_possible(self):
        rows = self.state.rows("SELECT attempts, runs, lease_until, state FROM jobs")
        assert all(0 <= row["attempts"] <= row["runs"] for row in rows)
        assert all((row["lease_until"] is not None) == (row["state"] == "running") for row in rows)


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
