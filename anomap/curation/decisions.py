"""``decisions.csv``: what becomes of each image. Made by anomap or its page, and edited by hand in any spreadsheet.

Columns are path, frame, decision (keep, look or drop) and reason. Paths are written with ``./`` before them, because
spreadsheets make a date of ``12/05``, a number of ``0012`` and a formula of ``=x``; they are read with or without it.
Commas, semicolons or tabs, CRLF, a byte order mark and UTF-16 are what spreadsheets save, so all of them are read.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anomap.errors import AnomapError
from anomap.output import appearing, writing

FILE = "decisions.csv"
COLUMNS = ("path", "frame", "decision", "reason")
WORDS = ("keep", "look", "drop")  # from the mildest to the strictest
_NAMED = 3  # lines that a message names

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of an image.

    Attributes:
        word: One of `WORDS`.
        reason: Why, in free words.
    """

    word: str
    reason: str = ""


def read_decisions(file: Path, known: Iterable[Key] | None = None) -> dict[Key, Decision]:
    """The decisions of a list, by path and frame.

    Args:
        file: The list.
        known: Images there are. With them, a decision on any other is E711.

    Raises:
        AnomapError: E710 when the file can't be read or lacks a column; E711 when a line is not a decision on an image,
            or the second one on the same. Line numbers are those of the file.
    """
    images = None if known is None else set(known)
    decisions: dict[Key, Decision] = {}
    wrong: list[str] = []
    for line, row in _rows(file):
        key, word = _key(row), row["decision"].strip().lower()
        if word not in WORDS:
            wrong.append(f"line {line}: the decision is none of {', '.join(WORDS)}")
        elif images is not None and key not in images:
            wrong.append(f"line {line}: there is no such image and frame")
        elif key in decisions:
            wrong.append(f"line {line}: a second decision on the same image")
        else:
            decisions[key] = Decision(word=word, reason=row["reason"].strip())
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more lines" if len(wrong) > _NAMED else ""
        raise AnomapError("E711", f"{FILE}: " + "; ".join(wrong[:_NAMED]) + more)
    return decisions


def write_decisions(file: Path, decisions: Mapping[Key, Decision]) -> None:
    """Write a list; it takes the place of an older one at once.

    Raises:
        AnomapError: E202 when it can't be written.
    """
    with (
        writing(),
        appearing(file, durable=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8-sig") as to,
    ):
        writer = csv.writer(to)
        writer.writerow(COLUMNS)
        writer.writerows((spelled(path), frame, d.word, d.reason) for (path, frame), d in decisions.items())


def spelled(path: str) -> str:
    """A path as lists have it: no option, number, date or formula to any program."""
    return f"./{path}"


def _key(row: Mapping[str, str]) -> Key:
    """Path and frame of a line; frame -1, which no image has, for what is no number."""
    frame = row["frame"].strip() or "0"
    return row["path"].removeprefix("./"), int(frame) if frame.isdecimal() else -1


def _rows(file: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """The lines of the file with their numbers; absent cells are empty."""
    text = _text(file)
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        head = [cell.strip().lower() for cell in next(reader, [])]
        lacking = [name for name in COLUMNS[:3] if name not in head]
        if lacking:
            raise AnomapError("E710", f"{FILE} lacks the columns {', '.join(lacking)}")
        end = reader.line_num
        for cells in reader:
            line, end = end + 1, reader.line_num
            if any(cell.strip() for cell in cells):  # spreadsheets leave empty lines at the end
                yield line, dict.fromkeys(COLUMNS, "") | dict(zip(head, cells, strict=False))
    except csv.Error as error:
        raise AnomapError("E710", f"{FILE}, line {reader.line_num}: {error}") from error


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise AnomapError("E710", f"{FILE} can't be read: {error.strerror}") from error
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnomapError("E710", f"{FILE} is no UTF-8 text", "Save it as 'CSV UTF-8'.") from error
