"""Where the analysis runs: in a process of its own, so that the interface never waits and all memory is given back.

`Runner` is what the logic needs; `LocalRunner` starts ``python -m anomap.volume JOB`` on this machine. Events are the
JSON lines that ``anomap/volume/worker.py`` describes, and three of the runner's own, each the last one:

    {"event": "loaded", "view": View}
    {"event": "cancelled"}
    {"event": "error", "code": "E606", "message": "...", "remedy": "..."}
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

GRACE_S = 3.0  # between asking the process to end and ending it with all that it has started
_KEPT = (".dcm", "result.json")  # of a result that has been read: what can be exported later


class Runner(Protocol):
    """Runs one analysis at a time."""

    @property
    def running(self):
        """Whether one runs."""

    def start(self, write, read):
        """Begin: ``write(folder)`` makes the job, ``read(folder)`` the value of the event "loaded".

        Both are called beside the interface thread.
        """

    def poll(self):
        """Events since the last call. Never waits."""

    def cancel(self):
        """End the analysis. Returns at once; "cancelled" follows."""

    def close(self):
        """End the analysis and remove all files: the application ends."""


class LocalRunner:
    """Runs the analysis on this machine.

    Args:
        python: Executable of a Python that has anomap.
        environment: Of the process; None: that of this one.
    """

    def __init__(self, python, environment=None):
        self._python, self._environment = python, environment
        self._events = queue.SimpleQueue()
        self._thread = self._process = None
        self._cancelled = threading.Event()
        self._lock = threading.Lock()  # between starting the process and cancelling it
        self._kept = []

    @property
    def running(self):
        """Whether an analysis runs, or a result is being read."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write, read):
        """See `Runner`.

        Raises:
            RuntimeError: When one runs already.
        """
        if self.running:
            raise RuntimeError("an analysis is running")
        self._events = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(write, read), name="anomap", daemon=True)
        self._thread.start()

    def poll(self):
        """See `Runner`."""
        events = []
        with suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def cancel(self):
        """See `Runner`."""
        self._cancelled.set()
        with self._lock:
            process = self._process
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # the process ends itself when nobody listens any more
        killer = threading.Timer(GRACE_S, _endGroup, (process,))
        killer.daemon = True
        killer.start()

    def close(self):
        """See `Runner`."""
        if self.running:
            self.cancel()
            self._thread.join(GRACE_S + 1.0)
        while self._kept:
            self._kept.pop().cleanup()

    def _run(self, write, read):
        try:
            self._events.put(self._result(write, read))
        except Exception as error:
            self._events.put(_failure("E500", f"{type(error).__name__}: {error}"))

    def _result(self, write, read):
        """Run the analysis to its end; the last event."""
        place = tempfile.TemporaryDirectory(prefix="anomap-job-", ignore_cleanup_errors=True)
        try:
            folder = Path(place.name)
            write(folder)
            last = self._lastEvent(folder)
            if self._cancelled.is_set():
                return {"event": "cancelled"}
            if last.get("event") != "done":
                return last
            view = read(folder / "result")
            _removeAllBut(folder, _KEPT)
            self._kept.append(place)
            place = None
            return {"event": "loaded", "view": view}
        finally:
            if place is not None:
                place.cleanup()

    def _lastEvent(self, folder):
        """Run the process and pass on what it says; the last thing it said."""
        with (folder / "stderr.txt").open("w+b") as errors:
            with self._lock:
                if self._cancelled.is_set():
                    return {}
                process = self._process = self._spawn(folder, errors)
            last = {}
            try:
                for line in process.stdout:
                    event = _event(line)
                    if event is None:
                        continue
                    last = event
                    if event["event"] not in ("done", "error"):
                        self._events.put(event)
                status = process.wait()
            finally:
                _endGroup(process)  # also what it may have left behind
                with self._lock:
                    self._process = None
                process.stdout.close()
                with suppress(OSError):
                    process.stdin.close()
            if last.get("event") in ("done", "error"):
                return last
            errors.seek(0)
            return _died(status, errors.read().decode(errors="replace"))

    def _spawn(self, folder, errors):
        environment = dict(os.environ if self._environment is None else self._environment)
        environment.update(PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
        own = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        return subprocess.Popen(  # noqa: S603 (our own command line, no shell)
            [self._python, "-m", "anomap.volume", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd=str(folder),
            **own,
        )


def _event(line):
    """A line of the process as an event; None when it is none."""
    try:
        event = json.loads(line.decode(errors="replace"))
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _failure(code, message, remedy="Look at the log below, and at the installation (Advanced)."):
    return {"event": "error", "code": code, "message": message, "remedy": remedy}


def _died(status, errors):
    """The process ended without a word: the last line of its errors says most."""
    lines = [line for line in errors.splitlines() if line.strip()]
    missing = re.search(r"No module named '?(anomap|torch)\b", errors)
    if missing:
        remedy = f"Install {missing[1]}, or choose another Python (Advanced)."
        return _failure("E203", f"this Python has no {missing[1]}", remedy)
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return _failure("E606", f"the analysis process {how}{': ' + lines[-1] if lines else ''}")


def _endGroup(process):
    """End a process and all that it has started. A launcher that is killed alone leaves the real worker running."""
    if sys.platform == "win32":
        if process.poll() is None:
            words = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(words, check=False, capture_output=True)  # noqa: S603 (a program of Windows)
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _removeAllBut(folder, endings):
    """Make room: the arrays of a result are in memory now."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(endings):
            path.unlink()
