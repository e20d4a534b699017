"""Logs: one JSON object a line, nothing that others say."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime

import pytest

from anomap.errors import AnomapError
from anomap.service.log import log, log_failure, silence_libraries


def _lines(capsys):
    said = capsys.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_line_is_an_object_with_time_level_and_event(capsys):
    before = datetime.now(UTC)
    log("job_done", job=3, verdict=None)
    log("listening", "warning", port=104)
    first, second = _lines(capsys)
    assert list(first) == ["at", "level", "event", "job"]
    assert (first["level"], first["event"], first["job"]) == ("info", "job_done", 3)
    assert abs((datetime.fromisoformat(first["at"]) - before).total_seconds()) < 5
    assert second["level"] == "warning"


def test_no_content_can_begin_a_line_of_its_own(capsys):
    log("x", caller='A"\n{"event": "forged"}\x1b[31mü\u2028')
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isascii()
    assert "\x1b" not in line
    assert json.loads(line)["event"] == "x"


def test_failures_of_others_are_told_in_our_words(capsys):
    log_failure("image_refused", ValueError("ZZPHI^CANARY"), job=1)
    log_failure("image_refused", AnomapError("E102", "a gap"))
    foreign, ours = _lines(capsys)
    assert (foreign["level"], foreign["code"], foreign["job"]) == ("error", "E500", 1)
    assert "ZZPHI" not in json.dumps(foreign)
    assert (ours["code"], ours["message"]) == ("E102", "a gap")


def test_threads_do_not_mix_their_lines(capsys):
    threads = [threading.Thread(target=lambda: [log("x", text="y" * 3000) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [line["text"] for line in _lines(capsys)] == ["y" * 3000] * 80


@pytest.fixture
def loggers():
    """Put the libraries' loggers back as they were: other tests in this process may listen to them."""
    names = ("pynetdicom", "pydicom", "dicomweb_client", "urllib3", "werkzeug", "waitress", "highdicom")
    found = [logging.getLogger(name) for name in names]
    before = [(logger, logger.handlers, logger.propagate, logger.disabled) for logger in found]
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    for logger, *values in before:
        logger.handlers, logger.propagate, logger.disabled = values


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize("name", ["pynetdicom", "pynetdicom.acse", "pydicom", "urllib3.connectionpool", "waitress"])
def test_libraries_are_silent(name, capsys, caplog):
    silence_libraries()
    logging.getLogger(name).error("ZZPHI^CANARY")
    assert "ZZPHI" not in capsys.readouterr().err
    assert "ZZPHI" not in caplog.text


@pytest.mark.usefixtures("loggers")
def test_a_thread_that_dies_is_a_line_like_every_other(capsys):
    def die():
        raise ValueError("ZZPHI^CANARY")

    silence_libraries()
    thread = threading.Thread(target=die)
    thread.start()
    thread.join(10)
    (line,) = _lines(capsys)
    assert (line["event"], line["code"]) == ("thread_failed", "E500")
    assert "ZZPHI" not in json.dumps(line)
