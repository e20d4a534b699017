"""The node's memory: one SQLite file in WAL mode, opened once by every thread.

What is committed survives a crash of the process and of the machine (``synchronous=FULL``). Times are seconds since
the epoch. UIDs stand here in clear, since archives are asked for them; everything that leaves this file hashes them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomap.errors import AnomapError

VERSION = 1
_WAIT_S = 30.0  # for another thread's or process's transaction
_SCHEMA = """
CREATE TABLE series (
    key TEXT PRIMARY KEY,            -- hash of the UID: names folders, log lines and the status page
    uid TEXT NOT NULL UNIQUE,
    study_uid TEXT NOT NULL,
    modality TEXT NOT NULL,
    caller TEXT NOT NULL             -- AE title that sent it first
);
CREATE TABLE images (
    uid TEXT PRIMARY KEY,            -- SOP Instance UID
    series_key TEXT NOT NULL REFERENCES series (key),
    path TEXT NOT NULL,              -- below the state folder
    sha256 TEXT NOT NULL,            -- of the data set as it came
    present INTEGER NOT NULL         -- 0 once the disk guard has taken the file
);
CREATE INDEX images_of_series ON images (series_key);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    series_key TEXT NOT NULL REFERENCES series (key),
    digest TEXT NOT NULL,            -- of software, models and settings
    state TEXT NOT NULL,
    due_at REAL NOT NULL,            -- not before
    attempts INTEGER NOT NULL DEFAULT 0,
    runs INTEGER NOT NULL DEFAULT 0, -- times it was started, also those that don't count as attempts
    lease_until REAL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    images INTEGER NOT NULL DEFAULT 0,
    folder TEXT,                     -- of the results, below the state folder
    verdict TEXT,
    p_value REAL,
    seconds REAL,
    code TEXT,                       -- why it isn't done
    message TEXT
);
CREATE INDEX jobs_of_series ON jobs (series_key, id);
CREATE INDEX jobs_by_state ON jobs (state, due_at);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    destination TEXT NOT NULL,
    uid TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    path TEXT NOT NULL,              -- below the state folder
    state TEXT NOT NULL,             -- queued, sent, confirmed, failed
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_at REAL,
    transaction_uid TEXT,            -- of the storage commitment that was asked for
    code TEXT,
    message TEXT,
    UNIQUE (job_id, destination, uid)
);
CREATE INDEX objects_by_state ON objects (state, destination, due_at);
CREATE TABLE counters (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, label)
);
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    series_key TEXT NOT NULL,
    text TEXT NOT NULL
);
"""


class Database:
    """The file, and one connection to it a thread.

    Args:
        path: Made when missing.

    Raises:
        AnomapError: E603 when it can't be opened or belongs to another version.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        try:
            with self.transaction() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as error:
            raise AnomapError("E603", f"the job table can't be opened ({error})") from error
        if version not in (0, VERSION):
            raise AnomapError("E603", f"the job table has version {version}, expected {VERSION}")

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; rows are mappings."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; other writers wait."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")  # writes: on a full disk it fails, and may leave the transaction open
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def count(self, name: str, label: str = "", by: int = 1) -> None:
        """Raise a counter in a transaction of its own."""
        with self.transaction() as connection:
            count(connection, name, label, by)


def count(connection: sqlite3.Connection, name: str, label: str, by: int = 1) -> None:
    """Raise a counter within a transaction (`anomap.service.metrics` shows them)."""
    connection.execute(
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        (name, label, by),
    )
