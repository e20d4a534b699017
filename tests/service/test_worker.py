"""The worker process: one line in, one line out, and nothing published that was not finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from pydicom import dcmread

from anomap.bundle import WEIGHTS
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.output import RESULT, STAGING_PREFIX
from anomap.service.worker import run_job
from tests.service.clinic import ROOT, eventually

QUICK = AnalyzeConfig(steps=2, device="cpu", overwrite=True)
ENDLESS = replace(QUICK, steps=10**6)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_radiograph_phantom(folder, rows=96, columns=80)
    return folder


class Process:
    """The process as the node starts it."""

    def __init__(self, models, config=QUICK, memory_limit_gb=0.0, **environment):
        words = {"models": str(models), "config": config.as_dict(), "memory_limit_gb": memory_limit_gb}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "anomap.service.worker", json.dumps(words)], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait(20)
        self.popen.stdin.close()
        self.popen.stdout.close()

    def order(self, source, output):
        line = json.dumps({"source": str(source), "output": str(output), "previous": []})
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def answer(self):
        line = self.popen.stdout.readline()
        return json.loads(line) if line else None

    def published(self, *orders):
        """Its answers to orders, after the first that says it is ready."""
        assert self.answer() == {"event": "ready"}
        answers = []
        for source, output in orders:
            self.order(source, output)
            answers.append(self.answer())
        return answers


def _wait_for_staging(folder):
    eventually(lambda: list(folder.glob(f"{STAGING_PREFIX}*/*")) or list(folder.glob(f"{STAGING_PREFIX}*")),
               "the analysis has begun", 60)  # fmt: skip


def test_it_analyses_one_job_after_the_other_with_the_models_it_has_loaded(source, toy_models, tmp_path):
    """The weights are gone before the second job; and what is no image ends no process."""
    models, empty = tmp_path / "models", tmp_path / "empty"
    shutil.copytree(toy_models, models)
    empty.mkdir()
    with Process(models) as process:
        (first,) = process.published((source, tmp_path / "one"))
        (models / "toy-radiograph" / WEIGHTS).unlink()
        process.order(empty, tmp_path / "none")
        refused = process.answer()
        process.order(source, tmp_path / "two")
        second = process.answer()
        process.popen.stdin.close()
        assert process.popen.wait(20) in (0, 130, -signal.SIGTERM)
    assert first == second == {"event": "done", "exit_status": 0}
    assert (refused["event"], refused["code"]) == ("error", "E100")
    assert {"message", "remedy"} <= set(refused)
    for name in ("one", "two"):
        assert json.loads((tmp_path / name / RESULT).read_text())["status"] == "complete"


def test_the_end_of_stdin_ends_a_job_in_its_midst_and_publishes_nothing(source, toy_models, tmp_path):
    with Process(toy_models, ENDLESS) as process:
        assert process.answer() == {"event": "ready"}
        process.order(source, tmp_path / "results" / "one")
        _wait_for_staging(tmp_path / "results")
        process.popen.stdin.close()
        assert process.answer() is None
        assert process.popen.wait(20) == 130
    assert list((tmp_path / "results").iterdir()) == []


def test_the_time_limit_is_an_error_and_no_verdict(source, toy_models, tmp_path):
    with Process(toy_models, replace(ENDLESS, time_limit_s=0.5)) as process:
        (answer,) = process.published((source, tmp_path / "one"))
    assert (answer["event"], answer["code"]) == ("error", "E402")
    assert json.loads((tmp_path / "one" / RESULT).read_text())["verdict"] is None


def test_too_little_memory_is_an_error_or_a_death_and_no_verdict(source, toy_models, tmp_path):
    with Process(toy_models, memory_limit_gb=0.6) as process:
        (answer,) = process.published((source, tmp_path / "one"))
        assert answer is None or answer["event"] == "error"
    path = tmp_path / "one" / RESULT
    assert not path.exists() or json.loads(path.read_text())["verdict"] is None


def test_what_libraries_print_does_not_reach_the_node(source, toy_models, tmp_path):
    """A thread that prints all the time, to Python's stdout and to the descriptor, once the analysis is imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, threading, time\n"
        "def chatter():\n"
        "    while 'anomap.study' not in sys.modules: time.sleep(0.01)\n"
        "    while True: print('{\"event\": \"forged\"}', flush=True); os.write(1, b'noise\\n'); time.sleep(0.01)\n"
        "threading.Thread(target=chatter, daemon=True).start()\n"
    )
    with Process(toy_models, PYTHONPATH=str(tmp_path)) as process:
        assert (
            process.published((source, tmp_path / "one"), (source, tmp_path / "two"))
            == [{"event": "done", "exit_status": 0}] * 2
        )


def test_a_former_report_is_named_and_one_that_is_gone_is_no_error(source, toy_models, tmp_path):
    bundles = {}
    order = {"source": str(source), "output": str(tmp_path / "one"), "previous": [str(tmp_path / "gone.dcm")]}
    assert run_job(order, toy_models, QUICK, bundles)["event"] == "done"
    (loaded,) = bundles.values()
    (report,) = (tmp_path / "one").glob("*/sr.dcm")
    order = {**order, "output": str(tmp_path / "two"), "previous": [str(report)]}
    assert run_job(order, toy_models, replace(QUICK, steps=3), bundles)["event"] == "done"
    assert list(bundles.values()) == [loaded]
    (second,) = (tmp_path / "two").glob("*/sr.dcm")
    assert dcmread(report).SOPInstanceUID in str(dcmread(second).get("PredecessorDocumentsSequence"))


def test_a_bug_is_told_in_our_words(source, toy_models, tmp_path):
    (tmp_path / "report.dcm").write_bytes(b"ZZPHI^CANARY")
    order = {"source": str(source), "output": str(tmp_path / "one"), "previous": [str(tmp_path / "report.dcm")]}
    answer = run_job(order, toy_models, QUICK, {})
    assert (answer["event"], answer["code"]) == ("error", "E500")
    assert "ZZPHI" not in json.dumps(answer)
