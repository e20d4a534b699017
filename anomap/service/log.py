"""Structured logs: one JSON object a line on stderr, with fields that are chosen here and never a patient's data.

    {"at": "2026-01-01T12:00:00.123+00:00", "level": "info", "event": "job_done", "series": "5f0c9a11...", "job": 3}

pynetdicom's own loggers are silenced: at debug level they print what peers send.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from anomap.output import as_error

Level = Literal["info", "warning", "error"]
_lock = threading.Lock()


def silence_libraries() -> None:
    """Let libraries say nothing, nor their threads when they die: they quote names, identifiers and addresses."""
    for name in ("pynetdicom", "pydicom", "dicomweb_client", "urllib3", "werkzeug", "waitress", "highdicom"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate, logger.disabled = [logging.NullHandler()], False, True
    warnings.simplefilter("ignore")  # pydicom's quote the values they complain about
    threading.excepthook = lambda unhandled: _log_unhandled(unhandled.exc_value)
    sys.unraisablehook = lambda unhandled: _log_unhandled(unhandled.exc_value)


def log(event: str, level: Level = "info", **fields: str | int | float | None) -> None:
    """Write a line.

    Args:
        event: What happened, one word.
        level: How bad it is.
        fields: Hashes, numbers, states, codes and AE titles of the settings; None is left out.
    """
    line: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event}
    line |= {name: value for name, value in fields.items() if value is not None}
    with _lock, suppress(OSError, ValueError):  # a log that can't be written must not turn images away
        sys.stderr.write(json.dumps(line, ensure_ascii=True) + "\n")
        sys.stderr.flush()


def log_failure(event: str, failure: BaseException, **fields: str | int | float | None) -> None:
    """A line about an exception, in our words: foreign messages may hold patient data."""
    error = as_error(failure)
    log(event, "error", code=error.code, message=error.message, **fields)


def _log_unhandled(failure: BaseException | None) -> None:
    """What ends a thread; Python would print it in its own words."""
    if failure is not None and not isinstance(failure, SystemExit):
        log_failure("thread_failed", failure)
