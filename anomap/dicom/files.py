"""The files of an input: a folder with everything below it, a zip, or one file."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomap.errors import AnomapError

MAX_ZIP_FILES = 100_000
MAX_ZIP_BYTES = 16 * 2**30  # unpacked; larger studies come as folders
_CHUNK = 2**20


@contextmanager
def opened(source: Path) -> Iterator[list[tuple[str, Path]]]:
    """The files of an input as (name inside the input, path), by name.

    A zip is unpacked into a temporary folder that goes when the context ends; its members get our names there, so
    theirs can't lead out of it. Links are followed to files but not to folders; devices and pipes are left alone.

    Args:
        source: Folder, zip or file.

    Raises:
        AnomapError: E100 when there is nothing; E102 when the zip is damaged or locked; E117 when it is too large.
    """
    if source.is_dir():
        yield list(_walk(source))
    elif not source.is_file():
        raise AnomapError("E100", "the input is neither a folder nor a file")
    elif is_zip(source):
        with tempfile.TemporaryDirectory(prefix="anomap-zip-") as folder:
            yield _unpack(source, Path(folder))
    else:
        yield [(_text(source.name), source)]


def is_zip(path: Path) -> bool:
    """Whether a file is a zip and no DICOM file (whose preamble may hold anything), or at least claims to be."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
        return start[128:] != b"DICM" and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))
    except OSError:
        return False


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file():
                yield _text(path.relative_to(folder).as_posix()), path


def _text(name: str) -> str:
    """A name that can be written as UTF-8, also when the file system's isn't."""
    return os.fsencode(name).decode("utf-8", "replace")


def _unpack(source: Path, folder: Path) -> list[tuple[str, Path]]:
    try:
        with zipfile.ZipFile(source) as archive:
            members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda member: member.filename)
            if len(members) > MAX_ZIP_FILES:
                raise AnomapError("E117", f"the zip holds {len(members)} files; at most {MAX_ZIP_FILES} are read")
            left = MAX_ZIP_BYTES
            files = []
            for number, member in enumerate(members):
                path = folder / f"{number:06d}"
                left -= _copy(archive, member, path, left)
                files.append((member.filename, path))
            return files
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise AnomapError("E102", f"the zip cannot be unpacked ({type(error).__name__})") from None
    except RuntimeError:  # how zipfile says that a password is needed
        raise AnomapError("E102", "the zip is locked with a password", "Unpack it and give the folder.") from None


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Unpack one member; what counts is what comes out, not what the zip's directory promises."""
    written = 0
    with archive.open(member) as packed, path.open("wb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise AnomapError("E117", f"the zip unpacks to more than {MAX_ZIP_BYTES // 2**30} GiB")
            file.write(chunk)
    return written
