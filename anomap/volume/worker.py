"""The process that analyses one volume: ``python -m anomap.volume JOB``. Not for people.

    stdin   "cancel", or its end: the process ends at once, nothing is published
    stdout  JSON lines, the events of `anomap.console` and
            {"event": "device", "device": "cuda", "torch": "2.13.0", "free_gb": 11.2}
            {"event": "note", "text": "..."}                a warning or a retreat, for people
            {"event": "done", "exit_status": 0}             last: JOB/result/ is there
            {"event": "error", "code": "E113", ...}         last: it is not

It ends with the exit status of the table in `anomap.errors`; 130 when it was cancelled.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from anomap.console import Listener, begin, json_lines
from anomap.errors import AnomapError, ExitStatus
from anomap.output import STAGING_PREFIX, as_error, error_entry
from anomap.process import own_stdout
from anomap.volume.job import GATHERED_PREFIX, read_job


def main(words: list[str]) -> int:
    """Run one job; the exit status.

    What takes seconds to import comes last: the process can be ended before, what libraries print on the way stays out
    of the channel, and what is missing is told like every other error.
    """
    begin()
    tell = json_lines(own_stdout())
    folder = Path(words[0]) if len(words) == 1 else None
    threading.Thread(target=_watch_stdin, args=(folder,), name="cancel", daemon=True).start()
    try:
        _run(folder, tell)
    except (Exception, KeyboardInterrupt) as cause:
        error = as_error(cause)
        tell({"event": "error", **error_entry(error), "exit_status": int(error.status)})
        return int(error.status)
    tell({"event": "done", "exit_status": int(ExitStatus.OK)})
    return ExitStatus.OK


def _run(folder: Path | None, tell: Listener) -> None:
    if folder is None:
        raise AnomapError("E200", "expected one argument: the path of a job folder")
    job = read_job(folder)
    try:
        from anomap.volume.run import run_job
    except ImportError as error:
        if error.name == "torch":  # an extra; `as_error` says which
            raise
        missing = error.name or type(error).__name__
        raise AnomapError(
            "E203", f"this installation of anomap can't be used: {missing}", "Install it anew."
        ) from error
    run_job(job, tell)


def _watch_stdin(folder: Path | None) -> None:
    """End the process when it is told to, or when whoever started it has gone.

    At once, also in the midst of a long computation; what has been written so far goes first.
    """
    with suppress(OSError):  # closed from the start: nobody listens either
        os.read(0, 1)  # not by sys.stdin: the lock of its buffer, held for ever, aborts the interpreter at its end
    for prefix in (STAGING_PREFIX, GATHERED_PREFIX):
        for path in folder.glob(f"{prefix}*") if folder is not None else ():
            shutil.rmtree(path, ignore_errors=True)
    os._exit(int(ExitStatus.CANCELLED))
