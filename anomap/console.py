"""What the commands say while they work: a progress bar, plain lines, or JSON lines.

Results and JSON lines go to stdout, progress and errors to stderr. Events are the dicts that
`anomap.study.analyze` gives its listener:

    {"event": "stage", "stage": "project", "done": 12, "total": 30}
    {"event": "series", "number": 1, "of": 2, "folder": "01-CT-5f0c9a11", "modality": "CT", "frames": 24}
    {"event": "model", "folder": "01-CT-5f0c9a11", "model": "ct-64", "version": "0.1.0", "reason": "..."}
    {"event": "skipped", "name_sha256": "...", "code": "E110", "reason": "..."}
    {"event": "series_done", "folder": "...", "status": "complete", "verdict": "REVIEW", "p_value": 0.02, ...}
    {"event": "index", "files": 1200, "shards": 5, "tree_sha256": "...", "errors": {"E101": 3}}
    {"event": "shard", "stage": "score", "number": 2, "done": 3, "of": 5, "images": 768, "errors": 1, ...}
    {"event": "result", "output": "...", "status": "complete", "exit_status": 0, "verdict": "REVIEW"}
    {"event": "error", "code": "E103", "message": "...", "remedy": "...", "exit_status": 3}
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

from anomap.errors import AnomapError
from anomap.output import as_error, error_entry

Event = dict[str, Any]
Listener = Callable[[Event], None]
FILES = {
    "sr": "report (DICOM SR)",
    "seg": "regions (DICOM SEG)",
    "pm": "residual map (DICOM Parametric Map)",
    "sc": "picture (DICOM Secondary Capture)",
    "preview": "preview",
}


def begin() -> None:
    """What every command does before anything else."""
    # Threads that wait for each other must not spin: beside one busy neighbour on two cores that costs a factor of 18
    # (109 s instead of 6 s for a CT of 24 slices). Read when torch is loaded, which is later; children inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # `docker stop` and `kill` leave no staging folder behind


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def listening(*, as_json: bool, stream: TextIO | None = None) -> Iterator[Listener]:
    """The listener that suits: JSON lines when asked for, a bar on a terminal, plain lines otherwise."""
    if as_json:
        yield json_lines()
    elif (stream or sys.stderr).isatty():
        with _bar() as listener:
            yield listener
    else:
        yield plain_lines(stream or sys.stderr)


def json_lines(stream: TextIO | None = None) -> Listener:
    """Print every event as one line; stages only when another per cent is done."""
    last: dict[str, int] = {}

    def listener(event: Event) -> None:
        if event["event"] == "stage":
            percent = 100 * event["done"] // max(event["total"] or 1, 1)
            if last.get(event["stage"]) == percent and event["done"] > 0:
                return
            last[event["stage"]] = percent
        print_line(json.dumps(event, ensure_ascii=False), stream)

    return listener


def plain_lines(stream: TextIO) -> Listener:
    """A line for every series, and for the reasons why others were left out."""

    def listener(event: Event) -> None:
        line = _line(event)
        if line:
            print_line(line, stream)

    return listener


def _line(event: Event) -> str | None:
    kind = event["event"]
    if kind == "series":
        return f"series {event['number']} of {event['of']}: {event['modality']}, {_images(event['frames'])}"
    if kind == "model":
        return f"  {event['reason']}"
    if kind == "index":
        return f"{_files(event['files'])} in {event['shards']} shards; {sum(event['errors'].values())} can't be used"
    if kind == "shard" and "eta_s" in event:
        left = str(timedelta(seconds=event["eta_s"]))
        done = f"{event['stage']}: shard {event['done']} of {event['of']}, {_images(event['images'])}"
        return f"{done}, {event['errors']} errors, {event['images_per_s']:.3g} images/s, {left} left"
    if kind == "series_done":
        return f"  {_outcome(event)}"
    if kind == "stage" and event["stage"] == "project" and event["done"] == 0:
        return "  projecting ..."
    return None


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)
        series = ""

        def listener(event: Event) -> None:
            nonlocal series
            if event["event"] == "series":
                series = f"series {event['number']} of {event['of']} · "
            if event["event"] == "stage":
                if event["done"] == 0:
                    progress.reset(task, total=event["total"], description=series + event["stage"])
                progress.update(task, completed=event["done"], total=event["total"])
            elif (line := _line(event)) is not None:
                progress.console.print(line, markup=False, highlight=False)

        yield listener


def print_result(content: Event, output: str, *, as_json: bool) -> None:
    """The end of an analysis: verdicts, and where everything lies."""
    if as_json:
        event = {name: content[name] for name in ("status", "exit_status", "verdict")}
        print_line(json.dumps({"event": "result", "output": output, **event}, ensure_ascii=False))
        return
    files = "_*" if content.get("layout") == "flat" else ""
    for entry in content["series"]:
        print_line(f"{output}/{entry['folder']}{files}: {_outcome(entry)}")
    for line in skipped_lines(content["skipped"]):
        print_line(line)
    print_line(f"{output}/result.json: {content['status']}")


def skipped_lines(skipped: list[Event]) -> list[str]:
    """What was left out, counted by reason."""
    counts = Counter((item["code"], item["reason"]) for item in skipped)
    return [f"left out: {_files(count)}: {code} {reason}" for (code, reason), count in counts.most_common(10)]


def print_error(error: BaseException, *, as_json: bool, debug: bool) -> AnomapError:
    """One line to stderr; the traceback too when debugging (it may hold patient data, so only then)."""
    ours = as_error(error)
    if debug:
        traceback.print_exception(error)
    if as_json:
        line = {"event": "error", **error_entry(ours), "exit_status": int(ours.status)}
        print_line(json.dumps(line, ensure_ascii=False))
    print_line(" ".join(str(ours).splitlines()), sys.stderr)
    return ours


def print_line(line: str, stream: TextIO | None = None) -> None:
    """One line, at once. A reader that has gone (``| head``) does not end the analysis."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        silence(stream)


def silence(stream: TextIO) -> None:
    """Send what else is written to a stream to nowhere, as Python's documentation advises for broken pipes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _outcome(entry: Event) -> str:
    if entry["status"] != "complete":
        error = entry["error"]
        return f"{entry['status'].replace('_', ' ')}: {error['code']} {error['message']}"
    p = "" if entry["p_value"] is None else f", p = {entry['p_value']:.3g}"
    quick = entry.get("tier", {}).get("name") == "quick"
    return f"{entry['verdict']}{p}" + (f", a quick look at one image in {entry['tier']['every']}" if quick else "")


def _images(count: int) -> str:
    return f"{count} image" + "s" * (count != 1)


def _files(count: int) -> str:
    return f"{count} file" + "s" * (count != 1)
