"""From tables to page and list: ranking, findings, proposals; what is kept, and what never stands in the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomap import cli
from anomap.curation.decisions import Decision, read_decisions, write_decisions
from anomap.curation.findings import disagreements, examine
from anomap.curation.ranking import outliers, ranking
from anomap.curation.report import write_report
from anomap.curation.results import read_images, read_rows
from anomap.curation.schema import IMAGES, empty_row, table_of
from anomap.curation.settings import ReportConfig
from anomap.errors import AnomapError
from benchmarks.curation_page import write_made_up


def table(*rows: dict) -> pa.Table:
    return table_of([empty_row(IMAGES) | {"path": f"{n}.dcm", "frame": 0} | row for n, row in enumerate(rows)], IMAGES)


def write(folder, *rows: dict):
    folder.mkdir(exist_ok=True)
    pq.write_table(table(*rows), folder / "images.parquet")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("made")
    write_made_up(output, 900)
    return output


def test_the_oddest_come_first_and_unread_files_last():
    images = table(
        {"cheap": 9.0},
        {"error": "E102"},
        {"p_value": 0.2, "combined": 5.0},
        {"p_value": 0.01, "combined": 1.0},
        {"p_value": 0.01, "combined": 3.0},
        {"combined": 4.0},
        {"wd_patch": 7.0},
        {"cheap": 11.0},
    )
    assert ranking(images).tolist() == [4, 3, 2, 5, 6, 7, 0, 1]
    assert ranking(table()).tolist() == []


def test_outliers_are_at_or_below_alpha_and_need_a_cohort():
    images = table({"p_value": 0.05}, {"p_value": 0.0501}, {"combined": 99.0}, {"p_value": 0.01})
    assert outliers(images, 0.05).tolist() == [True, False, False, True]


def test_tags_that_disagree_with_the_pixels_are_said():
    images = table(
        {"looks": "inverted", "photometric": "MONOCHROME1"},
        {"looks": "rotated90", "view_position": "PA"},
        {"looks": "mirrored", "laterality": "L"},
        {"looks": "mirrored"},
        {"looks": "as tagged", "photometric": "MONOCHROME1"},
        {},
    )
    assert disagreements(images) == [
        "MONOCHROME1, looks inverted", "PA, looks turned by 90°", "L, looks mirrored", "looks mirrored", "", "",
    ]  # fmt: skip


def test_nothing_is_ever_proposed_to_be_dropped_and_each_proposal_has_its_reason(tmp_path):
    output = write(
        tmp_path / "out",
        {"pixel_sha256": "aa", "phash": 0xFF00FF},
        {"pixel_sha256": "aa", "phash": 0xFF00FF},
        {"pixel_sha256": "bb", "phash": 0xFF00FD},
        {"p_value": 0.01, "looks": "inverted", "phash": 2**63 + 1},
        {"error": "E102"},
        {"p_value": 0.5, "phash": 1234567 << 30},
    )
    found = examine(output, read_images(output), shown=3, alpha=0.05, near_bits=2)
    assert [(d.word, d.reason) for d in found.proposal] == [
        ("keep", ""),
        ("look", "pixels of an earlier image"),
        ("look", "nearly an earlier image"),
        ("look", "p = 0.01; looks inverted"),
        ("look", "E102"),
        ("keep", ""),
    ]
    assert found.equal.tolist() == [1, 1, 0, 0, 0, 0]
    assert found.near.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.shown.tolist() == [3, 5, 0]


def test_rows_of_large_columns_come_in_the_order_asked_for(made):
    rows = np.array([700, 3, 899, 3, 0])
    whole = pq.read_table(made / "images.parquet", columns=["w", "thumbnail"])
    for name in ("w", "thumbnail"):
        assert read_rows(made, name, rows) == [whole[name][int(row)].as_py() for row in rows]
    assert read_rows(made, "w", rows[:0]) == []


def test_the_page_says_what_it_is_not_and_holds_no_name_as_text(made):
    lines = write_report(made, ReportConfig(thumbnails=50))
    assert lines[0].startswith(f"{made / 'report.html'}: 900 images, 50 pictures, ")
    page = (made / "report.html").read_text()
    assert "Research use only. Not a diagnosis, not lesion detection." in page
    images = read_images(made)
    for name in ("path", "patient"):
        assert all(value not in page for value in images[name].to_pylist()), name
    assert str(made) not in page
    assert not re.search(r"https?://", page)
    assert not re.search(r"<[a-z][^>]*\s(on\w+|style|src|href)=", page.split("<script")[0])


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(made):
    write_report(made)
    page = (made / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    for rule, pattern in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        content = re.search(pattern, page, re.DOTALL)[1]
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_what_a_table_says_can_not_end_the_script_it_stands_in(tmp_path):
    evil = "</script><img src=x>"
    output = write(tmp_path / "out", {"path": evil, "manufacturer": evil, "error": evil, "model": evil})
    (output / "curate.json").write_text(json.dumps({"root": evil}))
    write_report(output)
    page = (output / "report.html").read_text()
    assert "<img" not in page
    assert page.count("</script>") == 4


def test_the_same_results_make_the_same_page(made):
    write_report(made)
    first = (made / "report.html").read_bytes()
    write_report(made)
    assert (made / "report.html").read_bytes() == first


def test_decisions_in_the_list_are_kept_and_new_images_get_proposals(tmp_path):
    output = write(tmp_path / "out", {}, {"error": "E102"})
    write_report(output)
    file = output / "decisions.csv"
    assert read_decisions(file)[("1.dcm", 0)] == Decision(word="look", reason="E102")
    mine = {("0.dcm", 0): Decision(word="drop", reason="mine"), ("1.dcm", 0): Decision(word="keep", reason="E102")}
    write_decisions(file, mine)
    write(output, {}, {"error": "E102"}, {"p_value": 0.01})
    assert write_report(output)[1] == f"{file}: keep 1, look 1, drop 1"
    assert read_decisions(file) == mine | {("2.dcm", 0): Decision(word="look", reason="p = 0.01")}


def test_a_list_with_images_that_are_gone_is_left_as_it_is(tmp_path):
    output = write(tmp_path / "out", {}, {})
    write_report(output)
    before = (output / "decisions.csv").read_bytes()
    write(output, {})
    assert write_report(output)[1].endswith("left as it is; 1 of its images are not in this curation")
    assert (output / "decisions.csv").read_bytes() == before


def test_a_list_that_can_not_be_read_stops_the_report_and_changes_nothing(tmp_path):
    output = write(tmp_path / "out", {})
    (output / "decisions.csv").write_text("path,frame,decision\n0.dcm,0,perhaps\n")
    with pytest.raises(AnomapError, match=r"^E711 decisions.csv: line 2"):
        write_report(output)
    assert not (output / "report.html").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"thumbnails": -1}, "--thumbnails"),
        ({"alpha": 0.0}, "--alpha"),
        ({"alpha": 1.0}, "--alpha"),
        ({"near": 9}, "--near"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(AnomapError, match=f"^E200 {said} must"):
        ReportConfig(**settings)


def test_a_folder_without_results_or_with_damaged_ones_is_refused(tmp_path):
    with pytest.raises(AnomapError, match=r"^E703 the folder holds no images.parquet"):
        write_report(tmp_path)
    (tmp_path / "images.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(AnomapError, match=r"^E703 images.parquet can't be read"):
        write_report(tmp_path)
    pq.write_table(table({}).drop_columns(["phash", "w"]), tmp_path / "images.parquet")
    with pytest.raises(AnomapError, match=r"^E703 images.parquet lacks the columns phash, w"):
        write_report(tmp_path)


def test_an_empty_curation_has_a_page_too(tmp_path):
    lines = write_report(write(tmp_path / "out"))
    assert "0 images, 0 pictures" in lines[0]
    assert lines[1].endswith("keep 0, look 0, drop 0")


def test_as_json_a_curation_says_one_line_and_reports_all_the_same(whole, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    assert cli.main(["curate", "merge", str(output), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "result"
    assert (output / "report.html").is_file()
    assert (output / "decisions.csv").is_file()


@pytest.mark.parametrize(("name", "option"), [("report", "--thumbnails"), ("apply", "--decisions")])
def test_the_commands_explain_themselves(name, option, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["curate", name, "--help"])
    assert ended.value.code == 0
    assert option in capsys.readouterr().out
