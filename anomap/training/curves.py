"""The curves of a run, ``log.csv``: written whole from the rows in the checkpoint, so none is lost or doubled."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomap.output import appearing

COLUMNS = (
    "kimg",
    "minutes",
    "images_per_s",
    "eta_minutes",
    "loss_g",
    "loss_d",
    "sign_real",
    "r1",
    "augment_p",
    "frechet",
)


def write_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Replace `path` by all rows; what a row doesn't have is an empty cell."""
    with appearing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)


def is_best(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last row has the least Fréchet distance so far; false when it has none."""
    known = [row["frechet"] for row in rows if "frechet" in row]
    return bool(known) and rows[-1].get("frechet") == min(known)
