"""The files below a folder, one by one, in an order that depends on their names alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anomap.errors import AnomapError


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    r"""One file.

    Attributes:
        path: Relative to the root, with "/"; bytes that are no UTF-8 are written as ``\xNN``.
        raw_path: The path's own bytes where `path` is not all of it, else None.
        size: Bytes.
        mtime_ns: Last change.
    """

    path: str
    raw_path: bytes | None
    size: int
    mtime_ns: int

    def within(self, root: Path) -> Path:
        """Where the file lies."""
        return located(root, self.path, self.raw_path)


def located(root: Path, path: str, raw_path: bytes | None) -> Path:
    """Where a file of the index lies."""
    return root / (os.fsdecode(raw_path) if raw_path is not None else path)


def walk(root: Path, leave_out: Path | None = None) -> Iterator[Found]:
    """All regular files below a folder, in the order of their paths as strings.

    Links are followed. Each folder is entered once, wherever links lead to it: a link to a folder above ends there.
    Folders that may not be read are passed over, as are devices, pipes, and files that vanish meanwhile.

    Args:
        root: The folder.
        leave_out: A folder that is not entered: the curation's own output.

    Raises:
        AnomapError: E100 when `root` is no folder that can be read.
    """
    try:
        os.scandir(root).close()
    except OSError as error:
        raise AnomapError("E100", f"the repository can't be read: {error.strerror}", "Check the path.") from None
    seen = {_identity(root)}
    if leave_out is not None and leave_out.exists():
        seen.add(_identity(leave_out))
    yield from _walk(os.fsencode(root), b"", seen)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _walk(root: bytes, below: bytes, seen: set[tuple[int, int]]) -> Iterator[Found]:
    folders = [below]
    pending: list[list[tuple[bytes, os.stat_result]]] = [_entries(root, below)]
    while pending:
        if not pending[-1]:
            pending.pop()
            folders.pop()
            continue
        name, status = pending[-1].pop()
        path = folders[-1] + name
        if not name.endswith(b"/"):
            yield _found(path, status)
        elif (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            folders.append(path)
            pending.append(_entries(root, path))


def _entries(root: bytes, below: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Files and folders (with a "/") of one folder, last first.

    Sorted with the "/", the files come out in the order of their whole paths.
    """
    found = []
    try:
        with os.scandir(root + b"/" + below) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                    kind = b"/" if entry.is_dir() else b"" if entry.is_file() else None
                except OSError:
                    continue
                if kind is not None:
                    found.append((entry.name + kind, status))
    except OSError:
        return []
    return sorted(found, key=lambda item: _text(item[0]), reverse=True)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _found(path: bytes, status: os.stat_result) -> Found:
    text = _text(path)
    raw = None if text.encode() == path else path
    return Found(path=text, raw_path=raw, size=status.st_size, mtime_ns=status.st_mtime_ns)
