"""The words of the container, without a container: what is started, with which arguments, and what comes back.

Programs that only say how they were called stand in for ``anomap`` and ``python``; tests/image runs the real ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "container" / "entrypoint.sh"
RECORDER = '#!/bin/sh\nprintf "%s" "$(basename "$0")"\nfor word in "$@"; do printf "|%s" "$word"; done\nexit 7\n'


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Recorders for both programs first in the path; manifests, application, models and documents in a folder."""
    (tmp_path / "bin").mkdir()
    for name in ("anomap", "python"):
        (tmp_path / "bin" / name).write_text(RECORDER)
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("app.json", "pkg.json"):
        (tmp_path / name).write_text(f"{{{name}}}\n")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOLOSCAN_APP_MANIFEST_PATH": str(tmp_path / "app.json"),
        "HOLOSCAN_PKG_MANIFEST_PATH": str(tmp_path / "pkg.json"),
    }


def start(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ENTRYPOINT, *words], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ((), "python|-m|deploy_app"),
        (("-i", "a b", "-o", "c"), "python|-m|deploy_app|-i|a b|-o|c"),
        (("--help",), "python|-m|deploy_app|--help"),
        (("analyze", "in put", "out"), "anomap|analyze|in put|out"),
        (("doctor",), "anomap|doctor"),
        (("models", "verify"), "anomap|models|verify"),
        (("info",), "anomap|info"),
        (("serve", "x.yaml"), "anomap|serve|x.yaml"),
        (("status", "x.yaml", "--check"), "anomap|status|x.yaml|--check"),
        (("version",), "anomap|--version"),
        (("health",), "anomap|doctor"),
    ],
)
def test_a_word_starts_its_program_and_hands_its_status_on(words, called, environment):
    run = start(environment, *words)
    assert run.stdout == called
    assert run.returncode == 7
    assert run.stderr == ""


def test_health_asks_the_node_when_its_settings_are_there(environment, tmp_path):
    settings = tmp_path / "node settings.yaml"
    environment["ANOMAP_SERVE_CONFIG"] = str(settings)
    assert start(environment, "health").stdout == "anomap|doctor"
    settings.touch()
    assert start(environment, "health").stdout == f"anomap|status|{settings}|--check"


@pytest.mark.parametrize(
    ("words", "shown"),
    [(("show",), "{app.json}\n{pkg.json}\n"), (("show", "app"), "{app.json}\n"), (("show", "pkg"), "{pkg.json}\n")],
)
def test_show_prints_the_manifests(words, shown, environment):
    run = start(environment, *words)
    assert (run.returncode, run.stdout) == (0, shown)


@pytest.mark.parametrize("words", [("anaylze",), ("show", "all of it"), ("extract",), ("sh", "-c", "true")])
def test_what_is_not_understood_ends_with_2_and_one_line(words, environment):
    run = start(environment, *words)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("E200 ")
    assert len(run.stderr.splitlines()) == 1


def test_help_and_env(environment):
    assert "not a diagnosis" in start(environment, "help").stdout
    assert f"PATH={environment['PATH']}\n" in start(environment, "env").stdout


def test_a_signal_reaches_the_program_itself(environment, tmp_path):
    """Without exec the shell would die and leave the application running."""
    sleep = shutil.which("sleep")
    (tmp_path / "bin" / "python").write_text(f"#!/bin/sh\necho ready\nexec {sleep} 60\n")
    child = subprocess.Popen([ENTRYPOINT], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
