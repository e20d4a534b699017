"""Results of past studies, and whether their p-values are still uniform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomap.calibration.watch import Drift, drift
from anomap.errors import AnomapError
from anomap.output import RESULT
from anomap.types import Float64

MIN_RESULTS = 10  # with fewer even a large change stays unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A series' result: when, against which cohort and how many patients of it, with which p-value.

    Where a quick look came first, the p-value is that of the look: all series have one, and only odd ones the other.
    """

    created: str
    cohort: str
    patients: int
    p_value: float


def records(*folders: Path) -> list[Record]:
    """All series in trees of results that were compared with a site's cohort, oldest first.

    Files that are no results of anomap are passed over.
    """
    paths = [path for folder in folders for path in sorted(folder.rglob(RESULT))]
    found = [record for path in paths if (record := _record(path)) is not None]
    return sorted(found, key=lambda record: record.created)


def watch(found: list[Record], last: int) -> tuple[Drift, Float64]:
    """Test the newest results against the newest one's cohort.

    Args:
        found: Oldest first.
        last: Most results that count.

    Returns:
        The outcome and the p-values.

    Raises:
        AnomapError: E100 when there are fewer than `MIN_RESULTS` results.
    """
    newest = found[-1] if found else None
    kin = [r for r in found if newest and (r.cohort, r.patients) == (newest.cohort, newest.patients)][-last:]
    if len(kin) < MIN_RESULTS:
        raise AnomapError(
            "E100", f"expected at least {MIN_RESULTS} results with a site's cohort, found {len(kin)}", "Wait for more."
        )
    p_values = np.array([record.p_value for record in kin])
    return drift(p_values, kin[-1].patients), p_values


def _record(path: Path) -> Record | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != "series" or content["status"] != "complete" or not content["cohort"].get("patients"):
            return None
        first = content.get("tier", {}).get("first_look")
        cohort, p_value = (first["cohort"], first["p_value"]) if first else (content["cohort"], content["p_value"])
        return Record(
            created=str(content["run"]["created"]),
            cohort=str(cohort["id"]),
            patients=int(cohort["patients"]),
            p_value=float(p_value),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def lines(outcome: Drift, level: float) -> Iterator[str]:
    """The outcome in words."""
    yield (
        f"{outcome.results} results against {outcome.patients} patients: largest distance {outcome.distance:.3f}, "
        f"p = {outcome.p_value:.3g}"
    )
    if outcome.p_value <= level:
        what = "more" if outcome.direction == "odder" else "fewer"
        yield f"DRIFT: {what} small p-values than the cohort promises. Find out what changed; calibrate again."
    else:
        yield "no drift seen"
