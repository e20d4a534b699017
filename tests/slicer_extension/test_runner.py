"""The runner with real processes: events, cancelling, and that nothing is left, neither process nor file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from AnomapLib.logic import AnomapLogic, Settings, State
from AnomapLib.runner import LocalRunner

from tests.service.clinic import eventually
from tests.slicer_extension.runs import finish, ijk_to_ras, local_runner, spl_affine, trunk


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Job folders come here, so that what is left can be seen."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def python_that(tmp_path: Path, body: str) -> str:
    """An executable in the place of Python; `$JOB` is the job folder."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def events_of(runner: LocalRunner, timeout_s: float = 30.0) -> list[dict]:
    """All events until the runner rests."""
    events: list[dict] = []
    end = time.monotonic() + timeout_s
    while runner.running:
        assert time.monotonic() < end, events
        events += runner.poll()
        time.sleep(0.01)
    return events + runner.poll()


def group(pid: int) -> list[int]:
    """Living processes of a process group."""
    found = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in found.splitlines()]
    return [int(own) for own, its, state in lines if int(its) == pid and not state.startswith("Z")]


def running_job(runner: LocalRunner) -> int:
    """The process of a runner once it is there."""
    eventually(lambda: runner._process is not None, 20)
    return runner._process.pid


def test_the_real_analysis_through_a_process(application, toy_models, temporary):
    node = application.volume(trunk(), ijk_to_ras(spl_affine()))
    logic = AnomapLogic(application.scene, local_runner())
    logic.start(node, Settings(modelFolder=str(toy_models)))
    assert finish(logic) is State.DONE, logic.message
    assert logic.outcome.verdict == "UNCALIBRATED"
    assert any(line.startswith("device: cpu") for line in logic.log)
    (kept,) = temporary.iterdir()
    assert {path.name for path in kept.rglob("*") if path.is_file()} == {"result.json"}  # the arrays are in memory now
    assert kept.stat().st_mode & 0o077 == 0  # nobody else may look
    logic.close()
    assert list(temporary.iterdir()) == []


def test_cancel_returns_at_once_and_leaves_no_process(application, toy_models, temporary):
    node = application.volume(trunk(), ijk_to_ras(spl_affine()))
    logic = AnomapLogic(application.scene, local_runner())
    logic.start(node, Settings(modelFolder=str(toy_models), preset="paper"))
    eventually(lambda: logic.update() and logic.message.startswith("project"), 60)
    pid = running_job(logic.runner)
    start = time.monotonic()
    logic.cancel()
    assert time.monotonic() - start < 0.2
    assert logic.state is State.CANCELLING
    assert finish(logic, 5.0) is State.CANCELLED
    assert group(pid) == []
    assert list(temporary.iterdir()) == []
    assert logic.outcome is None
    logic.start(node, Settings(modelFolder=str(toy_models)))  # and it is ready for the next
    assert finish(logic) is State.DONE
    logic.close()


def test_a_process_that_does_not_listen_is_ended_with_its_children(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr("AnomapLib.runner.GRACE_S", 0.3)
    script = python_that(
        tmp_path,
        """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        print('{"event": "note", "text": "deaf"}', flush=True)
        time.sleep(600)
        """,
    )
    runner = LocalRunner(script)
    runner.start(lambda folder: None, lambda folder: None)
    pid = running_job(runner)
    eventually(lambda: runner.poll(), 10)
    assert len(group(pid)) == 2
    runner.cancel()
    assert events_of(runner)[-1] == {"event": "cancelled"}
    assert group(pid) == []
    assert list(temporary.iterdir()) == []


def test_cancel_before_the_process_is_there(tmp_path, temporary):
    runner = LocalRunner(python_that(tmp_path, "raise SystemExit('must not start')"))
    runner.start(lambda folder: time.sleep(0.3), lambda folder: None)
    runner.cancel()
    assert events_of(runner) == [{"event": "cancelled"}]
    assert list(temporary.iterdir()) == []


def test_the_analysis_ends_with_its_parent(tmp_path, toy_models):
    """Slicer crashes: nobody is there to cancel."""
    program = tmp_path / "viewer.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        sys.path.insert(1, sys.path[0] + "/slicer_extension/Anomap")
        from tests.slicer_extension.scene import Application
        from tests.slicer_extension.runs import *
        application = Application()
        logic = AnomapLogic(application.scene, local_runner())
        node = application.volume(trunk(), ijk_to_ras(spl_affine()))
        logic.start(node, Settings(modelFolder={str(toy_models)!r}, preset="paper"))
        while not logic.message.startswith("project"):
            logic.update()
            time.sleep(0.01)
        print(logic.runner._process.pid, flush=True)
        time.sleep(600)
        """)
    )
    viewer = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    worker = int(viewer.stdout.readline())
    assert group(worker)
    os.kill(viewer.pid, signal.SIGKILL)
    viewer.wait()
    eventually(lambda: not group(worker), 5)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("import sys; sys.exit('No module named anomap')", "E203", "this Python has no anomap"),
        ("import sys; sys.exit(\"ModuleNotFoundError: No module named 'torch'\")", "E203", "this Python has no torch"),
        ("import sys; print('boom', file=sys.stderr); sys.exit(7)", "E606", "ended with status 7: boom"),
        ("import os; os.kill(os.getpid(), 9)", "E606", "was ended by signal 9"),
        ("print('no json'); print('[1]'); print('{}')", "E606", "ended with status 0"),
    ],
)
def test_a_process_that_dies_is_a_failure_with_a_reason(body, code, words, tmp_path, temporary):
    runner = LocalRunner(python_that(tmp_path, body))
    runner.start(lambda folder: None, lambda folder: pytest.fail("nothing to read"))
    last = events_of(runner)[-1]
    assert (last["event"], last["code"]) == ("error", code)
    assert words in last["message"]
    assert list(temporary.iterdir()) == []


def test_a_python_that_is_not_there_is_a_failure(temporary):
    runner = LocalRunner("/no/such/python")
    runner.start(lambda folder: None, lambda folder: None)
    last = events_of(runner)[-1]
    assert last["event"] == "error"
    assert "/no/such/python" in last["message"]


def test_a_volume_that_can_not_be_written_is_a_failure(temporary):
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    runner = local_runner()
    runner.start(full, lambda folder: None)
    (last,) = events_of(runner)
    assert "No space left" in last["message"]
    assert list(temporary.iterdir()) == []


def test_only_one_at_a_time(tmp_path):
    runner = LocalRunner(python_that(tmp_path, "import sys; sys.stdin.read()"))
    runner.start(lambda folder: None, lambda folder: None)
    with pytest.raises(RuntimeError, match="running"):
        runner.start(lambda folder: None, lambda folder: None)
    runner.close()
    assert not runner.running


def test_what_the_process_prints_in_odd_bytes_does_no_harm(tmp_path):
    runner = LocalRunner(
        python_that(
            tmp_path,
            r"""
            import sys
            sys.stdout.buffer.write(b'\xff\xfe nonsense\n{"event": "note", "text": "\xc3\xa4\xff"}\n')
            print('{"event": "done", "exit_status": 0}')
            """,
        )
    )
    runner.start(lambda folder: None, lambda folder: "the result")
    events = events_of(runner)
    assert events == [{"event": "note", "text": "ä\ufffd"}, {"event": "loaded", "view": "the result"}]
    runner.close()
