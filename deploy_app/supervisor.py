"""The parent process: staging, time-out, and an exit status one can believe.

Holoscan ends with status 0 when an operator gave nothing on, with 1 after any exception, and runs no clean-up when
it is told to stop; a crash in native code ends the process. So the application runs in a child process that writes
into a staging folder, and this parent publishes only what is complete.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anomap.console import begin, print_error, print_result
from anomap.errors import CODES, AnomapError, ExitStatus
from anomap.layout import flatten
from anomap.output import RESULT, staged
from anomap.process import end_group
from deploy_app.release import release
from deploy_app.settings import Settings, read_settings

_HELP = "Nothing was published; see what the application has written to stderr."
STATUSES = frozenset({ExitStatus.OK, ExitStatus.PARTIAL, ExitStatus.UNUSABLE_INPUT, ExitStatus.FAILED})
GRACE_S = 5.0  # between asking a child to end and ending it

Command = Callable[[Settings, Path], list[str]]


def main(words: Sequence[str] | None = None) -> int:
    """Run the application under supervision; the exit status."""
    begin()
    try:
        settings = read_settings(sys.argv[1:] if words is None else words)
        content = supervise(settings)
        print_result(content, str(settings.output), as_json=False)
        return int(content["exit_status"])
    except (Exception, KeyboardInterrupt) as error:
        return int(print_error(error, as_json=False, debug=False).status)


def supervise(
    settings: Settings, command: Command | None = None, statuses: frozenset[ExitStatus] = STATUSES
) -> dict[str, Any]:
    """Run one study in a child process and publish its result.

    Args:
        settings: What to run.
        command: The child's command line, for settings and staging folder; the application when omitted.
        statuses: Exit statuses the child may end with.

    Returns:
        The top ``result.json``.

    Raises:
        AnomapError: The child's own error; E402 after the time-out; E500 when it died or contradicts its result.
            `settings.output` then holds a refusal, as `anomap.output.staged` says.
    """
    build = command or child_command
    with staged(settings.output, overwrite=settings.config.overwrite) as folder:
        status = _run(build(settings, folder), settings)
        content = _checked(folder, status, statuses)
        content = flatten(folder) if settings.layout == "flat" else content
        if settings.release:
            release(settings.source, folder, content)
        return content


def child_command(settings: Settings, folder: Path) -> list[str]:
    """The command line of the application."""
    config = json.dumps(settings.config.as_dict())
    paths = ["--input", settings.source, "--staging", folder, "--models", settings.models]
    return [sys.executable, "-m", "deploy_app.app", *map(str, paths), "--config", config]


def child_environment(log_level: str) -> dict[str, str]:
    """This environment, with what Holoscan needs: its CUDA runtime library, which it links even on a CPU."""
    library = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "lib"
    root = Path(__file__).resolve().parents[1]
    found = {
        "LD_LIBRARY_PATH": [str(library), os.environ.get("LD_LIBRARY_PATH", "")],
        "PYTHONPATH": [str(root), os.environ.get("PYTHONPATH", "")],
    }
    paths = {name: os.pathsep.join(filter(None, parts)) for name, parts in found.items()}
    return {
        **os.environ,
        **paths,
        "HOLOSCAN_LOG_LEVEL": log_level,
        "PYTHONWARNINGS": "ignore",  # Holoscan's on stack size; pydicom's quote values
        "CUPY_CACHE_DIR": os.environ.get("CUPY_CACHE_DIR", "/tmp/.cupy"),  # noqa: S108 (its default is the home)
    }


def _run(command: list[str], settings: Settings) -> int:
    """The child's exit status; it never outlives this call."""
    try:
        # A session of its own: a signal to the group reaches all that the child has started.
        child = subprocess.Popen(  # noqa: S603 (our own command line, no shell)
            command, env=child_environment(settings.log_level), start_new_session=True
        )
    except OSError as error:
        raise AnomapError("E500", f"the application can't be started: {error.strerror}") from error
    try:
        return child.wait(settings.timeout_s)
    except subprocess.TimeoutExpired:
        raise AnomapError("E402", f"the time limit of {settings.timeout_s:g} s has passed") from None
    finally:
        end_group(child, GRACE_S)
        child.wait()


def _checked(folder: Path, status: int, known: frozenset[ExitStatus]) -> dict[str, Any]:
    """The child's result, if it is one and fits the way the child ended."""
    if status < 0:
        raise AnomapError("E500", f"the application was ended by signal {-status}", _HELP)
    try:
        content: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        stated = int(content["exit_status"])
    except (OSError, ValueError, KeyError, TypeError):
        raise AnomapError("E500", f"the application ended with status {status} and without a result", _HELP) from None
    if stated != status:
        raise AnomapError("E500", f"the application ended with status {status}, but its result says {stated}", _HELP)
    error = content.get("error")
    if error and error.get("code") in CODES:
        raise AnomapError(error["code"], error["message"], error["remedy"])
    if stated not in known:
        raise AnomapError("E500", f"the application's result has the unknown exit status {stated}")
    return content
