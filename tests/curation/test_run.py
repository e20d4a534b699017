"""A curation from the repository to the merged table: what rows say, and that going on gives the same table."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from anomap.bundle import load_bundle
from anomap.calibration import conformal_p
from anomap.calibration.cohort import column
from anomap.config import AnalyzeConfig
from anomap.curation.index import shard_rows
from anomap.curation.run import curate, in_this_process
from anomap.curation.schema import IMAGES, SCORE_NAMES
from anomap.curation.settings import IMAGES_FILE, INDEX_FILE, read_book
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.pipeline import analyze_series
from tests.curation.conftest import CONFIG, KEY
from tests.curation.trees import write_tree


def table(out):
    return pq.read_table(out / IMAGES_FILE)


@pytest.fixture(scope="module")
def rows(whole):
    return {row["path"]: row for row in table(whole).to_pylist()}


def test_the_table_has_the_promised_schema_and_a_row_for_every_file(whole, rows, tree):
    assert table(whole).schema == IMAGES
    assert list(rows) == sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())


def test_bad_files_are_rows_and_stop_nothing(rows, whole):
    errors = {path: row["error"] for path, row in rows.items() if row["error"]}
    assert errors == {
        "notes.txt": "E101",
        "empty": "E101",
        "mr": "E111",
        "pictures/colour.jpg": "E106",
        "pictures/flat.png": "E108",
        "pictures/cut.png": "E102",
    }
    for path in errors:
        assert rows[path]["tier"] == ""
        assert rows[path]["message"]
        assert rows[path]["wd_patch"] is None
        assert len(rows[path]["file_sha256"]) == 64
    assert read_book(whole).result["errors"] == dict(sorted(Counter(errors.values()).items()))


def test_scores_are_those_of_the_analysis_of_the_study(rows, tree, toy_models):
    for folder, pattern, name in (("xr/p2", "xr/p2/DX0001.dcm", "toy-radiograph"), ("b-series", "b-series/", "toy-ct")):
        bundle = load_bundle(toy_models / name)
        (series,) = read_study(tree / folder).series
        analysis = analyze_series(series, bundle, AnalyzeConfig(steps=2, device="cpu"))
        found = [row for path, row in rows.items() if path.startswith(pattern)]
        wanted = analysis.score_map.per_image
        assert sorted(row["wd_patch"] for row in found) == pytest.approx(sorted(wanted["wd_patch"]), rel=1e-3)
        assert sorted(row["p_wd_patch"] for row in found) == pytest.approx(
            sorted(conformal_p(wanted["wd_patch"], column(bundle.cohort, "wd_patch"))), rel=1e-6
        )


def test_a_projected_row_is_complete(rows):
    row = rows["xr/p0/DX0001.dcm"]
    assert (row["tier"], row["model"], row["format"]) == ("projected", "toy-radiograph", "dicom")
    assert all(row[name] is not None and row[f"p_{name}"] is not None for name in SCORE_NAMES)
    assert row["p_value"] == row["p_combined"]
    assert len(row["w"]) == 16
    with Image.open(io.BytesIO(row["thumbnail"])) as picture:
        assert (picture.format, picture.size) == ("WEBP", (96, 32))


def test_a_picture_has_the_same_scores_in_every_format(rows):
    pictures = [rows[f"pictures/{name}"] for name in ("grey.dcm", "copy.tif", "rgb.webp", "deep.png")]
    for other in pictures[1:]:
        assert other["pixel_sha256"] == pictures[0]["pixel_sha256"]
        assert other["phash"] == pictures[0]["phash"]
        assert other["wd_patch"] == pytest.approx(pictures[0]["wd_patch"], rel=1e-3)
    assert len({row["file_sha256"] for row in pictures}) == 4


def test_copies_are_counted(whole, rows):
    assert rows["xr-copy"]["file_sha256"] == rows["xr/p0/DX0001.dcm"]["file_sha256"]
    assert rows["xr-copy"]["image"] == rows["xr/p0/DX0001.dcm"]["image"]
    result = read_book(whole).result
    assert (result["repeated_files"], result["repeated_pictures"]) == (1, 4)


def test_a_score_does_not_depend_on_the_neighbours(rows, tree, toy_models, tmp_path):
    for size in (1, 100):
        out = tmp_path / str(size)
        curate(tree, out, toy_models, replace(CONFIG, shard_size=size), lambda _: None, patient_key=KEY)
        for row in table(out).to_pylist():
            same = rows[row["path"]]
            assert row["error"] == same["error"]
            for name in ("cheap", "wd_patch", "w_distance") if not row["error"] else ():
                assert row[name] == pytest.approx(same[name], rel=1e-3), (row["path"], name)


def test_finished_shards_are_kept_and_the_rest_gives_the_same_table(whole, tree, toy_models, tmp_path):
    class CutError(Exception):
        pass

    def cut_after_two(task, numbers):
        for place, outcome in enumerate(in_this_process(task, numbers)):
            yield outcome
            if place == 1:
                raise CutError

    out, seen = tmp_path / "out", []
    with pytest.raises(CutError):
        curate(tree, out, toy_models, CONFIG, lambda _: None, patient_key=KEY, engine=cut_after_two)
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert len(kept) == 2
    assert not (out / IMAGES_FILE).exists()
    curate(tree, out, toy_models, CONFIG, seen.append)
    assert {path.name: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}.items() >= kept.items()
    assert sorted(event["number"] for event in seen if event["event"] == "shard") == list(
        range(2, read_book(out).shards)
    )
    assert table(out).equals(table(whole))
    curate(tree, out, toy_models, CONFIG, seen.append)  # and once more, with nothing to do
    assert table(out).equals(table(whole))


def test_other_settings_and_another_tree_are_refused_unless_overwritten(toy_models, tmp_path):
    root, out = write_tree(tmp_path / "root"), tmp_path / "out"
    curate(root, out, toy_models, CONFIG, lambda _: None)
    (out / "decisions.csv").write_text("path,frame,decision,reason\n")
    with pytest.raises(AnomapError, match="steps was 2") as caught:
        curate(root, out, toy_models, replace(CONFIG, steps=1), lambda _: None)
    assert caught.value.code == "E700"
    (root / "notes.txt").unlink()
    with pytest.raises(AnomapError, match="files now") as caught:
        curate(root, out, toy_models, CONFIG, lambda _: None)
    assert caught.value.code == "E700"
    before = table(out)
    curate(root, out, toy_models, CONFIG, lambda _: None, overwrite=True)
    assert len(table(out)) == len(before) - 1
    assert (out / "decisions.csv").exists()


def test_a_folder_with_something_else_is_not_touched(tree, toy_models, tmp_path):
    (tmp_path / "precious").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(AnomapError) as caught:
            curate(tree, tmp_path, toy_models, CONFIG, lambda _: None, overwrite=overwrite)
        assert caught.value.code == "E201"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(AnomapError) as caught:
        curate(tree, tree, toy_models, CONFIG, lambda _: None)
    assert caught.value.code == "E201"


def test_a_file_that_changed_since_is_an_error_and_not_another_image(toy_models, tmp_path):
    root, out = write_tree(tmp_path / "root"), tmp_path / "out"

    def spoil_first(task, numbers):
        (root / "pictures" / "grey.dcm").write_bytes((root / "pictures" / "copy.tif").read_bytes())
        (root / "xr-copy").unlink()
        return in_this_process(task, numbers)

    curate(root, out, toy_models, CONFIG, lambda _: None, engine=spoil_first)
    errors = {row["path"]: row["error"] for row in table(out).to_pylist()}
    assert errors["pictures/grey.dcm"] == errors["xr-copy"] == "E701"
    assert errors["pictures/copy.tif"] == ""


def test_triage_projects_what_stands_above_its_quantile(rows, tree, toy_models, tmp_path):
    out, seen = tmp_path / "out", []
    config = replace(CONFIG, triage=0.6)
    book = curate(tree, out, toy_models, config, seen.append, patient_key=KEY)
    found = {row["path"]: row for row in table(out).to_pylist()}
    cheap = {path: row["cheap"] for path, row in found.items() if row["cheap"] is not None}
    assert cheap == pytest.approx({path: row["cheap"] for path, row in rows.items() if path in cheap}, rel=1e-3)
    assert book.triage_threshold == pytest.approx(np.quantile(list(cheap.values()), 0.6))
    for path, value in cheap.items():
        above = value > book.triage_threshold
        assert found[path]["tier"] == ("projected" if above else "cheap")
        assert (found[path]["wd_patch"] is None) == (not above)
        if above:
            assert found[path]["wd_patch"] == pytest.approx(rows[path]["wd_patch"], rel=1e-3)
    assert {event["stage"] for event in seen if event["event"] == "shard"} == {"first look", "score"}
    assert len(shard_rows(out / INDEX_FILE, 0)) > 0


def test_events_tell_rate_and_rest(tree, toy_models, tmp_path):
    seen = []
    curate(tree, tmp_path / "out", toy_models, CONFIG, seen.append)
    shards = [event for event in seen if event["event"] == "shard"]
    assert shards[-1]["done"] == shards[-1]["of"] == len(shards)
    assert shards[-1]["images"] == len(table(tmp_path / "out"))
    assert shards[-1]["errors"] == 6
    assert shards[-1]["eta_s"] == 0
    assert all(event["images_per_s"] > 0 for event in shards)
