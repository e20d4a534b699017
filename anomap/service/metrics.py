"""The node's figures for Prometheus, read from the job table at each scrape: a restart loses no count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from anomap.calibration.watch import Drift
from anomap.errors import AnomapError
from anomap.gate.drift import records, watch
from anomap.service.database import Database
from anomap.service.spool import Spool
from anomap.service.status import snapshot

DRIFT_JOBS = 100  # newest analyses that the test for drift reads
# Counter in the job table -> metric, its label, what it counts.
_COUNTERS = {
    "received": ("anomap_images_received", "reception", "Images taken: new, known (a resend), conflict (an alarm)"),
    "ignored": ("anomap_objects_ignored", "code", "Objects that anomap does not analyse"),
    "refused": ("anomap_objects_refused", "reason", "Objects that were not taken"),
    "associations": ("anomap_associations_lost", "how", "Associations that were rejected or aborted"),
    "analysed": ("anomap_series_analysed", "verdict", "Finished analyses"),
    "job_errors": ("anomap_job_errors", "code", "Attempts at an analysis that failed"),
    "sent": ("anomap_objects_sent", "archive", "Result objects that an archive took"),
    "confirmed": ("anomap_objects_confirmed", "archive", "Result objects that an archive holds"),
    "send_errors": ("anomap_send_errors", "code", "Attempts at sending that failed"),
}


class _Figures(Collector):
    """Counts and states; labels are states, codes and names of the settings."""

    def __init__(self, spool: Spool, database: Database) -> None:
        self.spool, self.database = spool, database

    def collect(self) -> Iterator[Any]:
        """The metrics of this moment."""
        content, now = snapshot(self.spool, self.database, 0), time.time()
        gauge = GaugeMetricFamily("anomap_jobs", "Jobs by state", labels=["state"])
        for state, number in content["queue"].items():
            gauge.add_metric([state], number)
        yield gauge
        waiting = GaugeMetricFamily("anomap_outbox_objects", "Result objects by archive", labels=["archive", "state"])
        oldest = GaugeMetricFamily("anomap_outbox_oldest_seconds", "Age of the oldest unconfirmed", labels=["archive"])
        for row in content["outbox"]:
            waiting.add_metric([row["destination"], row["state"]], row["objects"])
        for name in {row["destination"] for row in content["outbox"]}:
            ages = [
                now - row["oldest_at"]
                for row in content["outbox"]
                if row["destination"] == name and row["state"] in ("queued", "sent")
            ]
            oldest.add_metric([name], max(ages, default=0.0))
        yield waiting
        yield oldest
        analyses = self.database.connection.execute("SELECT count(seconds), total(seconds) FROM jobs").fetchone()
        yield SummaryMetricFamily("anomap_analysis_seconds", "Duration of analyses", *analyses)
        yield GaugeMetricFamily("anomap_disk_free_bytes", "Free space of the state folder", content["free_gb"] * 1e9)
        yield from self._drift()
        yield from self._counters()

    def _drift(self) -> Iterator[Any]:
        rows = self.database.connection.execute(
            "SELECT folder FROM jobs WHERE folder IS NOT NULL AND p_value IS NOT NULL ORDER BY id DESC LIMIT ?",
            (DRIFT_JOBS,),
        ).fetchall()
        found = _tested(tuple(self.spool.root / row["folder"] for row in rows))
        if found is not None:
            text = "Chance of the newest p-values if routine were still as the site's cohort; near 0 means drift"
            yield GaugeMetricFamily("anomap_drift_p_value", text, found.p_value)
            yield GaugeMetricFamily("anomap_drift_results", "Results that the test for drift counts", found.results)

    def _counters(self) -> Iterator[Any]:
        rows = self.database.connection.execute("SELECT * FROM counters ORDER BY name, label").fetchall()
        for name, (metric, label, text) in _COUNTERS.items():
            family = CounterMetricFamily(metric, text, labels=[label])
            for row in rows:
                if row["name"] == name:
                    family.add_metric([row["label"]], row["value"])
            yield family


@lru_cache(maxsize=4)
def _tested(folders: tuple[Path, ...]) -> Drift | None:
    """The test for drift; None with too few results.

    Reading and testing take a moment, scrapes come more often than results, and a published result doesn't change.
    """
    try:
        return watch(records(*folders), DRIFT_JOBS)[0]
    except AnomapError:  # too few
        return None


def exposition(spool: Spool, database: Database) -> bytes:
    """The text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Figures(spool, database))
    return generate_latest(registry)
