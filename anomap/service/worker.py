"""One worker: a child process that keeps its models and analyses one job after the other.

It is a process of its own because images come from outside: what they can do to a decoder (crash, eat memory, run for
ever) must not touch the listener, and the node can end it. It ends itself when the node dies.

    stdin   {"source": "...", "output": "...", "previous": ["..."]}       one line a job; the end of stdin ends it
    stdout  {"event": "ready"} | {"event": "done", "exit_status": 0} | {"event": "error", "code": "E402", ...}
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from anomap.bundle import Bundle
from anomap.config import AnalyzeConfig
from anomap.console import begin
from anomap.errors import AnomapError
from anomap.output import as_error, error_entry
from anomap.process import own_stdout

_GRACE_S = 5.0


def main() -> int:
    """Run jobs until stdin ends; not for people."""
    begin()
    channel = own_stdout()
    words: dict[str, Any] = json.loads(sys.argv[1])
    limit = int(words["memory_limit_gb"] * 1e9)
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    models, config = Path(words["models"]), AnalyzeConfig.from_dict(words["config"])
    bundles: dict[str, Bundle] = {}
    try:
        orders = _orders()
        _say(channel, {"event": "ready"})
        while (order := orders.get()) is not None:
            _say(channel, run_job(order, models, config, bundles))
    except KeyboardInterrupt:
        return 130
    return 0


def run_job(order: dict[str, Any], models: Path, config: AnalyzeConfig, bundles: dict[str, Bundle]) -> dict[str, Any]:
    """Analyse one job; what to tell the node of it.

    Args:
        order: A line from stdin.
        models: Folder of bundles.
        config: What to do.
        bundles: Models loaded so far.

    Raises:
        KeyboardInterrupt: When the process is told to stop; nothing is published then.
    """
    from pydicom import dcmread

    from anomap.study import analyze

    try:
        previous = [dcmread(path) for path in map(Path, order["previous"]) if path.is_file()]
        outcome = analyze(
            Path(order["source"]), Path(order["output"]), models, config, bundles=bundles, previous=previous
        )
    except AnomapError as error:
        if error.code == "E403":
            raise KeyboardInterrupt from error
        return _failure(error)
    except Exception as error:
        return _failure(as_error(error))
    return {"event": "done", "exit_status": int(outcome.status)}


def _failure(error: AnomapError) -> dict[str, Any]:
    return {"event": "error", **error_entry(error)}


def _say(channel: TextIO, event: dict[str, Any]) -> None:
    channel.write(json.dumps(event) + "\n")
    channel.flush()


def _orders() -> queue.Queue[dict[str, Any] | None]:
    """Lines of stdin as they come. A thread reads them, so that the node's end is noticed in the midst of a job."""
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        orders.put(None)
        os.kill(os.getpid(), signal.SIGTERM)  # the node has ended: so does a job that still runs
        threading.Event().wait(_GRACE_S)
        os._exit(130)

    threading.Thread(target=read, name="orders", daemon=True).start()
    return orders


if __name__ == "__main__":
    sys.exit(main())
