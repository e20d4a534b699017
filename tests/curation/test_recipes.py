"""Every recipe of docs/curation-report.md, run by DuckDB on made-up tables, against the answer of plain Python."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import duckdb
import pyarrow.parquet as pq
import pytest

from anomap.curation.decisions import read_decisions
from anomap.curation.report import write_report
from benchmarks.curation_page import write_made_up

PAGE = Path(__file__).parents[2] / "docs" / "curation-report.md"
RECIPES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    write_made_up(folder, 1500)
    write_report(folder)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for n, path in enumerate(pq.read_table(folder / "images.parquet")["path"].to_pylist()[::2]):
            writer.writerow([path, "knee" if n % 3 else "chest"])
    return folder


@pytest.fixture(scope="module")
def rows(output):
    return pq.read_table(output / "images.parquet").to_pylist()


@pytest.fixture
def ask(output, monkeypatch):
    """Run the one recipe that holds a phrase; its rows as dicts."""

    def run(phrase: str) -> list[dict]:
        (recipe,) = (text for text in RECIPES if phrase in text)
        monkeypatch.chdir(output)
        with duckdb.connect() as connection:
            answer = connection.execute(recipe)
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    return run


def share(values: list[float | None]) -> float | None:
    there = [value <= 0.05 for value in values if value is not None]
    return sum(there) / len(there) if there else None


def test_there_are_eight_recipes():
    assert len(RECIPES) == 8


def test_the_oddest_images(ask, rows):
    odd = sorted((r for r in rows if r["p_value"] is not None), key=lambda r: (r["p_value"], -r["combined"]))[:20]
    assert [found["path"] for found in ask("LIMIT 20")] == [r["path"] for r in odd]


def test_shares_by_manufacturer(ask, rows):
    expected = defaultdict(list)
    for row in rows:
        expected[row["manufacturer"]].append(row["p_value"])
    found = {one["manufacturer"]: one for one in ask("GROUP BY manufacturer")}
    assert found.keys() == expected.keys()
    for maker, values in expected.items():
        assert found[maker]["images"] == len(values)
        assert found[maker]["projected"] == sum(value is not None for value in values)
        assert found[maker]["share_of_outliers"] == pytest.approx(share(values))


def test_the_same_pixels_under_several_patients(ask, rows):
    groups = defaultdict(list)
    for row in rows:
        if row["pixel_sha256"]:
            groups[row["pixel_sha256"]].append(row)
    expected = {
        pixels: sorted(r["path"] for r in group)
        for pixels, group in groups.items()
        if len({r["patient"] for r in group}) > 1
    }
    assert expected
    assert {one["pixel_sha256"]: one["paths"] for one in ask("count(DISTINCT patient) > 1")} == expected


def test_errors_by_code(ask, rows):
    expected = Counter(row["error"] for row in rows if row["error"])
    found = ask("min(path) AS example")
    assert {one["error"]: one["files"] for one in found} == expected
    for one in found:
        assert one["example"] == min(row["path"] for row in rows if row["error"] == one["error"])


def test_own_labels(ask, rows, output):
    with (output / "labels.csv").open(newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    found = {one["label"]: one for one in ask("labels.csv")}
    assert found.keys() == {"knee", "chest"}
    for label, one in found.items():
        values = [row["p_value"] for row in rows if labels.get(row["path"]) == label]
        assert one["images"] == len(values)
        assert one["found"] == pytest.approx(share(values))
        assert one["median_p"] == pytest.approx(median(value for value in values if value is not None))


def test_the_histogram_counts_every_p_value_once(ask, rows):
    expected = Counter(min(int(row["p_value"] * 10), 9) for row in rows if row["p_value"] is not None)
    found = ask("bar(count(*)")
    assert {round(10 * one["from_p"]): one["images"] for one in found} == expected
    longest = max(found, key=lambda one: one["images"])
    assert len(longest["bars"].rstrip()) == 40


def test_tags_against_looks(ask, rows):
    expected = Counter(
        (row["photometric"], row["view_position"], row["looks"])
        for row in rows
        if row["looks"] not in ("", "as tagged")
    )
    found = {(one["photometric"], one["view_position"], one["looks"]): one["images"] for one in ask("GROUP BY ALL")}
    assert found == expected


def test_what_is_kept_is_exported(ask, rows, output):
    assert ask("COPY") is not None
    kept = {key for key, decision in read_decisions(output / "decisions.csv").items() if decision.word == "keep"}
    table = pq.read_table(output / "kept.parquet")
    assert set(zip(table["path"].to_pylist(), table["frame"].to_pylist(), strict=True)) == kept
    assert table.column_names == ["path", "frame", "patient", "view_position"]
