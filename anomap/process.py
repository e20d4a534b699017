"""How a child process ends that was started in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress


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
