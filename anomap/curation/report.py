"""From ``images.parquet`` to ``report.html`` and the first ``decisions.csv``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from anomap.calibration import COMBINED
from anomap.curation.decisions import FILE as DECISIONS
from anomap.curation.decisions import WORDS, Decision, Key, read_decisions, write_decisions
from anomap.curation.findings import Findings, examine
from anomap.curation.pack import Pack, rounded
from anomap.curation.page import curation_page
from anomap.curation.results import numbers, read_images, read_rows, words
from anomap.curation.schema import SCORE_NAMES
from anomap.curation.settings import BOOK, REPORT_FILE, ReportConfig
from anomap.errors import CODES
from anomap.output import appearing, writing
from anomap.scoring import SCORES

_CODES = (
    "patient", "modality", "body_part", "view_position", "laterality", "photometric", "manufacturer", "model", "tier",
    "looks", "error",
)  # fmt: skip


def write_report(output: Path, config: ReportConfig | None = None) -> list[str]:
    """Write ``report.html``; and ``decisions.csv`` with what is proposed for images that have no decision yet.

    Decisions that stand in ``decisions.csv`` are never changed.

    Args:
        output: Folder of ``anomap curate``.
        config: What the page shows.

    Returns:
        Lines that say what was written.

    Raises:
        AnomapError: E703 when the folder holds no complete result, E710 or E711 when its
            ``decisions.csv`` can't be read, E202 when writing fails.
    """
    config = config or ReportConfig()
    images = read_images(output)
    keys: list[Key] = list(zip(words(images, "path"), images["frame"].to_pylist(), strict=True))
    listed = read_decisions(output / DECISIONS) if (output / DECISIONS).exists() else {}
    found = examine(output, images, shown=config.thumbnails, alpha=config.alpha, near_bits=config.near)
    decisions = {key: listed.get(key, proposed) for key, proposed in zip(keys, found.proposal, strict=True)}
    pictures = [picture or b"" for picture in read_rows(output, "thumbnail", found.shown)]
    title, facts = f"Curation of {_root_name(output)}", _facts(images, config, sum(map(bool, pictures)))
    page = curation_page(title, facts, _pack(images, found, [decisions[key] for key in keys]), pictures)
    with writing(), appearing(output / REPORT_FILE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    file = output / REPORT_FILE
    size = f"{facts['with_picture']} pictures, {file.stat().st_size / 1e6:.1f} MB"
    return [
        f"{file}: {images.num_rows} images, {size} (images of patients)",
        _update(output / DECISIONS, decisions, listed),
    ]


def _update(file: Path, decisions: dict[Key, Decision], listed: dict[Key, Decision]) -> str:
    """Bring the list up to date; one with decisions on images that are gone is left as it is."""
    gone = len(listed.keys() - decisions.keys())
    if gone:
        return f"{file}: left as it is; {gone} of its images are not in this curation"
    if listed.keys() != decisions.keys():
        write_decisions(file, decisions)
    count = {word: sum(d.word == word for d in decisions.values()) for word in WORDS}
    return f"{file}: " + ", ".join(f"{word} {count[word]}" for word in WORDS)


def _pack(images: pa.Table, found: Findings, decisions: list[Decision]) -> Pack:
    pack = Pack()
    pack.texts("path", words(images, "path"))
    for name in ("frame", "rows", "columns"):
        pack.numbers(name, np.nan_to_num(numbers(images, name)).astype(np.int32))
    for name in _CODES:
        pack.codes(name, words(images, name))
    for score in _scores(images):
        pack.numbers(score["name"], rounded(numbers(images, score["name"])))
        if score["p"] in images.column_names:
            pack.numbers(score["p"], numbers(images, score["p"]))
    pack.numbers("p_value", numbers(images, "p_value"))
    rank = np.empty(images.num_rows, np.int32)
    rank[found.order] = np.arange(1, images.num_rows + 1)
    cluster = np.full(images.num_rows, -1, np.int32)
    cluster[found.shown] = found.neighbours.cluster
    for name, values in (("rank", rank), ("cluster", cluster), ("equal", found.equal), ("near", found.near)):
        pack.numbers(name, values)
    nearest = found.neighbours.nearest
    pack.numbers("nearest", np.where(nearest < 0, -1, found.shown[nearest]).ravel())
    pack.numbers("distance", rounded(found.neighbours.distance.ravel()))
    pack.codes("disagreement", found.disagreement)
    pack.codes("reason", [decision.reason for decision in decisions])
    pack.numbers("decision", np.array([WORDS.index(decision.word) for decision in decisions], np.int32))
    return pack


def _scores(images: pa.Table) -> list[dict[str, str]]:
    """Columns of scores with a value in any row, the one the page begins with first."""
    names = [COMBINED, *(name for name in SCORE_NAMES if name != COMBINED), "cheap", "looks_ratio"]
    return [
        {
            "name": name,
            "label": name.replace("_", " "),
            "unit": SCORES[name].unit if name in SCORES else "",
            "p": f"p_{name}",
        }
        for name in names
        if np.isfinite(numbers(images, name)).any()
    ]


def _facts(images: pa.Table, config: ReportConfig, with_picture: int) -> dict[str, Any]:
    errors = [code for code in words(images, "error") if code]
    projected = words(images, "tier").count("projected")
    shown = min(config.thumbnails, images.num_rows)
    return {
        "count": images.num_rows,
        "with_picture": with_picture,
        "decisions": WORDS,
        "scores": _scores(images),
        "errors": {code: CODES[code].title for code in sorted(set(errors)) if code in CODES},
        "summary": (
            f"{images.num_rows:,} images, {projected:,} projected, {len(errors):,} with an error. The first {shown:,} "
            f"of the ranking have pictures and neighbours, those of them with p up to {config.alpha:g} clusters. "
            "This page shows images of patients, and the names of their files: keep it as you keep those."
        ),
    }


def _root_name(output: Path) -> str:
    try:
        return str(json.loads((output / BOOK).read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return "a repository"
