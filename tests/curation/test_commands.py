"""`anomap curate` and its parts through the command line: exit statuses, refusals, a stop, an array of jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap.cli import main
from anomap.curation.settings import IMAGES_FILE
from anomap.types import PreprocessSpec
from tests.curation.conftest import KEY
from tests.toy import write_toy_bundle

ROOT = Path(__file__).parents[2]
QUICK = ["--shard-size", "4", "--steps", "2", "--device", "cpu"]


@pytest.fixture
def key(tmp_path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return path


def table(out):
    return pq.read_table(out / IMAGES_FILE)


def test_one_command_makes_the_table_and_says_what_it_left_out(whole, tree, toy_models, tmp_path, key, capsys):
    out = tmp_path / "out"
    words = ["curate", str(tree), "-o", str(out), "--models", str(toy_models), "--patient-key", str(key), *QUICK]
    assert main([*words, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(event["event"] for event in events if event["event"] != "stage") == "index"
    assert events[-1]["event"] == "result"
    assert events[-1]["exit_status"] == 0
    assert events[-1]["rows"] == len(table(out))
    assert table(out).equals(table(whole))
    assert main(words) == 0
    said = capsys.readouterr()
    assert "not scored: 2 rows, E101" in said.out
    assert str(tree) not in (out / "curate.json").read_text()


def test_an_array_of_jobs_gives_the_same_table(whole, tree, toy_models, tmp_path, key, capsys):
    out, models = tmp_path / "out", ["--models", str(toy_models)]
    assert main(["curate", "index", str(tree), "-o", str(out), "--patient-key", str(key), *models, *QUICK]) == 0
    shards = int(capsys.readouterr().out)
    assert main(["curate", "merge", str(out)]) == 2
    assert "E703" in capsys.readouterr().err
    for number in reversed(range(shards)):
        assert main(["curate", "shard", str(out), str(number), "--root", str(tree), *models]) == 0
    assert main(["curate", "shard", str(out), str(shards), "--root", str(tree), *models]) == 2
    assert main(["curate", "shard", str(out), "0", "--root", str(tree)]) == 0  # it is there: nothing to do
    assert main(["curate", "merge", str(out)]) == 0
    assert table(out).equals(table(whole))


def test_a_machine_with_other_models_is_refused(tree, toy_models, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "models"
    assert main(["curate", "index", str(tree), "-o", str(out), "--models", str(toy_models), *QUICK]) == 0
    write_toy_bundle(other / "toy-ct", PreprocessSpec(kind="ct", size=32), ("CT",), "")
    assert main(["curate", "shard", str(out), "0", "--root", str(tree), "--models", str(other)]) == 2
    assert "E700" in capsys.readouterr().err
    assert not list((out / "shards").glob("*"))


def test_an_array_with_triage_runs_twice(tree, toy_models, tmp_path, capsys):
    out, models = tmp_path / "out", ["--models", str(toy_models)]
    assert main(["curate", "index", str(tree), "-o", str(out), "--triage", "0.5", *models, *QUICK]) == 0
    shards = int(capsys.readouterr().out)
    for _ in range(2):
        for number in range(shards):
            assert main(["curate", "shard", str(out), str(number), "--root", str(tree), *models]) == 0
        assert main(["curate", "merge", str(out)]) == 0
    said = capsys.readouterr().out
    assert "run all shards again" in said
    assert set(table(out)["tier"].to_pylist()) == {"", "cheap", "projected"}


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["--triage", "1.5"], 2, "E200"),
        (["--shard-size", "0"], 2, "E200"),
        (["--workers", "2"], 2, "E200"),
        (["--model", "none"], 4, "E300"),
        (["--patient-key", __file__ + ".none"], 2, "E200"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tree, toy_models, tmp_path, capsys, words, status, code):
    out = tmp_path / "out"
    assert main(["curate", str(tree), "-o", str(out), "--models", str(toy_models), *words]) == status
    assert code in capsys.readouterr().err
    assert not out.exists()


def test_a_repository_without_an_image_ends_with_3(toy_models, tmp_path, capsys):
    (tmp_path / "root").mkdir()
    words = ["curate", str(tmp_path / "root"), "-o", str(tmp_path / "out"), "--models", str(toy_models)]
    assert main(words) == 3
    assert "E100" in capsys.readouterr().err
    (tmp_path / "root" / "notes.txt").write_text("x")
    assert main(words) == 3  # the same command goes on: an index was never complete
    assert table(tmp_path / "out")["error"].to_pylist() == ["E101"]


def test_a_stop_ends_with_130_and_the_same_command_goes_on(whole, tree, toy_models, tmp_path, key):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "anomap", "curate", str(tree), "-o", str(out), "--models", str(toy_models)]
    command += ["--patient-key", str(key), "--json", *QUICK]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background may ignore it
    ) as process:
        for line in process.stdout:
            if b'"shard"' in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"E403" in errors
    assert b"Traceback" not in errors
    assert list((out / "shards").glob("[0-9]*.parquet"))
    assert not list((out / "shards").glob(".*"))
    assert not (out / IMAGES_FILE).exists()
    assert main([word for word in command[3:] if word != "--json"]) == 0
    assert table(out).equals(table(whole))
