"""The job table: what has been received, and how far its analysis is.

A job is idempotent by its images and its digest (software, models, settings): the same image again starts nothing.
Every method is one transaction, so that a crash between two of them leaves a state that the next start can go on from.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from anomap.errors import AnomapError
from anomap.service.database import Database, count
from anomap.service.types import Image, JobState, Lease, Output, Reception

LONGEST_BACKOFF_S = 3600.0
_ALARMS = 1000  # the newest are kept

_WAITING = (JobState.RECEIVING, JobState.READY)
_CLOSED = (JobState.FAILED, JobState.REFUSED, JobState.DISCARDED)
_SUCCESSOR = "EXISTS (SELECT 1 FROM jobs WHERE series_key = job.series_key AND id > job.id AND state != 'discarded')"


class Jobs:
    """The jobs of one node.

    Args:
        database: Of the node.
        digest: Of software, models and settings; a resend is analysed anew when it has changed.
        quiet_s: A series is complete when nothing has come for so long.
    """

    def __init__(self, database: Database, digest: str, quiet_s: float) -> None:
        self.database, self.digest, self.quiet_s = database, digest, quiet_s

    def known(self, uid: str) -> tuple[str, bool] | None:
        """SHA-256 of an image that came before, and whether its file is still there; None for a new one."""
        row = self.database.connection.execute("SELECT sha256, present FROM images WHERE uid = ?", (uid,)).fetchone()
        return None if row is None else (str(row["sha256"]), bool(row["present"]))

    def receive(self, image: Image, now: float) -> Reception:
        """Record an image that lies on the disk, and what it sets off.

        Args:
            image: The image. Of several with one UID the first counts.
            now: The time.

        Returns:
            "new"; "known" for the same bytes again; "conflict" for other content under the same UID (an alarm).
        """
        with self.database.transaction() as connection:
            reception = self._receive(connection, image, now)
            count(connection, "received", reception)
            return reception

    def _receive(self, connection: sqlite3.Connection, image: Image, now: float) -> Reception:
        row = connection.execute("SELECT * FROM images WHERE uid = ?", (image.uid,)).fetchone()
        if row is not None and (row["sha256"], row["series_key"]) != (image.sha256, image.series_key):
            _alarm(connection, row["series_key"], "an image came with a known UID and other content", now)
            return "conflict"
        connection.execute(
            "INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?, ?)",
            (image.series_key, image.series_uid, image.study_uid, image.modality, image.caller),
        )
        connection.execute(
            "INSERT INTO images VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET present = 1",
            (image.uid, image.series_key, image.path, image.sha256),
        )
        self._wake(connection, image.series_key, now, new=row is None)
        return "new" if row is None else "known"

    def _wake(self, connection: sqlite3.Connection, series_key: str, now: float, *, new: bool) -> None:
        """Start the quiet period of a series, if what came gives reason to analyse it."""
        last = _last_job(connection, series_key)
        due = now + self.quiet_s
        if last is not None and last["state"] in _WAITING:
            connection.execute(
                "UPDATE jobs SET state = ?, due_at = max(due_at, ?), updated_at = ? WHERE id = ?",
                (JobState.RECEIVING, due, now, last["id"]),
            )
            return
        # A resend is how people ask for another try of what went wrong.
        again = last is not None and (
            last["digest"] != self.digest or last["state"] in (JobState.FAILED, JobState.REFUSED)
        )
        if last is None or new or again:
            _end_waiting(connection, series_key, now)
            connection.execute(
                "INSERT INTO jobs (series_key, digest, state, due_at, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (series_key, self.digest, JobState.RECEIVING, due, now, now),
            )

    def promote(self, now: float) -> int:
        """Close the quiet periods that are over; how many."""
        with self.database.transaction() as connection:
            return connection.execute(
                "UPDATE jobs SET state = ?, updated_at = ? WHERE state = ? AND due_at <= ?",
                (JobState.READY, now, JobState.RECEIVING, now),
            ).rowcount

    def lease(self, now: float, seconds: float) -> Lease | None:
        """Give the oldest ready job to a worker for some seconds; None when there is none.

        A job of a series that still runs waits: the newer one must not overtake the older.
        """
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM jobs AS job WHERE state = ? AND due_at <= ? AND NOT EXISTS "
                "(SELECT 1 FROM jobs WHERE series_key = job.series_key AND state = ?) ORDER BY id LIMIT 1",
                (JobState.READY, now, JobState.RUNNING),
            ).fetchone()
            if row is None:
                return None
            (images,) = connection.execute(
                "SELECT count(*) FROM images WHERE series_key = ? AND present", (row["series_key"],)
            ).fetchone()
            connection.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1, runs = runs + 1, lease_until = ?, updated_at = ?, "
                "images = ?, digest = ? WHERE id = ?",
                (JobState.RUNNING, now + seconds, now, images, self.digest, row["id"]),
            )
            return Lease(
                job=row["id"],
                run=row["runs"] + 1,
                series_key=row["series_key"],
                attempt=row["attempts"] + 1,
                previous=_former_reports(connection, row["series_key"], row["id"]),
            )

    def renew(self, lease: Lease, now: float, seconds: float) -> None:
        """Keep a running job."""
        self._set(lease, now, lease_until=now + seconds)

    def release(self, lease: Lease, now: float) -> None:
        """Give a job back that was interrupted through no fault of its own."""
        self._set(lease, now, _attempts=-1, state=JobState.READY, lease_until=None, due_at=now)

    def retry_later(self, lease: Lease, now: float, wait_s: float, error: AnomapError) -> None:
        """Put a job that failed back for another attempt."""
        self._set(
            lease, now, state=JobState.READY, lease_until=None, due_at=now + wait_s, code=error.code,
            message=error.message,
        )  # fmt: skip

    def close(self, lease: Lease, now: float, state: JobState, error: AnomapError | None = None) -> None:
        """End a job without results."""
        code, message = (None, None) if error is None else (error.code, error.message)
        self._set(lease, now, state=state, lease_until=None, code=code, message=message)

    def recover(self, now: float) -> int:
        """Take up what the last run of the node left, at start, when nobody else may run jobs.

        What ran goes back to the queue. Quiet periods begin anew: a peer whose series was cut off comes back.

        Returns:
            How many jobs ran.
        """
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET due_at = max(due_at, ?) WHERE state = ?", (now + self.quiet_s, JobState.RECEIVING)
            )
            return _give_back(connection, now, math.inf)

    def paths(self) -> set[str]:
        """Every image and every folder of results that is on the books, relative to the state folder."""
        rows = self.database.connection.execute(
            "SELECT path FROM images WHERE present UNION ALL SELECT folder FROM jobs WHERE folder IS NOT NULL"
        )
        return {str(row["path"]) for row in rows}

    def expire(self, now: float) -> int:
        """Give back jobs whose worker thread has stopped renewing them; how many."""
        with self.database.transaction() as connection:
            return _give_back(connection, now, now)

    def finish(
        self, lease: Lease, now: float, facts: dict[str, Any], outputs: Sequence[Output], destinations: Sequence[str]
    ) -> JobState | None:
        """Record a finished analysis, and all that is to be sent of it, in one step.

        Args:
            lease: Of the job.
            now: The time.
            facts: Columns of the job: folder, verdict, p_value, seconds, code, message.
            outputs: The objects, in the order in which they are to be sent.
            destinations: Names of the archives.

        Returns:
            The job's new state: OUTBOX, DONE when there is nowhere to send to, or SUPERSEDED when more images of the
            series came meanwhile: their own job will report on all of them. None when the job was discarded or the
            lease lost meanwhile: nobody wants the result.
        """
        with self.database.transaction() as connection:
            row = _held(connection, lease)
            if row is None:
                return None
            state = JobState.OUTBOX if destinations and outputs else JobState.DONE
            if _newer(connection, row):
                # Its folder goes: nothing of a superseded job is ever shown or sent.
                state, facts, destinations = JobState.SUPERSEDED, {**facts, "folder": None}, ()
            _update(connection, lease.job, now, state=state, lease_until=None, **facts)
            connection.executemany(
                "INSERT INTO objects (job_id, destination, uid, sop_class, path, state, due_at) "
                "VALUES (?, ?, ?, ?, ?, 'queued', ?)",
                [(lease.job, d, o.uid, o.sop_class, o.path, now) for d in destinations for o in outputs],
            )
            return state

    def retry(self, job: int, now: float) -> JobState:
        """Take up a job again that has failed, was refused or discarded: send again what is made, else analyse again.

        Raises:
            AnomapError: E605 when there is no such job, it is in no such state, or a newer one has taken its place.
        """
        with self.database.transaction() as connection:
            row = _job(connection, job)
            if row is None or row["state"] not in _CLOSED:
                raise AnomapError("E605", f"there is no job {job} that has failed")
            if _newer(connection, row):
                raise AnomapError("E605", f"job {job} has a successor with more images of its series or a later try")
            _end_waiting(connection, row["series_key"], now)
            state = JobState.READY
            if row["folder"] is None:  # never made, or cleaned up since
                connection.execute("DELETE FROM objects WHERE job_id = ?", (job,))
            elif connection.execute(
                "UPDATE objects SET state = 'queued', attempts = 0, due_at = ? WHERE job_id = ? AND state = 'failed'",
                (now, job),
            ).rowcount:
                state = JobState.OUTBOX
            _update(connection, job, now, state=state, due_at=now, attempts=0, code=None, message=None)
            return state

    def discard(self, job: int, now: float) -> None:
        """Give a job up for good; what wasn't sent of it will not be, nor sent again.

        Raises:
            AnomapError: E605 when there is no such job, or it is done already.
        """
        with self.database.transaction() as connection:
            row = _job(connection, job)
            if row is None or row["state"] in (JobState.DONE, JobState.SUPERSEDED, JobState.DISCARDED):
                raise AnomapError("E605", f"there is no job {job} that could be discarded")
            connection.execute(
                "UPDATE objects SET state = 'failed' WHERE job_id = ? AND state IN ('queued', 'sent')", (job,)
            )
            _update(connection, job, now, state=JobState.DISCARDED, lease_until=None)

    def _set(self, lease: Lease, now: float, *, _attempts: int = 0, **columns: Any) -> None:
        """Change a running job; one that was discarded or taken back meanwhile stays as it is."""
        with self.database.transaction() as connection:
            row = _held(connection, lease)
            if row is None:
                return
            if columns.get("state") in (JobState.READY, JobState.FAILED, JobState.REFUSED) and _newer(connection, row):
                columns["state"] = JobState.SUPERSEDED  # its successor analyses all that it would
            _update(connection, lease.job, now, attempts=max(row["attempts"] + _attempts, 0), **columns)


def backoff_s(attempt: int, first_s: float) -> float:
    """Seconds to wait after a failed attempt: doubled with each, up to an hour."""
    return min(first_s * 2.0 ** max(min(attempt, 32) - 1, 0), LONGEST_BACKOFF_S)


def _last_job(connection: sqlite3.Connection, series_key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM jobs WHERE series_key = ? ORDER BY id DESC LIMIT 1", (series_key,)
    ).fetchone()
    return row


def _job(connection: sqlite3.Connection, job: int) -> sqlite3.Row | None:
    """The row of a job whose number a person has given; SQLite knows no number beyond 63 bits."""
    found: sqlite3.Row | None = connection.execute("SELECT * FROM jobs WHERE id = ?", (min(job, 2**63 - 1),)).fetchone()
    return found


def _held(connection: sqlite3.Connection, lease: Lease) -> sqlite3.Row | None:
    """The row of a job while this very run of it is under way."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM jobs WHERE id = ? AND runs = ? AND state = ?", (lease.job, lease.run, JobState.RUNNING)
    ).fetchone()
    return row


def _newer(connection: sqlite3.Connection, row: sqlite3.Row) -> bool:
    """Whether a later job of the same series makes this one needless."""
    found = connection.execute(f"SELECT {_SUCCESSOR} FROM jobs AS job WHERE id = ?", (row["id"],)).fetchone()  # noqa: S608
    return bool(found[0])


def _end_waiting(connection: sqlite3.Connection, series_key: str, now: float) -> None:
    """Before another job of the series is made to wait: one that waits already (below a discarded one) is enough."""
    connection.execute(
        "UPDATE jobs SET state = ?, updated_at = ? WHERE series_key = ? AND state IN (?, ?)",
        (JobState.SUPERSEDED, now, series_key, *_WAITING),
    )


def _give_back(connection: sqlite3.Connection, now: float, lost_before: float) -> int:
    """End the running of jobs whose lease ended before a time."""
    return connection.execute(
        f"UPDATE jobs AS job SET state = iif({_SUCCESSOR}, ?, ?), lease_until = NULL, due_at = ?, updated_at = ? "  # noqa: S608
        "WHERE state = ? AND lease_until < ?",
        (JobState.SUPERSEDED, JobState.READY, now, now, JobState.RUNNING, lost_before),
    ).rowcount


def _former_reports(connection: sqlite3.Connection, series_key: str, job: int) -> tuple[str, ...]:
    """Reports of the newest job of the series that went out before."""
    rows = connection.execute(
        "SELECT DISTINCT path FROM objects WHERE path LIKE '%/sr.dcm' AND state != 'failed' AND job_id = "
        "(SELECT max(id) FROM jobs WHERE series_key = ? AND id < ? AND state IN (?, ?)) ORDER BY path",
        (series_key, job, JobState.OUTBOX, JobState.DONE),
    ).fetchall()
    return tuple(str(row["path"]) for row in rows)


def _update(connection: sqlite3.Connection, job: int, now: float, **columns: Any) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)  # our own names, never input
    connection.execute(f"UPDATE jobs SET updated_at = ?, {names} WHERE id = ?", (now, *columns.values(), job))  # noqa: S608


def _alarm(connection: sqlite3.Connection, series_key: str, text: str, now: float) -> None:
    connection.execute("INSERT INTO alarms (at, series_key, text) VALUES (?, ?, ?)", (now, series_key, text))
    connection.execute("DELETE FROM alarms WHERE id <= (SELECT max(id) FROM alarms) - ?", (_ALARMS,))
