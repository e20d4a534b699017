"""What every fault did, kept for the report: ``make faults`` writes it to ``benchmarks/results/faults.json``.

A test of the matrix carries ``@pytest.mark.fault(row, what, expected)`` and says with ``seen`` what happened. Row 0 is
the load test. The notes travel with pytest's own reports, so that it works with any number of processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomap.evaluation.machine import describe_machine

ROOT = Path(__file__).parents[2]
ROWS = 32  # of the fault matrix
FORMAT = "anomap.faults/1"
_entries: list[dict[str, Any]] = []


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note what happened; several notes are joined."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "the test carries no fault mark"
    row, what, expected = marker.args
    entry = {"row": row, "what": what, "expected": expected, "seen": ""}
    request.node.user_properties.append(("fault", entry))

    def say(text: str) -> None:
        entry["seen"] = "; ".join(filter(None, (entry["seen"], text)))

    return say


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the notes; a failed set-up counts as failed."""
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        for name, entry in report.user_properties:
            if name == "fault":
                _entries.append({**entry, "passed": report.outcome == "passed", "seconds": round(report.duration, 2)})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report when it is asked for, on the process that has all notes."""
    target = os.environ.get("FAULTS_JSON")
    if not target or hasattr(session.config, "workerinput"):
        return
    entries = sorted(_entries, key=lambda entry: (entry["row"], entry["what"]))
    missing = sorted(set(range(1, ROWS + 1)) - {entry["row"] for entry in entries})
    content = {
        "format": FORMAT,
        "machine": describe_machine("cpu", ROOT),
        "rows": ROWS,
        "rows_missing": missing,
        "faults": len(entries),
        "failed": len([entry for entry in entries if not entry["passed"]]),
        "results": entries,
    }
    path = ROOT / target
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
