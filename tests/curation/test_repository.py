"""Walking: the order of paths, links, odd names."""

from __future__ import annotations

import os

import pytest

from anomap.curation.repository import walk
from anomap.errors import AnomapError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def paths(root, leave_out=None):
    return [found.path for found in walk(root, leave_out)]


def test_files_come_in_the_order_of_their_paths_as_strings(tmp_path):
    touch(tmp_path, "a/b", "a/c/d", "a.txt", "a-b/x", "a0", "é/x", "z")
    assert paths(tmp_path) == sorted(["a/b", "a/c/d", "a.txt", "a-b/x", "a0", "é/x", "z"])


def test_links_that_lead_back_end_there_and_each_folder_is_entered_once(tmp_path):
    touch(tmp_path, "a/x", "elsewhere/y")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "file").symlink_to(tmp_path / "a" / "x")
    assert paths(tmp_path) == ["a/x", "elsewhere/y", "file"]


def test_pipes_and_the_own_output_are_left_out(tmp_path):
    touch(tmp_path, "x", "out/images.parquet")
    os.mkfifo(tmp_path / "pipe")
    assert paths(tmp_path, tmp_path / "out") == ["x"]


def test_a_name_that_is_no_utf8_is_written_readably_and_found_again(tmp_path):
    (tmp_path / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"content")
    (found,) = walk(tmp_path)
    assert found.path == r"\xff\xfe.png"
    assert found.within(tmp_path).read_bytes() == b"content"
    assert (found.size, found.mtime_ns) == (7, found.within(tmp_path).stat().st_mtime_ns)


def test_a_repository_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AnomapError) as caught:
        paths(tmp_path / "nowhere")
    assert caught.value.code == "E100"
