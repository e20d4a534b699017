"""The index: formats by their bytes, tags without a patient's name, shards that keep a series together."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.curation.formats import format_of
from anomap.curation.index import assign, build_index, shard_rows, tree_sha256
from anomap.curation.schema import INDEX
from anomap.curation.settings import INDEX_FILE
from anomap.errors import AnomapError


@pytest.fixture(scope="module")
def rows(whole):
    table = pq.read_table(whole / INDEX_FILE)
    assert table.schema == INDEX
    return {row["path"]: row for row in table.to_pylist()}


def test_every_file_has_a_row_in_path_order(rows, tree):
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert list(rows) == files


def test_formats_follow_the_bytes_not_the_names(rows):
    formats = {path: row["format"] for path, row in rows.items()}
    assert formats["z-last-slice.png"] == "dicom"
    assert formats["pictures/grey.dcm"] == "png"
    assert formats["pictures/copy.tif"] == "tiff"
    assert formats["pictures/rgb.webp"] == "webp"
    assert formats["pictures/colour.jpg"] == "jpeg"
    assert formats["notes.txt"] == formats["empty"] == ""


def test_what_headers_tell_is_an_error_of_the_index(rows):
    errors = {path: row["error"] for path, row in rows.items() if row["error"]}
    assert errors == {"notes.txt": "E101", "empty": "E101", "mr": "E111"}


def test_tags_hold_codes_and_hashes_and_nothing_else(rows, whole):
    row = rows["xr/p1/DX0001.dcm"]
    assert (row["modality"], row["body_part"], row["manufacturer"]) == ("DX", "CHEST", "Maker, Inc.")
    assert (row["rows"], row["columns"], row["slices"]) == (64, 56, 1)
    assert row["patient"] == rows["xr/p0/DX0001.dcm"]["patient"] != rows["xr/p2/DX0001.dcm"]["patient"]
    assert all(len(row[name]) == 16 for name in ("patient", "study", "series", "image"))
    for path in whole.rglob("*"):
        assert not path.is_file() or b"ZZPHI" not in path.read_bytes(), path


def test_a_series_has_one_shard_wherever_its_slices_lie(rows):
    series = [row for path, row in rows.items() if path.startswith("a-series") or path == "z-last-slice.png"]
    assert len(series) == 5
    assert {row["shard"] for row in series} == {series[0]["shard"]}
    assert {row["slices"] for row in series} == {5}


def test_rows_of_a_shard_are_found(whole, rows):
    for number in {row["shard"] for row in rows.values()}:
        found = shard_rows(whole / INDEX_FILE, number)
        assert [row["path"] for row in found] == [path for path, row in rows.items() if row["shard"] == number]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(1, 8))
def test_shards_are_full_and_ordered_and_keep_groups_together(groups, size):
    shards, sizes = assign(np.array(groups), size)
    assert sorted(set(shards)) == list(range(shards.max() + 1))
    firsts = [int(np.flatnonzero(shards == n)[0]) for n in range(shards.max() + 1)]
    assert firsts == sorted(firsts)
    for group in set(groups) - {-1}:
        members = np.flatnonzero(np.array(groups) == group)
        assert len(set(shards[members])) == 1
        assert (sizes[members] == len(members)).all()
    for shard in range(shards.max() + 1):
        held = np.flatnonzero(shards == shard)
        units = {groups[n] if groups[n] >= 0 else f"alone {n}" for n in held}
        assert len(held) <= size or len(units) == 1


def test_the_tree_hash_notices_a_change_and_nothing_else(tree, whole, tmp_path):
    (tmp_path / "x").write_text("one")
    before = tree_sha256(tmp_path, whole)
    assert before == tree_sha256(tmp_path, whole)
    (tmp_path / "x").write_text("other")
    assert before != tree_sha256(tmp_path, whole)


def test_an_empty_repository_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(AnomapError) as caught:
        build_index(tmp_path / "root", tmp_path / INDEX_FILE, b"k", 4, lambda _: None, tmp_path)
    assert caught.value.code == "E100"
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II*\0" + bytes(124) + b"DICM", "dicom"),  # a file of two natures
        (b"MM\0*", "tiff"),
        (b"RIFF\0\0\0\0WEBP", "webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        ((348).to_bytes(4, "little") + bytes(340) + b"n+1\0", "nifti"),
        ((540).to_bytes(4, "big") + b"n+2\0", "nifti"),
        (b"\x1f\x8b broken", ""),
        (b"", ""),
    ],
)
def test_formats_are_told_apart(head, kind):
    assert format_of(head) == kind
