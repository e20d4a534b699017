"""Whatever the child does, its parent tells the truth and publishes all or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from deploy_app.settings import Settings
from deploy_app.supervisor import supervise

RESULT = {"schema": "anomap.result/1", "status": "complete", "exit_status": 0, "verdict": None, "series": []}


def settings(tmp_path: Path, timeout_s: float | None = None) -> Settings:
    return Settings(
        source=tmp_path, output=tmp_path / "out", models=tmp_path, config=AnalyzeConfig(), timeout_s=timeout_s,
        log_level="ERROR",
    )  # fmt: skip


def child(body: str):
    """A child that runs a few lines; `folder` is its staging folder."""
    start = "import json, os, pathlib, signal, subprocess, sys, time\n"

    def command(_: Settings, folder: Path) -> list[str]:
        return [sys.executable, "-c", f"{start}folder = pathlib.Path({str(folder)!r})\n{body}"]

    return command


def write(content: dict) -> str:
    return f"(folder / 'result.json').write_text({json.dumps(content)!r})\n"


def test_a_complete_result_is_published(tmp_path):
    body = "(folder / '01-CT-x').mkdir()\n" + write(RESULT)
    assert supervise(settings(tmp_path), child(body)) == RESULT
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01-CT-x", "result.json"]


@pytest.mark.parametrize(
    ("change", "released"),
    [
        ({"verdict": "PASS"}, True),
        ({"verdict": "REVIEW"}, False),
        ({"verdict": "REJECT"}, False),
        ({"verdict": "UNCALIBRATED"}, False),
        ({}, False),
        ({"verdict": "PASS", "status": "partial", "exit_status": 5}, False),
    ],
)
def test_the_next_module_gets_the_images_of_a_complete_pass_and_of_nothing_else(change, released, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "1.2#3.dcm").write_bytes(b"an image")
    (source / "task.json").write_text("{}")
    content = {**RESULT, **change}
    body = write(content) + f"sys.exit({content['exit_status']})"
    chained = replace(settings(tmp_path), source=source, release=True)
    assert supervise(chained, child(body)) == content
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}
    assert found == ({"1.2#3.dcm": b"an image"} if released else {})
    plain = replace(chained, output=tmp_path / "plain", release=False)
    supervise(plain, child(body))
    assert not list((tmp_path / "plain").glob("*.dcm"))


def test_a_child_that_fails_releases_nothing(tmp_path):
    (tmp_path / "1.dcm").write_bytes(b"an image")
    with pytest.raises(AnomapError, match="E500"):
        supervise(
            replace(settings(tmp_path), release=True), child(write({**RESULT, "verdict": "PASS"}) + "sys.exit(4)")
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_an_image_never_takes_the_name_of_a_result(tmp_path):
    (tmp_path / "sr.dcm").write_bytes(b"an image")
    body = "(folder / 'sr.dcm').write_text('a report')\n" + write({**RESULT, "verdict": "PASS"})
    with pytest.raises(AnomapError, match="E501"):
        supervise(replace(settings(tmp_path), release=True), child(body))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "E500"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "E500"),
        ("sys.exit(0)", "E500"),  # success without a result
        ("sys.exit(9)", "E500"),
        ("raise RuntimeError('ZZPHI')", "E500"),
        ("(folder / 'result.json').write_text('{half')", "E500"),
        (write(RESULT) + "sys.exit(4)", "E500"),  # a result and a failure
        (write({**RESULT, "exit_status": 10}) + "sys.exit(10)", "E500"),  # a status the application doesn't have
        (write({**RESULT, "exit_status": 3, "error": {"code": "E104", "message": "m", "remedy": "r"}}) + "sys.exit(3)",
         "E104"),
    ],
    ids=["segfault", "killed", "silent", "status 9", "exception", "half", "contradiction", "unknown", "own error"],
)  # fmt: skip
def test_a_child_that_fails_leaves_a_refusal_alone(body, code, tmp_path):
    litter = "(folder / 'sr.dcm').write_text('half a report')\n"
    with pytest.raises(AnomapError, match=code):
        supervise(settings(tmp_path), child(litter + body))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["result.json"]
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["status"] == "failed"
    assert content["verdict"] is None
    assert content["error"]["code"] == code
    assert "ZZPHI" not in json.dumps(content)


def test_the_time_out_ends_the_child_and_its_children(tmp_path):
    body = (
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(other.pid))\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(AnomapError, match="E402"):
        supervise(settings(tmp_path, timeout_s=3), child(body))
    assert time.monotonic() - start < 30
    pid = int((tmp_path / "pid").read_text())
    assert not alive(pid)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["exit_status"] == 124


def alive(pid: int) -> bool:
    """Whether a process runs (a dead one may wait for its parent to notice)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def test_being_told_to_stop_publishes_nothing_and_ends_with_130(tmp_path):
    code = (
        "import sys; from pathlib import Path; from deploy_app import supervisor; "
        f"supervisor.child_command = lambda s, f: [sys.executable, '-c', 'import time; time.sleep(60)']; "
        f"sys.exit(supervisor.main(['-i', {str(tmp_path)!r}, '-o', {str(tmp_path / 'out')!r}, '-m', '.']))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".anomap-staging-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # so that the child runs
    os.kill(parent.pid, signal.SIGTERM)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert b"E403" in said
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_known_before_any_work(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AnomapError, match="E202"):
        supervise(settings(tmp_path), child(f"pathlib.Path({str(tmp_path)!r}, 'ran').touch()"))
    assert not (tmp_path / "ran").exists()


def test_a_program_that_is_not_there_is_a_failure(tmp_path):
    with pytest.raises(AnomapError, match="E500"):
        supervise(settings(tmp_path), lambda *_: ["/nowhere/python"])
