"""What is said: JSON lines for machines, plain lines for logs, one line for an error."""

from __future__ import annotations

import io
import json
import os

import pytest

from anomap import console
from anomap.errors import AnomapError

STAGES = [{"event": "stage", "stage": "project", "done": done, "total": 3000} for done in range(3001)]
SERIES = {"event": "series", "number": 1, "of": 2, "folder": "01-CT-0badcafe", "modality": "CT", "frames": 24}
MODEL = {"event": "model", "folder": "x", "model": "ct", "version": "1", "reason": "model 'ct' is for CT"}
DONE = {"event": "series_done", "folder": "x", "status": "complete", "verdict": "REVIEW", "p_value": 0.02}
REFUSED = {
    "event": "series_done",
    "folder": "x",
    "status": "not_applicable",
    "verdict": "NOT_APPLICABLE",
    "p_value": None,
    "error": {"code": "E113", "message": "the slices are tilted by 90 degrees"},
}


def test_json_lines_are_one_object_a_line_and_a_stage_at_most_once_a_per_cent():
    stream = io.StringIO()
    listener = console.json_lines(stream)
    for event in [SERIES, MODEL, *STAGES, DONE]:
        listener(event)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[:2] == [SERIES, MODEL]
    assert events[-1] == DONE
    assert len(events) == 101 + 3
    assert events[-2]["done"] == 3000


def test_plain_lines_say_what_happens_without_flooding_a_log():
    stream = io.StringIO()
    listener = console.plain_lines(stream)
    for event in [SERIES, MODEL, *STAGES, DONE, REFUSED]:
        listener(event)
    assert stream.getvalue().splitlines() == [
        "series 1 of 2: CT, 24 images",
        "  model 'ct' is for CT",
        "  projecting ...",
        "  REVIEW, p = 0.02",
        "  not applicable: E113 the slices are tilted by 90 degrees",
    ]


def test_on_a_terminal_there_is_a_bar_with_stage_and_remaining_time(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.listening(as_json=False, stream=Terminal()) as listener:
        for event in [SERIES, MODEL, *STAGES[:2], DONE]:
            listener(event)
    said = capsys.readouterr()
    assert "model 'ct' is for CT" in said.err
    assert "series 1 of 2 · project" in said.err
    assert said.out == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_without_a_terminal_there_is_none(as_json, capsys):
    with console.listening(as_json=as_json, stream=io.StringIO()) as listener:
        listener(SERIES)
    assert "\x1b" not in capsys.readouterr().out


def test_an_error_is_one_line_on_stderr(capsys):
    console.print_error(AnomapError("E103", "slices are unevenly\nspaced"), as_json=False, debug=False)
    said = capsys.readouterr()
    assert said.err == "E103 slices are unevenly spaced. Send the complete series, or pass --allow-gaps.\n"
    assert said.out == ""


def test_an_error_is_an_event_too(capsys):
    console.print_error(AnomapError("E103", "a gap"), as_json=True, debug=False)
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["code"], event["exit_status"]) == ("error", "E103", 3)


def test_a_traceback_appears_only_when_debugging(capsys):
    error = ValueError("ZZPHI^CANARY")
    console.print_error(error, as_json=False, debug=False)
    quiet = capsys.readouterr().err
    assert "ZZPHI" not in quiet
    assert quiet.startswith("E500 ValueError")
    console.print_error(error, as_json=False, debug=True)
    assert "ZZPHI" in capsys.readouterr().err


def test_what_was_left_out_is_counted_by_reason():
    items = [{"code": "E110", "reason": "a localizer"}] * 3 + [{"code": "E101", "reason": "not a DICOM file"}]
    assert console.skipped_lines(items) == [
        "left out: 3 files: E110 a localizer",
        "left out: 1 file: E101 not a DICOM file",
    ]


def test_a_reader_that_is_gone_does_not_end_the_work():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        console.print_line("nobody reads this", stream)
        console.print_line("nor this", stream)


def test_a_flat_result_is_named_by_the_beginnings_of_its_files(capsys):
    entry = {"folder": "01-CT-0badcafe", "status": "complete", "verdict": "REVIEW", "p_value": 0.02}
    content = {"status": "complete", "exit_status": 0, "verdict": "REVIEW", "series": [entry], "skipped": []}
    for layout, begin in (({}, "out/01-CT-0badcafe: REVIEW"), ({"layout": "flat"}, "out/01-CT-0badcafe_*: REVIEW")):
        console.print_result({**content, **layout}, "out", as_json=False)
        assert capsys.readouterr().out.startswith(begin)
