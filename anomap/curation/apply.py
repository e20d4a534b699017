"""Carrying out a list of decisions: lists of paths, a folder of what is kept. The repository itself is only read."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow.parquet as pq

from anomap.bundle import file_sha256
from anomap.curation.decisions import WORDS, Decision, Key, read_decisions, spelled
from anomap.curation.repository import located
from anomap.curation.results import read_images, words
from anomap.curation.settings import INDEX_FILE
from anomap.errors import AnomapError
from anomap.output import appearing, writing

_UNDECIDED = Decision(word="look", reason="not in the list")


def decide(output: Path, file: Path) -> tuple[dict[str, str], int]:
    """Read a list for a curation.

    A file with several images (slices of a volume) gets the strictest of their decisions. Images that are not in the
    list are to be looked at.

    Args:
        output: Folder of ``anomap curate``.
        file: The list.

    Returns:
        Decision by path, and the number of images that are not in the list.

    Raises:
        AnomapError: As `read_images` and `read_decisions`.
    """
    images = read_images(output, ["path", "frame"])
    keys = list(zip(words(images, "path"), images["frame"].to_pylist(), strict=True))
    decisions = read_decisions(file, keys)
    return strictest(keys, decisions), len(set(keys) - decisions.keys())


def strictest(keys: list[Key], decisions: Mapping[Key, Decision]) -> dict[str, str]:
    """One decision a file: the strictest of its images'."""
    found: dict[str, str] = {}
    for path, frame in keys:
        word = decisions.get((path, frame), _UNDECIDED).word
        found[path] = max(found.get(path, WORDS[0]), word, key=WORDS.index)
    return found


def write_lists(output: Path, decided: Mapping[str, str]) -> dict[str, int]:
    """Write ``keep.txt``, ``look.txt`` and ``drop.txt``, one path a line.

    Returns:
        Files in each.

    Raises:
        AnomapError: E712 when a path holds a line break; E202 when writing fails.
    """
    if any("\n" in path or "\r" in path for path in decided):
        raise AnomapError("E712", "a path of the repository holds a line break, so that no list of lines can name it")
    counts = {}
    for word in WORDS:
        lines = [f"{spelled(path)}\n" for path, said in decided.items() if said == word]
        with writing(), appearing(output / f"{word}.txt") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        counts[word] = len(lines)
    return counts


def copy_kept(
    output: Path, decided: Mapping[str, str], root: Path, to: Path, *, how: Literal["copy", "link"] = "copy"
) -> int:
    """Make a folder of the files that are kept, with their paths below the root. It appears whole or not at all.

    Args:
        output: Folder of ``anomap curate``.
        decided: Decision by path.
        root: The repository.
        to: Folder to make; must be empty or missing.
        how: Copies, or hard links, which need the same file system.

    Returns:
        The number of files.

    Raises:
        AnomapError: As `check_folder`; E202 when `to` can't be written, E701 when a file is missing or is not what was
            curated, E703 when a path leads out of the repository.
    """
    check_folder(to, root)
    raw, hashes = _raw_paths(output), _hashes(output)
    kept = [path for path, word in decided.items() if word == "keep"]
    with _folder(to) as folder:
        for path in kept:
            source = _inside(root, path, raw.get(path))
            target = _inside(folder, path, raw.get(path))
            _place(source, target, hashes[path], how)
    return len(kept)


def check_folder(to: Path, root: Path) -> None:
    """Raise E201 when the folder that is to be made holds something, E202 when it is a file, E200 inside `root`."""
    if to.resolve().is_relative_to(root.resolve()):
        raise AnomapError("E200", "the folder for the kept files lies in the repository, which is only read")
    if to.exists() and not to.is_dir():
        raise AnomapError("E202", "the folder for the kept files is a file")
    if to.is_dir() and any(to.iterdir()):
        raise AnomapError("E201", "the folder for the kept files is not empty", "Choose an empty or a new one.")


@contextmanager
def _folder(to: Path) -> Iterator[Path]:
    """A hidden folder beside `to` that becomes `to` when the block ends, and vanishes when it fails."""
    staging = to.absolute().with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        with writing():
            staging.mkdir(parents=True)
        yield staging
        with writing():
            staging.replace(to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _place(source: Path, target: Path, sha256: str, how: Literal["copy", "link"]) -> None:
    try:
        same = not sha256 or file_sha256(source) == sha256
    except OSError as error:
        raise AnomapError("E701", "a file to be kept is missing or can't be read") from error
    if not same:
        raise AnomapError("E701", "a file to be kept is not the one that was curated")
    with writing():
        target.parent.mkdir(parents=True, exist_ok=True)
        if how == "link":
            os.link(source.resolve(), target)
        else:
            shutil.copy2(source, target)


def _inside(folder: Path, path: str, raw: bytes | None) -> Path:
    place = located(folder, path, raw)
    relative = PurePosixPath(os.path.relpath(os.path.normpath(place), os.path.normpath(folder)))
    if place == folder or ".." in relative.parts:
        raise AnomapError("E703", "a path leads out of the repository")
    return place


def _raw_paths(output: Path) -> dict[str, bytes]:
    """The bytes of those paths that are no UTF-8."""
    try:
        index = pq.read_table(output / INDEX_FILE, columns=["path", "raw_path"])
    except (OSError, ValueError) as error:
        raise AnomapError("E703", f"{INDEX_FILE} is missing or can't be read") from error
    pairs = zip(index["path"].to_pylist(), index["raw_path"].to_pylist(), strict=True)
    return {path: raw for path, raw in pairs if raw is not None}


def _hashes(output: Path) -> dict[str, str]:
    images = read_images(output, ["path", "file_sha256"])
    return dict(zip(words(images, "path"), words(images, "file_sha256"), strict=True))
