"""Analyses in the container, with everything taken from it that can be: results, exit statuses, signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from anomap.errors import ExitStatus
from tests.dicom.tools import complaints
from tests.image.conftest import HARDENED, copied, writable
from tests.image.engine import ROOT

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
RULES = json.loads((ROOT / "docs" / "result.schema.json").read_text())


def mounted(source: Path, output: Path) -> list[str]:
    """The folders of a MAP."""
    return [f"--volume={source}:/var/holoscan/input:ro", f"--volume={output}:/var/holoscan/output"]


def results(output: Path) -> dict[str, dict]:
    """Every result.json without what may differ between runs; each must keep to the schema."""
    found = {}
    for path in sorted(output.rglob("result.json")):
        content = json.loads(path.read_text())
        jsonschema.validate(content, RULES)
        del content["run"], content["outputs" if content["kind"] == "series" else "config"]
        found[str(path.relative_to(output))] = content
    return found


@pytest.fixture(scope="module")
def outside(study, tmp_path_factory) -> Path:
    """The same study without a container."""
    output = tmp_path_factory.mktemp("outside") / "out"
    command = [sys.executable, "-m", "anomap", "analyze", study, output, "--models", ROOT / "models"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
    return output


@pytest.fixture(scope="module")
def inside(engine, study, tmp_path_factory) -> Path:
    """The study through the container, without arguments."""
    output = writable(tmp_path_factory.mktemp("inside") / "out")
    start = time.monotonic()
    run = engine.run(options=[*HARDENED, *mounted(study, output)])
    engine.measured["run_s"] = round(time.monotonic() - start, 1)
    assert run.returncode == 0, run.stderr
    assert "ZZID" not in run.stdout + run.stderr
    return output


def test_no_arguments_analyse_the_input_with_the_scores_of_the_command_line(inside, outside):
    found = results(inside)
    assert len(found) == 3
    assert all(content["status"] == "complete" for content in found.values())
    assert found == results(outside)


def test_what_comes_out_is_valid_dicom_of_the_user_who_ran_it(inside):
    objects = sorted(inside.rglob("*.dcm"))
    assert {path.name for path in objects} >= {"sr.dcm", "seg.dcm", "pm.dcm"}
    for path in objects:
        assert complaints(path) == []
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)
    assert [path.name for path in inside.iterdir() if path.name.startswith(".")] == []


def test_anomap_analyze_gives_the_same(engine, study, outside, output):
    mounts = [f"--volume={study}:/in:ro", f"--volume={output}:/out"]
    run = engine.run("analyze", "/in", "/out", options=[*HARDENED, *mounts])
    assert run.returncode == 0, run.stderr
    assert results(output) == results(outside)


def test_the_default_user_may_write_into_a_new_named_volume(engine, study, quick):
    mounts = [f"--volume={study}:/var/holoscan/input:ro", "--volume=results:/var/holoscan/output"]
    try:
        run = engine.run(options=["--network=none", quick, *mounts])
        assert run.returncode == 0, run.stderr
        look = ["--network=none", "--volume=results:/r:ro", "--entrypoint=cat"]
        assert json.loads(engine.run("/r/result.json", options=look).stdout)["status"] == "complete"
    finally:
        engine.call("podman", "volume", "rm", "--force", "results")


def test_nothing_to_analyse_ends_with_3(engine, output, tmp_path):
    source = writable(tmp_path / "in")
    (source / "note.txt").write_text("no image")
    run = engine.run(options=[*HARDENED, *mounted(source, output)])
    assert run.returncode == ExitStatus.UNUSABLE_INPUT
    assert json.loads((output / "result.json").read_text())["exit_status"] == ExitStatus.UNUSABLE_INPUT


def test_wrong_use_ends_with_2(engine, study, output, tmp_path):
    (tmp_path / "bad.yaml").write_text("analyze: {presett: fast}\n")
    bad = f"--volume={tmp_path / 'bad.yaml'}:/var/holoscan/app.yaml:ro"
    run = engine.run(options=[*HARDENED, bad, *mounted(study, output)])
    assert run.returncode == ExitStatus.USAGE
    assert "E200" in run.stderr
    (output / "theirs.txt").write_text("not ours")
    run = engine.run(options=[*HARDENED, *mounted(study, output)])
    assert run.returncode == ExitStatus.USAGE
    assert "E201" in run.stderr
    assert [path.name for path in output.iterdir()] == ["theirs.txt"]


def test_an_output_that_may_not_be_written_ends_with_2(engine, study, tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o755)
    run = engine.run(options=[*HARDENED, *mounted(study, tmp_path / "closed")])
    assert run.returncode == ExitStatus.USAGE
    assert run.stderr.startswith("E202 ")


def test_a_damaged_model_ends_with_4(engine, study, output, tmp_path):
    models = copied(ROOT / "models", tmp_path / "models")
    for path in models.glob("*/models/model.safetensors"):
        path.write_bytes(b"none")
    options = [f"--volume={models}:/models:ro", "--env=HOLOSCAN_MODEL_PATH=/models"]
    run = engine.run(options=[*HARDENED, *options, *mounted(study, output)])
    assert run.returncode == ExitStatus.FAILED
    content = json.loads((output / "result.json").read_text())
    assert (content["status"], content["error"]["code"]) == ("failed", "E301")


def test_the_time_limit_ends_with_124(engine, study, output):
    run = engine.run("-t", "1", options=[*HARDENED, *mounted(study, output)])
    assert run.returncode == ExitStatus.TIMEOUT
    assert [path.name for path in output.iterdir()] == ["result.json"]
    assert json.loads((output / "result.json").read_text())["error"]["code"] == "E402"


@pytest.fixture
def busy(engine, study, output, tmp_path) -> str:
    """A container in the middle of a long analysis; its name."""
    (tmp_path / "long.yaml").write_text("analyze: {preset: paper, steps: 100000}\n")
    settings = f"--volume={tmp_path / 'long.yaml'}:/var/holoscan/app.yaml:ro"
    name = engine.start(options=[*HARDENED, settings, *mounted(study, output)])
    deadline = time.monotonic() + 300
    while "projecting" not in engine.call("podman", "logs", name).stderr and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "projecting" in engine.call("podman", "logs", name).stderr
    return name


def test_a_container_that_is_stopped_ends_with_130_and_publishes_nothing(engine, busy, output):
    start = time.monotonic()
    engine.call("podman", "stop", "--time=60", busy)
    engine.measured["stop_s"] = round(time.monotonic() - start, 1)
    assert engine.call("podman", "wait", busy).stdout.strip() == str(int(ExitStatus.CANCELLED))
    assert "E403" in engine.call("podman", "logs", busy).stderr
    assert list(output.iterdir()) == []


KILL_CHILD = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"deploy_app.app" in path.read_bytes().split(b"\\0"):
        os.kill(int(path.parent.name), signal.SIGKILL)
"""


def test_a_crash_of_the_application_is_never_0(engine, busy, output):
    engine.call("podman", "exec", busy, "python", "-c", KILL_CHILD)
    assert engine.call("podman", "wait", busy, timeout=120).stdout.strip() == str(int(ExitStatus.FAILED))
    assert [path.name for path in output.iterdir()] == ["result.json"]
    assert json.loads((output / "result.json").read_text())["error"]["code"] == "E500"


def test_the_health_check_of_a_container_at_work_passes(engine, busy):
    try:
        engine.call("podman", "healthcheck", "run", busy)
    finally:
        engine.call("podman", "kill", busy)


def test_a_tmp_that_cannot_be_written_is_said_to_be_the_reason(engine, study, output):
    """Docker's --read-only brings no tmpfs on /tmp, podman's does unless told otherwise."""
    for words in ([], ["analyze", "/var/holoscan/input", "/var/holoscan/output"], ["health"]):
        run = engine.run(*words, options=[*HARDENED, "--read-only-tmpfs=false", *mounted(study, output)])
        assert run.returncode == ExitStatus.USAGE
        assert run.stderr.startswith("E202 /tmp")
        assert len(run.stderr.splitlines()) == 1
    assert list(output.iterdir()) == []
    assert engine.run("show", options=[*HARDENED, "--read-only-tmpfs=false"]).returncode == 0
