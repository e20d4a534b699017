"""`anomap serve --check` and `anomap status`, started as an administrator starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anomap.dicom.phantom import write_ct_phantom
from tests.clinic.results import CT_RESULTS, require_one_set, results_of
from tests.service.clinic import ROOT, Node, Orthanc, dicom_archive, eventually, free_port, running, storescu


def anomap(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anomap.cli", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def said(*words: str | Path) -> str:
    """What a command that must succeed says."""
    run = anomap(*words)
    assert run.returncode == 0, run.stderr
    return run.stdout


@dataclass
class Clinic:
    """One series done, one refused, and one that the archive wasn't there for."""

    orthanc: Orthanc
    node: Node
    unsent: Path  # a file of the last


@pytest.fixture(scope="module")
def clinic(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    orthanc = Orthanc(folder / "orthanc", free_port())
    place = dicom_archive(orthanc, attempts=2, confirm_s=1.0)
    node = Node(folder / "node", toy_models, [place])
    done, gap, unsent = (
        write_ct_phantom(folder / name, slices=5, rows=64, columns=64, patient_id=name, patient_name=f"Canary^{name}")
        for name in ("done", "gap", "unsent")
    )
    with running(orthanc, node):
        for paths, states in (done, ["done"]), (gap[:2] + gap[3:], ["done", "refused"]):
            assert storescu(node.port, "ANOMAP", *paths) == 0
            node.wait(*states)
        orthanc.stop()
        assert storescu(node.port, "ANOMAP", *unsent) == 0
        node.wait("done", "refused", "failed")
        yield Clinic(orthanc, node, unsent[0])


def test_status_tells_people_how_it_is(clinic: Clinic):
    text = said("status", clinic.node.settings)
    lines = text.splitlines()
    assert lines[0].startswith("node runs · anomap ")
    assert lines[0].endswith(" GB free")
    assert lines[1] == "jobs: 1 done, 1 refused, 1 failed"
    assert lines[2:4] == ["archive archive: 3 confirmed", "archive archive: 3 failed"]
    rows = [line.split() for line in lines[4:7]]
    assert [(row[0], row[3]) for row in rows] == [("3", "failed"), ("2", "refused"), ("1", "done")]
    assert {row[5] for row in rows} == {"CT"}
    assert "UNCALIBRATED" in lines[6]
    assert " E600 " in lines[4]
    assert " E103 " in lines[5]
    assert lines[-1] == "Research use only. Not a diagnosis, not lesion detection."
    assert "Canary" not in text
    assert len(said("status", clinic.node.settings, "--limit", "1").splitlines()) == len(lines) - 2


def test_status_tells_programs(clinic: Clinic):
    content = json.loads(said("status", clinic.node.settings, "--json"))
    assert content["running"] is True
    assert {name: n for name, n in content["queue"].items() if n} == {"done": 1, "refused": 1, "failed": 1}
    assert [job["code"] for job in content["jobs"]] == ["E600", "E103", None]
    assert {(row["state"], row["objects"]) for row in content["outbox"]} == {("confirmed", 3), ("failed", 3)}


def test_status_check_is_for_monitoring(clinic: Clinic, toy_models: Path, tmp_path: Path):
    assert said("status", clinic.node.settings, "--check") == "healthy\n"
    full = tmp_path / "full.toml"
    full.write_text(clinic.node.settings.read_text().replace("min_free_gb = 0.1", "min_free_gb = 1e9"))
    run = anomap("status", full, "--check")
    assert (run.returncode, "E604" in run.stderr) == (4, True)
    stopped = Node(tmp_path / "stopped", toy_models)
    run = anomap("status", stopped.settings, "--check")
    assert (run.returncode, "E603" in run.stderr) == (2, True)  # never started
    with running(stopped):
        pass
    run = anomap("status", stopped.settings, "--check")
    assert (run.returncode, "E607" in run.stderr) == (4, True)


def test_serve_check_asks_every_archive(clinic: Clinic, tmp_path: Path):
    run = anomap("serve", clinic.node.settings, "--check")
    assert run.returncode == 4
    assert "listens as ANOMAP on 127.0.0.1:" in run.stdout
    assert "accepts MODALITY, TESTPACS" in run.stdout
    assert "models: toy-ct 0.0.1, toy-radiograph 0.0.1" in run.stdout
    assert "archive: E600" in run.stdout
    misspelt = tmp_path / "misspelt.toml"
    misspelt.write_text(clinic.node.settings.read_text().replace("confirm =", "confrim ="))
    run = anomap("serve", misspelt, "--check")
    assert (run.returncode, "E200" in run.stderr, "confrim" in run.stderr) == (2, True, True)


def test_two_nodes_on_one_state_folder_are_refused(clinic: Clinic):
    text = clinic.node.settings.read_text()
    other = clinic.node.folder / "other.toml"
    text = text.replace(f"port = {clinic.node.port}", f"port = {free_port()}")
    other.write_text(text.replace(f"port = {clinic.node.web}", f"port = {free_port()}"))
    run = anomap("serve", other)
    assert (run.returncode, "E603" in run.stderr) == (2, True)
    assert said("status", clinic.node.settings, "--check") == "healthy\n"


def test_retry_and_discard(clinic: Clinic):
    """The last test: it changes what the others look at."""
    node = clinic.node
    for words in (["--retry", "1"], ["--retry", "99"], ["--discard", "1"], ["--discard", "99"]):
        run = anomap("status", node.settings, *words)
        assert (run.returncode, "E605" in run.stderr) == (2, True), words

    assert said("status", node.settings, "--retry", "2") == "job 2: ready\n"
    eventually(lambda: len(node.events("job_failed")) == 2, "the refused series is tried again")
    node.wait("done", "refused", "failed")
    assert said("status", node.settings, "--discard", "2") == "job 2: discarded\n"
    assert said("status", node.settings, "--discard", "3") == "job 3: discarded\n"
    assert node.states() == ["done", "discarded", "discarded"]
    assert "job 3" not in said("status", node.settings, "--retry-all")  # what was given up stays so

    clinic.orthanc.start()
    assert results_of(clinic.orthanc, clinic.unsent) == []
    assert said("serve", node.settings, "--check").endswith("archive: answers, confirmation by qido\n")
    assert said("status", node.settings, "--retry", "3") == "job 3: outbox\n"
    node.wait("done", "discarded", "done")
    require_one_set(clinic.orthanc, clinic.unsent, CT_RESULTS)
    assert len(node.events("job_analysed")) == 2  # sent, not analysed again


def test_retry_all_takes_up_what_has_failed(toy_models: Path, tmp_path: Path):
    orthanc = Orthanc(tmp_path / "orthanc", free_port())
    node = Node(tmp_path / "node", toy_models, [dicom_archive(orthanc, attempts=1)])
    paths = [write_ct_phantom(tmp_path / f"{n}", slices=5, rows=64, columns=64, seed=n) for n in range(2)]
    with running(node):
        for n, series in enumerate(paths):
            assert storescu(node.port, "ANOMAP", *series) == 0
            node.wait(*["failed"] * (n + 1))
        with running(orthanc):
            lines = said("status", node.settings, "--retry-all").splitlines()
            assert sorted(lines) == ["job 1: outbox", "job 2: outbox"]
            node.wait("done", "done")
            for series in paths:
                require_one_set(orthanc, series[0], CT_RESULTS)
