"""Child processes: their channel to whoever started them, and how one ends that has a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TextIO


def end_group(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a child with all that it has started: politely first, then by SIGKILL, which also meets what it left behind.

    Args:
        child: Started with ``start_new_session=True``.
        grace_s: Seconds to wait for it after each signal.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)


def own_stdout() -> TextIO:
    """The pipe to the parent, out of the reach of libraries that print: their words go to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel
