"""The outbox: every result object of every archive, until the archive has confirmed that it holds it.

    queued -> sent -> confirmed
       ^________|          an archive that doesn't confirm in time, or says it has lost it, is sent it again
       +-> failed          after the last attempt; a person may retry

Objects keep their UID and their bytes from the first attempt to the last, so that sending twice can't make two.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection

from anomap.errors import AnomapError
from anomap.service.database import Database
from anomap.service.jobs import backoff_s
from anomap.service.types import Item, JobState

_AT_A_TIME = 200


class Outbox:
    """The objects of one archive.

    Args:
        database: Of the node.
        destination: Name of the archive.
        attempts: Before an object counts as failed.
        backoff: Seconds before the second attempt.
    """

    def __init__(self, database: Database, destination: str, attempts: int, backoff: float) -> None:
        self.database, self.destination, self.attempts, self.backoff = database, destination, attempts, backoff

    def due(self, now: float) -> list[Item]:
        """Queued objects of the oldest job that has any due, in the order in which they are to be sent."""
        rows = self._items("queued", now)
        return [item for item in rows if item.job == rows[0].job]

    def unconfirmed(self, now: float) -> list[Item]:
        """Sent objects that the archive may be asked about now."""
        return self._items("sent", now)

    def sent(self, item: Item, now: float, ask_at: float) -> None:
        """The archive took it; ask for confirmation at `ask_at`."""
        self._set(
            item.id, now,
            "state = 'sent', transaction_uid = NULL, code = NULL, message = NULL, sent_at = ?, due_at = ?", now, ask_at,
        )  # fmt: skip

    def asked(self, items: Collection[Item], now: float, transaction_uid: str, again_at: float) -> None:
        """A storage commitment was asked for."""
        for item in items:
            self._set(item.id, now, "transaction_uid = ?, due_at = ?", transaction_uid, again_at)

    def ask_later(self, item: Item, now: float, at: float) -> None:
        """Not confirmed yet, and still in time."""
        self._set(item.id, now, "due_at = ?", at)

    def confirmed(self, item_id: int, now: float) -> None:
        """The archive has it."""
        self._set(item_id, now, "state = 'confirmed', code = NULL, message = NULL")

    def failed(self, item: Item, now: float, error: AnomapError) -> None:
        """An attempt failed: wait and try again, or give up after the last."""
        attempts = item.attempts + 1
        state = "failed" if attempts >= self.attempts else "queued"
        self._set(
            item.id, now, "state = ?, attempts = ?, due_at = ?, code = ?, message = ?",
            state, attempts, now + backoff_s(attempts, self.backoff), error.code, error.message,
        )  # fmt: skip

    def of_transaction(self, transaction_uid: str) -> list[Item]:
        """What a storage commitment is about; empty for a transaction that isn't ours."""
        return self._items("sent", math.inf, transaction_uid)

    def _items(self, state: str, due_at: float, transaction_uid: str | None = None) -> list[Item]:
        rows = self.database.connection.execute(
            "SELECT objects.*, series.study_uid FROM objects JOIN jobs ON jobs.id = job_id "
            "JOIN series ON series.key = jobs.series_key WHERE destination = ? AND objects.state = ? "
            "AND objects.due_at <= ? AND (? IS NULL OR transaction_uid = ?) ORDER BY job_id, objects.id LIMIT ?",
            (self.destination, state, due_at, transaction_uid, transaction_uid, _AT_A_TIME),
        ).fetchall()
        return [
            Item(
                id=row["id"], job=row["job_id"], uid=row["uid"], sop_class=row["sop_class"],
                study_uid=row["study_uid"], path=row["path"], attempts=row["attempts"], sent_at=row["sent_at"],
                transaction_uid=row["transaction_uid"],
            )
            for row in rows
        ]  # fmt: skip

    def _set(self, item_id: int, now: float, assignment: str, *values: object) -> None:
        """Change an object that still is to be sent or confirmed, and close its job when it was the last."""
        with self.database.transaction() as connection:
            connection.execute(
                f"UPDATE objects SET {assignment} WHERE id = ? AND state IN ('queued', 'sent')",  # noqa: S608 (ours)
                (*values, item_id),
            )
            (job,) = connection.execute("SELECT job_id FROM objects WHERE id = ?", (item_id,)).fetchone()
            _settle(connection, job, now)


def _settle(connection: sqlite3.Connection, job: int, now: float) -> None:
    """Close a job whose objects all have come to an end, at every archive."""
    states = {row["state"] for row in connection.execute("SELECT state FROM objects WHERE job_id = ?", (job,))}
    if states & {"queued", "sent"}:
        return
    state, code, message = JobState.DONE, None, None
    if "failed" in states:
        state = JobState.FAILED
        code, message = connection.execute(
            "SELECT code, message FROM objects WHERE job_id = ? AND state = 'failed'", (job,)
        ).fetchone()
    connection.execute(
        "UPDATE jobs SET state = ?, updated_at = ?, code = coalesce(?, code), message = coalesce(?, message) "
        "WHERE id = ? AND state = ?",
        (state, now, code, message, job, JobState.OUTBOX),
    )
