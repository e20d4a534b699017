"""The job table's file: all or nothing, also when the disk is full; no other version is touched."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from anomap.errors import AnomapError
from anomap.service.database import VERSION, Database


def _counters(database):
    return {row["name"]: row["value"] for row in database.connection.execute("SELECT * FROM counters")}


def test_what_is_committed_is_on_the_disk_first(state):
    pragmas = {name: state.database.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in
               ("journal_mode", "synchronous", "foreign_keys", "user_version")}  # fmt: skip
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "user_version": VERSION}


def test_opening_again_finds_what_was_there(state):
    state.database.count("received", "new")
    state.database.count("received", "new", by=4)
    state.reopen()
    assert _counters(state.database) == {"received": 5}


def _and_fail(database):
    with database.transaction() as connection:
        connection.execute("INSERT INTO counters VALUES ('a', '', 1)")
        raise KeyError


def test_an_exception_undoes_the_whole_transaction(state):
    with pytest.raises(KeyError):
        _and_fail(state.database)
    assert _counters(state.database) == {}
    state.database.count("b")
    assert _counters(state.database) == {"b": 1}


def test_a_full_disk_spoils_one_transaction_and_not_those_after_it(state):
    """SQLite's own limit on pages stands for the disk."""
    connection = state.database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        state.database.count("x" * 100_000)
    connection.execute("PRAGMA max_page_count = 1000000")
    state.database.count("after")
    assert _counters(state.database) == {"after": 1}


def _and_fail_at_the_end(database):
    with database.transaction() as connection:
        connection.execute("PRAGMA defer_foreign_keys = ON")  # now the COMMIT itself fails, as on a full disk
        connection.execute("INSERT INTO images VALUES ('1', 'no such series', 'p', 's', 1)")


def test_a_commit_that_fails_leaves_no_transaction_open(state):
    with pytest.raises(sqlite3.IntegrityError):
        _and_fail_at_the_end(state.database)
    assert not state.database.connection.in_transaction
    state.database.count("after")
    assert _counters(state.database) == {"after": 1}


def test_threads_count_together_without_losing_any(state):
    def work():
        for _ in range(25):
            state.database.count("received", "new")
        state.database.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert _counters(state.database) == {"received": 100}


def test_a_closed_connection_opens_again_when_needed(state):
    state.database.close()
    state.database.close()
    state.database.count("a")
    assert _counters(state.database) == {"a": 1}


def test_a_table_of_another_version_is_left_alone(state):
    state.database.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(AnomapError, match=f"E603 .*version {VERSION + 1}, expected {VERSION}"):
        Database(state.spool.database)


def test_what_is_no_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "node.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(AnomapError, match="E603"):
        Database(path)
    assert path.read_bytes() == b"no database" * 100
    with pytest.raises(AnomapError, match="E603"):
        Database(tmp_path / "nowhere" / "node.db")
