"""Carrying out decisions: lists, and a folder of what is kept. The repository is never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap import cli
from anomap.curation.decisions import Decision, read_decisions, write_decisions
from anomap.curation.report import write_report
from anomap.curation.schema import IMAGES, INDEX, empty_row, table_of


@pytest.fixture
def output(whole, tmp_path) -> Path:
    """A curation of the repository `tree` with its list, the radiographs to be kept (to a toy model all are odd)."""
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    write_report(output)
    decide(output, lambda path, d: Decision(word="keep") if path.startswith("xr/") else d)
    return output


def apply(output: Path, *words: object) -> int:
    return cli.main(["curate", "apply", str(output), "--decisions", str(output / "decisions.csv"), *map(str, words)])


def decide(output: Path, change=lambda path, decision: decision) -> dict[str, str]:
    """Change the list; what each path is to be."""
    listed = read_decisions(output / "decisions.csv")
    made = {key: change(key[0], decision) for key, decision in listed.items()}
    write_decisions(output / "decisions.csv", made)
    return {path: decision.word for (path, _), decision in made.items()}


def lists(output: Path) -> dict[str, set[str]]:
    return {word: set((output / f"{word}.txt").read_text().splitlines()) for word in ("keep", "look", "drop")}


def state(root: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def refused(capsys, status: int) -> str:
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert status in (2, 3)
    return said


def test_lists_name_each_file_once_by_its_decision(output, capsys):
    words = decide(output, lambda path, d: Decision(word="drop") if path.startswith("pictures/") else d)
    assert apply(output) == 0
    found = lists(output)
    for word, paths in found.items():
        assert paths == {f"./{path}" for path, said in words.items() if said == word}
    assert len(found["drop"]) == sum(path.startswith("pictures/") for path in words)
    assert f"{output}/keep.txt: {len(found['keep'])} files" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["copy", "link"])
def test_kept_files_are_placed_as_they_lie_and_the_repository_stays(output, tree, tmp_path, how, capsys):
    before = state(tree)
    words = decide(output)
    to = tmp_path / "kept"
    assert apply(output, "--root", tree, "--to", to, "--how", how) == 0
    kept = {path for path, word in words.items() if word == "keep"}
    assert len(kept) == 4
    assert state(to) == {path: before[path] for path in kept}
    assert state(tree) == before
    for path in kept:
        assert (tree / path).samefile(to / path) == (how == "link")
    assert f"{to}: {len(kept)} files" in capsys.readouterr().out
    assert not list(tmp_path.glob(".kept*"))


def test_an_edited_list_of_a_spreadsheet_is_carried_out(output):
    file = output / "decisions.csv"
    text = file.read_text(encoding="utf-8-sig").replace(",", ";").replace("\n", "\r\n").replace("look", "Drop")
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert apply(output) == 0
    assert lists(output)["look"] == set()


def test_images_that_are_not_in_the_list_are_to_be_looked_at(output, capsys):
    listed = read_decisions(output / "decisions.csv")
    left_out = [key for key, decision in listed.items() if decision.word == "keep"][:2]
    write_decisions(output / "decisions.csv", {key: d for key, d in listed.items() if key not in left_out})
    assert apply(output) == 0
    assert {f"./{path}" for path, _ in left_out} <= lists(output)["look"]
    assert "not in the list, so to be looked at: 2 images" in capsys.readouterr().err


def test_a_list_that_does_not_fit_changes_nothing(output, tree, tmp_path, capsys):
    with (output / "decisions.csv").open("a") as file:
        file.write("./Muster^Max.dcm,0,keep,\n")
    assert apply(output, "--root", tree, "--to", tmp_path / "kept") == 2
    said = refused(capsys, 2)
    assert "E711" in said
    assert "there is no such image" in said
    assert "Muster" not in said
    assert not (output / "keep.txt").exists()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_file_that_is_not_what_was_curated_stops_the_copy(output, tree, tmp_path, damage, capsys):
    root = tmp_path / "root"
    shutil.copytree(tree, root)
    path = next(path for path, word in reversed(decide(output).items()) if word == "keep")
    if damage == "gone":
        (root / path).unlink()
    else:
        with (root / path).open("ab") as file:
            file.write(b"\0")
    assert apply(output, "--root", root, "--to", tmp_path / "kept") == 3
    said = refused(capsys, 3)
    assert "E701" in said
    assert path not in said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "root"]


def test_a_folder_that_holds_something_is_not_touched(output, tree, tmp_path, capsys):
    to = tmp_path / "kept"
    to.mkdir()
    (to / "mine").write_text("mine")
    assert apply(output, "--root", tree, "--to", to) == 2
    assert "E201" in refused(capsys, 2)
    assert [entry.name for entry in to.iterdir()] == ["mine"]
    (to / "mine").unlink()
    assert apply(output, "--root", tree, "--to", to) == 0
    assert any(to.rglob("*.dcm"))


def test_nothing_is_written_into_the_repository(output, tree, capsys):
    before = state(tree)
    assert apply(output, "--root", tree, "--to", tree / "kept") == 2
    assert "E200 the folder for the kept files lies in the repository" in refused(capsys, 2)
    assert state(tree) == before


@pytest.mark.parametrize("words", [("--to", "x"), ("--root", "x")])
def test_folder_and_root_go_together(output, words, capsys):
    assert apply(output, *words) == 2
    assert "E200 --to and --root go together" in refused(capsys, 2)


def made(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    images = [empty_row(IMAGES) | {"frame": 0} | row for row in rows]
    pq.write_table(table_of(images, IMAGES), folder / "images.parquet")
    index = [{name: row.get(name) for name in INDEX.names} for row in images]
    pq.write_table(table_of(index, INDEX), folder / "index.parquet")
    write_report(folder)
    return folder


def test_a_volume_gets_the_strictest_of_its_slices_decisions(tmp_path):
    rows = [{"path": path, "frame": frame} for path in ("a.nii", "b.nii") for frame in range(3)]
    output = made(tmp_path / "out", rows)
    listed = read_decisions(output / "decisions.csv")
    listed[("a.nii", 1)], listed[("a.nii", 2)] = Decision(word="drop"), Decision(word="look")
    write_decisions(output / "decisions.csv", listed)
    assert apply(output) == 0
    assert lists(output) == {"keep": {"./b.nii"}, "look": set(), "drop": {"./a.nii"}}


def test_names_that_are_no_text_are_copied_by_their_bytes(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    raw = b"\xff\xfe.dcm"
    (root / os.fsdecode(raw)).write_bytes(b"pixels")
    row = {"path": "\\xff\\xfe.dcm", "raw_path": raw, "file_sha256": hashlib.sha256(b"pixels").hexdigest()}
    output = made(tmp_path / "out", [row])
    assert apply(output, "--root", root, "--to", tmp_path / "kept") == 0
    assert [os.fsencode(path.name) for path in (tmp_path / "kept").iterdir()] == [raw]


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/hostname", "."])
def test_no_path_leads_out_of_the_repository(tmp_path, path, capsys):
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    output = made(tmp_path / "out", [{"path": path}])
    assert apply(output, "--root", root, "--to", tmp_path / "kept") == 2
    assert "E703 a path leads out of the repository" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_line_break_in_a_path_is_refused_before_any_list_is_written(tmp_path, capsys):
    output = made(tmp_path / "out", [{"path": "a\nb.dcm"}, {"path": "c.dcm"}])
    assert apply(output) == 2
    assert "E712" in refused(capsys, 2)
    assert not (output / "keep.txt").exists()
