"""What has to be done from time to time: close quiet periods, take back lost leases, keep the disk free."""

from __future__ import annotations

import json
import threading
import time

from anomap.service.database import Database
from anomap.service.jobs import Jobs
from anomap.service.log import log, log_failure
from anomap.service.pool import POLL_S
from anomap.service.settings import Disk
from anomap.service.spool import Spool
from anomap.service.types import OPEN

_CLEAN_EVERY_S = 600.0
_DAY_S = 86400.0


class Janitor(threading.Thread):
    """The node's clock.

    Args:
        spool: What it cleans.
        database: Of the node.
        jobs: What it promotes.
        disk: How long things are kept.
        stop: Set when the node stops.
    """

    def __init__(self, spool: Spool, database: Database, jobs: Jobs, disk: Disk, stop: threading.Event) -> None:
        super().__init__(name="janitor")
        self.spool, self.database, self.jobs, self.disk, self.stop = spool, database, jobs, disk, stop
        self.seen = time.time()  # when it last was at work; `anomap status --check` and the health page look at it

    def run(self) -> None:
        """Tick until the node stops."""
        cleaned = 0.0
        try:
            while not self.stop.wait(POLL_S):
                try:
                    now = time.time()
                    self.jobs.promote(now)
                    lost = self.jobs.expire(now)
                    if lost:
                        log("leases_expired", "warning", jobs=lost)
                    if now - cleaned > _CLEAN_EVERY_S:
                        self.clean(now)
                        cleaned = now
                    self.seen = now
                except Exception as error:  # a bug or a full disk must not stop the clock
                    log_failure("janitor_failed", error)
                    self.stop.wait(1.0)
        finally:
            self.database.close()

    def clean(self, now: float) -> None:
        """Remove images and results of finished jobs that are older than the settings want.

        Rows stay: a resend is known for what it is. A file that is needed again comes back with the resend.
        """
        unfinished = json.dumps(OPEN)
        with self.database.transaction() as connection:
            images = connection.execute(
                "SELECT uid, path FROM images WHERE present AND series_key NOT IN "
                "(SELECT series_key FROM jobs WHERE updated_at > ? OR state IN (SELECT value FROM json_each(?)))",
                (now - self.disk.keep_images_days * _DAY_S, unfinished),
            ).fetchall()
            connection.executemany("UPDATE images SET present = 0 WHERE uid = ?", [(row["uid"],) for row in images])
            results = connection.execute(
                "SELECT id, folder FROM jobs WHERE folder IS NOT NULL AND updated_at <= ? "
                "AND state NOT IN (SELECT value FROM json_each(?))",
                (now - self.disk.keep_results_days * _DAY_S, unfinished),
            ).fetchall()
            connection.executemany("UPDATE jobs SET folder = NULL WHERE id = ?", [(row["id"],) for row in results])
        for row in images:
            with self.database.transaction() as connection:  # unless it has come again meanwhile
                if connection.execute("SELECT 1 FROM images WHERE uid = ? AND NOT present", (row["uid"],)).fetchone():
                    self.spool.remove(row["path"])
        for row in results:
            self.spool.remove(row["folder"])
        if images or results:
            log("cleaned", images=len(images), results=len(results))
