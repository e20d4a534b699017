"""Quality as JSON and as a Markdown table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from anomap.calibration import COMBINED
from anomap.evaluation.auroc import MIN_PATIENTS
from anomap.evaluation.baselines import BASELINES
from anomap.evaluation.run import CategoryResult, NeedleResult, Quality, Separation

COLUMNS = ("wd_patch", "mse_patch", "wd_full", "mse_full", "w_distance", COMBINED, *BASELINES)
_SAME = "*"


def quality_json(quality: Quality) -> dict[str, Any]:
    """All figures as JSON values."""
    content = asdict(quality)
    content["categories"] = [asdict(category) for category in quality.categories]
    for name in ("needles", "visible_needles"):
        content[name]["images"] = list(content[name]["images"])
    content["normal"] = {"images": content.pop("normal_images"), "patients": content.pop("normal_patients")}
    return content


def quality_markdown(quality: Quality, title: str) -> str:
    """The AUROC table, the pairs and the needles, with what a reader must know to judge them.

    Args:
        quality: From `anomap.evaluation.run.evaluate`.
        title: Heading.
    """
    head = ["category", "images (patients)", *(name.replace("_", " ") for name in COLUMNS)]
    rows = [
        [_name(row), f"{row.images} ({row.patients})", *(_cell(row.separation[name]) for name in COLUMNS)]
        for row in quality.categories
    ]
    lines = [
        f"### {title}",
        "",
        f"AUROC against {quality.normal_images} normal images of {quality.normal_patients} patients that were not "
        f"trained on. In brackets the 95 % interval over patients (bootstrap of patients; none below {MIN_PATIENTS} "
        f"patients). {_SAME} all images come from data sets that training images come from too; others also differ in "
        "scanner and processing and may be told apart for that. The last two columns are baselines, no generator.",
        "",
        *_table(head, rows),
        "",
        *_pairs(quality),
        _needles(quality.needles, "wherever it falls"),
        _needles(quality.visible_needles, "where it changes the picture by a quarter of its range or more"),
        "",
    ]
    return "\n".join(lines)


def _name(row: CategoryResult) -> str:
    return row.category.replace("_", " ") + (f" {_SAME}" if row.same_sources else "")


def _cell(figures: Separation) -> str:
    if figures.interval is None:
        return f"{figures.auroc:.2f}"
    return f"{figures.auroc:.2f} [{figures.interval.low:.2f}, {figures.interval.high:.2f}]"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _pairs(quality: Quality) -> list[str]:
    rows = [row for row in quality.categories if row.pairs]
    if not rows:
        return []
    cells = [
        [_name(row), f"{next(iter(row.pairs.values())).pairs} ({row.paired_patients})"]
        + [f"{row.pairs[name].raised}" for name in COLUMNS]
        for row in rows
    ]
    head = ["category", "pairs (patients)", *(name.replace("_", " ") for name in COLUMNS)]
    return [
        "Images made from normal ones, against those very images: how many score higher than their own origin.",
        "",
        *_table(head, cells),
        "",
    ]


def _needles(found: NeedleResult, place: str) -> str:
    return (
        f"A needle drawn into {found.test.pairs} normal images of as many patients, {place}: the patch score rises "
        f"in {found.test.raised} of them (sign test p = {found.test.p_value:.2g}), that by MSE in "
        f"{found.mse_test.raised}; the top window touches the needle in {found.touched} "
        f"(pointing blindly: {found.expected_touched:.1f} expected)."
    )
