"""Publishing a result: all of it or nothing, ``result.json`` last.

Everything is written to a hidden staging folder on the output's own file system and becomes visible by rename.
Whoever sees ``result.json`` in the output therefore sees a complete result (or a complete refusal). The command
line and the supervisor of the MONAI Deploy application use the same context manager.

    with staged(output) as folder:      # E201, E202 before any work
        ...                             # write everything into `folder`, `write_result` at the end
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.errors import CODES, AnomapError, ExitStatus, out_of_memory

RESULT = "result.json"
SCHEMA = "anomap.result/1"
STAGING_PREFIX = ".anomap-staging-"
_MAX_RESULT_BYTES = 1 << 26


@contextmanager
def staged(output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a staging folder; publish it as `output` when the block ends, or a refusal when it fails.

    A failure leaves one file in `output`: a ``result.json`` with status "failed", the code and the message.
    A cancelled run (E403, or any exception that is no `Exception`) leaves `output` as it was.

    Args:
        output: Folder to publish as. It may be missing, empty, a mount point, or (with `overwrite`) an earlier
            result of anomap, which is replaced as a whole; files that are not anomap's stay.
        overwrite: Replace an earlier result.

    Raises:
        AnomapError: E202 when `output` can't be written, E201 when it holds something; E501 when the block left
            no ``result.json``; and whatever the block raised, other exceptions as `as_error` translates them.
    """
    output = output.absolute()
    folder = _open(output, overwrite=overwrite)
    try:
        try:
            yield folder
            _require_result(folder)
            _publish(folder, output)
        except Exception as error:
            failure = as_error(error)
            if failure.code != "E403":
                with suppress(OSError, AnomapError):  # the failure itself is what the caller must learn of
                    _clear(folder)
                    write_result(folder, failure_result(failure))
                    _publish(folder, output)
            raise failure from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_result(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write ``result.json`` into `folder`: strict JSON (no NaN), on the disk before it gets its name.

    Raises:
        AnomapError: E501 when `content` holds NaN or infinity; E202 when it can't be written.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise AnomapError("E501", f"{RESULT} would hold a number that is not finite") from error
    path = folder / RESULT
    with writing(), appearing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@contextmanager
def appearing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A name beside `path` to write to; what was written takes the place of `path` at once, or not at all.

    Args:
        path: The file that is to appear or to be replaced.
        durable: It is on the disk before it gets its name, so that a loss of power can't leave half of it.

    Yields:
        A hidden path with the same suffix.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing() -> Iterator[None]:
    """Turn the system's refusal to write into E202."""
    try:
        yield
    except OSError as error:
        raise AnomapError("E202", f"writing failed: {error.strerror or type(error).__name__}") from error


def failure_result(error: AnomapError) -> dict[str, Any]:
    """What ``result.json`` says of a run that failed as a whole."""
    return {
        "schema": SCHEMA,
        "kind": "study",
        "status": "failed",
        "exit_status": int(error.status),
        "not_a_diagnosis": True,
        "notice": NOT_A_DIAGNOSIS,
        "software": {"name": "anomap", "version": __version__},
        "verdict": None,
        "error": error_entry(error),
        "series": [],
        "skipped": [],
    }


def error_entry(error: AnomapError) -> dict[str, str]:
    """An error as JSON: code, its title, what happened, what to do."""
    return {
        "code": error.code,
        "title": CODES[error.code].title,
        "message": error.message,
        "remedy": error.remedy,
    }


def as_error(error: BaseException) -> AnomapError:
    """Any exception as one of ours; foreign messages may hold patient data and are not repeated."""
    if isinstance(error, AnomapError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return AnomapError("E403", "the run was cancelled")
    if out_of_memory(error):
        return AnomapError("E400", "the memory did not suffice")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return AnomapError("E202", f"writing failed: {os.strerror(error.errno)}")
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return AnomapError("E203", "torch is not installed", "pip install 'anomap[torch]'")
    return AnomapError("E500", f"{type(error).__name__} at {_place(error)}")


def exit_status(error: BaseException) -> ExitStatus:
    """The exit status of a command that ended with `error`."""
    return as_error(error).status


def _place(error: BaseException) -> str:
    """File and line where `error` arose, inside anomap if it passed there."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown place"
    here = Path(__file__).parent
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(here)]
    last = (ours or frames)[-1]
    path = Path(last.filename)
    return f"{path.relative_to(here.parent) if ours else path.name}:{last.lineno}"


def _open(output: Path, *, overwrite: bool) -> Path:
    """Check that `output` may be written and make the staging folder beside or inside it."""
    if output.is_symlink() and not output.exists():
        raise AnomapError("E202", "the output is a link to nowhere")
    if output.exists() and not output.is_dir():
        raise AnomapError("E202", "the output is a file, expected a folder")
    try:
        if _visible(output) and not overwrite:
            raise AnomapError("E201", "the output folder is not empty")
        if _visible(output) and _former(output) is None:
            raise AnomapError("E201", "the output folder holds something else than an anomap result", _FOREIGN)
        # A folder that exists keeps its identity (mount, owner, access list): results move into it one by one.
        parent = output if output.exists() else output.parent
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f"{STAGING_PREFIX}{secrets.token_hex(4)}"
        folder.mkdir()
    except OSError as error:
        raise AnomapError("E202", f"the output can't be written: {error.strerror or type(error).__name__}") from error
    return folder


_FOREIGN = "Choose another folder; --overwrite replaces earlier results of anomap only."


def _visible(output: Path) -> list[Path]:
    """Entries of `output` that count: neither hidden nor a file system's own."""
    if not output.is_dir():
        return []
    return [entry for entry in output.iterdir() if not entry.name.startswith(".") and entry.name != "lost+found"]


def _former(output: Path) -> list[str] | None:
    """Names of what an earlier result of anomap put into `output`, or None when there is no such result."""
    path = output / RESULT
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_RESULT_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if not str(content["schema"]).startswith("anomap.result/"):
            return None
        names = [str(entry["folder"]) for entry in content["series"] if entry.get("folder")]
        flat = content.get("layout") == "flat"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    names = [name for name in names if name == Path(name).name and not name.startswith(".")]
    if flat:  # the names are the beginnings of file names (`anomap.layout`)
        beginnings = tuple(f"{name}_" for name in names)
        return [entry.name for entry in _visible(output) if entry.name.startswith(beginnings)]
    return names


def _require_result(folder: Path) -> None:
    if not (folder / RESULT).is_file():
        raise AnomapError("E501", f"the run ended without {RESULT}")


def _publish(folder: Path, output: Path) -> None:
    """Make the staging folder visible as `output`."""
    if folder.parent == output:
        return _move_in(folder, output)
    with writing():
        try:
            folder.replace(output)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise AnomapError("E201", "the output folder was filled by somebody else meanwhile") from error
            raise


def _move_in(folder: Path, output: Path) -> None:
    """Move the entries into an existing folder; without ``result.json`` in between, so never old mixed with new."""
    former = _former(output) or []
    moved: list[Path] = []
    with writing():
        (output / RESULT).unlink(missing_ok=True)
        for name in former:
            _remove(output / name)
        try:
            for entry in [*sorted(e for e in folder.iterdir() if e.name != RESULT), folder / RESULT]:
                entry.replace(output / entry.name)
                moved.append(output / entry.name)
        except OSError:
            for entry in moved:
                _remove(entry)
            raise


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        _remove(entry)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
