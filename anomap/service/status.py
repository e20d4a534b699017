"""What the node says of itself: one snapshot for `anomap status`, the status page and the metrics.

It is read from the job table and names series by hash; there is nothing of a patient in it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.errors import AnomapError
from anomap.service.database import Database
from anomap.service.spool import Spool
from anomap.service.types import JobState

Json = dict[str, Any]
STATES = tuple(JobState)
_JOB = (
    "id", "series", "modality", "state", "images", "attempts", "verdict", "p_value", "seconds", "code", "message",
    "updated_at", "due_at",
)  # fmt: skip


def open_state(state: Path) -> tuple[Spool, Database]:
    """The job table of an existing node, for looking at it and for retrying.

    Raises:
        AnomapError: E603 when there is none.
    """
    spool = Spool(state)
    if not spool.database.is_file():
        raise AnomapError("E603", "the state folder holds no job table", "Start the node: `anomap serve SETTINGS`.")
    return spool, Database(spool.database)


def snapshot(spool: Spool, database: Database, limit: int = 50) -> Json:
    """How the node is.

    Args:
        spool: Its files.
        database: Its job table.
        limit: Most jobs listed, the newest first.

    Returns:
        JSON values: running, queue (jobs by state), outbox (objects by archive and state), jobs, alarms, free_gb.
    """
    connection = database.connection
    counts = {row["state"]: row["n"] for row in connection.execute("SELECT state, count(*) AS n FROM jobs GROUP BY 1")}
    return {
        "software": {"name": "anomap", "version": __version__},
        "notice": NOT_A_DIAGNOSIS,
        "at": time.time(),
        "running": spool.is_locked(),
        "free_gb": round(spool.free_gb(), 1),
        "queue": {str(state): counts.get(state, 0) for state in STATES},
        "outbox": _outbox(database),
        "jobs": jobs(database, limit),
        "alarms": [dict(row) for row in connection.execute("SELECT * FROM alarms ORDER BY id DESC LIMIT 20")],
    }


def jobs(database: Database, limit: int, states: tuple[JobState, ...] = STATES) -> list[Json]:
    """The newest jobs in some states."""
    rows = database.connection.execute(
        "SELECT jobs.*, series_key AS series, modality FROM jobs JOIN series ON series.key = series_key "
        "WHERE state IN (SELECT value FROM json_each(?)) ORDER BY jobs.id DESC LIMIT ?",
        (json.dumps(states), limit),
    ).fetchall()
    return [{name: row[name] for name in _JOB} for row in rows]


def previews(spool: Spool, database: Database, job: int) -> list[Path]:
    """The preview images of a job's result, one a series."""
    if job >= 2**63:  # SQLite counts no further
        return []
    row = database.connection.execute("SELECT folder FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None or row["folder"] is None:
        return []
    return sorted((spool.root / row["folder"]).glob("*/preview.png"))


def _outbox(database: Database) -> list[Json]:
    """Objects by archive: how many in which state, and since when the oldest waits."""
    rows = database.connection.execute(
        "SELECT destination, objects.state, count(*) AS objects, min(created_at) AS oldest_at "
        "FROM objects JOIN jobs ON jobs.id = job_id GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [dict(row) for row in rows]
