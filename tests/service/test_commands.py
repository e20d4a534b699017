"""`anomap serve` and `anomap status`: what people read, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from anomap import cli
from anomap.errors import AnomapError
from anomap.service import commands
from anomap.service.spool import key_of
from anomap.service.types import JobState
from tests.service.clinic import ROOT, free_port
from tests.service.parts import Archive, State, destination, image, write_settings


@pytest.fixture
def site(tmp_path):
    """Settings, and the state folder that they name."""
    made = State(tmp_path / "state")
    made.settings = write_settings(tmp_path)
    yield made
    made.database.close()


def _status(site, *words):
    return cli.main(["status", str(site.settings), *words])


def _failed(site, series="1.2.3"):
    lease = site.running(series)
    site.jobs.close(lease, 101.0, JobState.FAILED, AnomapError("E606", "the analysis process died"))
    return lease.job


def test_an_idle_node_is_told_in_three_lines(site, capsys):
    assert _status(site) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("node does not run · anomap ")
    assert second == "jobs: none"
    assert "Not a diagnosis" in third


def test_jobs_archives_and_alarms_have_a_line_each(site, capsys):
    site.to_send("1.2.826.0.1.9871", "1.2.826.0.1.9872", series="1.1")
    _failed(site, "1.2")
    site.jobs.receive(image("1.2.1", "1.2", content="other"), 102.0)
    with site.spool.lock():
        assert _status(site) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith("node runs")
    assert lines[1] == "jobs: 1 outbox, 1 failed"
    assert lines[2] == "archive archive: 2 queued"
    assert lines[3].split()[3:] == ["failed", key_of("1.2")[:8], "CT", "E606", "the", "analysis", "process", "died"]
    assert lines[4].split()[3:] == ["outbox", key_of("1.1")[:8], "CT", "REVIEW", "p=0.01"]
    assert lines[5].startswith(f"alarm: series {key_of('1.2')[:8]}: ")
    assert "826.0.1.987" not in text  # no UID of an image or object


def test_json_is_one_object_and_the_limit_is_obeyed(site, capsys):
    for series in ("1.1", "1.2", "1.3"):
        _failed(site, series)
    assert _status(site, "--json", "--limit", "2") == 0
    content = json.loads(capsys.readouterr().out)
    assert [job["id"] for job in content["jobs"]] == [3, 2]
    assert content["queue"]["failed"] == 3


def test_one_job_or_all_that_failed_are_retried(site, capsys):
    for series in ("1.1", "1.2", "1.3"):
        _failed(site, series)
    assert _status(site, "--retry", "2") == 0
    assert site.states() == ["failed", "ready", "failed"]
    assert _status(site, "--retry-all") == 0
    assert site.states() == ["ready"] * 3
    assert capsys.readouterr().out.splitlines() == ["job 2: ready", "job 3: ready", "job 1: ready"]
    assert _status(site, "--retry-all") == 0


def test_one_that_has_a_successor_keeps_no_other_from_being_retried(site, capsys):
    for series in ("1.1", "1.2"):
        _failed(site, series)
    site.jobs.receive(image("1.2.9", "1.2"), 102.0)
    assert _status(site, "--retry-all") == 0
    assert site.states() == ["ready", "failed", "receiving"]
    assert "job 1: ready" in capsys.readouterr().out


def test_a_job_is_discarded_and_one_that_is_not_there_is_named(site, capsys):
    job = _failed(site)
    assert _status(site, "--discard", str(job)) == 0
    assert capsys.readouterr().out == "job 1: discarded\n"
    assert site.states() == ["discarded"]
    for words in (["--discard", "1"], ["--retry", "7"], ["--retry", str(10**20)], ["--discard", "-1"]):
        assert _status(site, *words) == 2
        assert capsys.readouterr().err.startswith("E605 ")


def test_health_has_an_exit_status(site, tmp_path, capsys):
    assert _status(site, "--check") == 4
    assert capsys.readouterr().err.startswith("E607 ")
    with site.spool.lock():
        site.settings = write_settings(tmp_path, "[disk]\nmin_free_gb = 0.0\n")
        assert _status(site, "--check") == 0
        assert capsys.readouterr().out == "healthy\n"
        site.settings = write_settings(tmp_path, "[disk]\nmin_free_gb = 1e9\n")
        assert _status(site, "--check") == 4
        assert capsys.readouterr().err.startswith("E604 ")


def test_wrong_settings_and_a_missing_folder_are_one_line(tmp_path, capsys):
    for command in ("serve", "status"):
        assert cli.main([command, str(tmp_path / "nowhere.toml")]) == 2
        assert capsys.readouterr().err.startswith("E200 the settings can't be read")
    path = write_settings(tmp_path)
    assert cli.main(["status", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("E603 ")
    assert said.count("\n") == 1


def test_settings_are_checked_against_the_archives_themselves(tmp_path, toy_models, capsys):
    archive = Archive()
    away = destination(name="away", host="127.0.0.1", port=free_port(), ae_title="PACS", confirm="none")
    text = archive.words(name="here") + away
    path = write_settings(tmp_path, text)
    path.write_text(f'models = "{toy_models}"\n' + path.read_text())
    with archive.listening():
        assert cli.main(["serve", str(path), "--check"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["listens as ANOMAP on 127.0.0.1:11112", "accepts MODALITY"]
    assert lines[2] == "models: toy-ct 0.0.1, toy-radiograph 0.0.1"
    assert lines[3] == "here: answers, confirmation by none"
    assert lines[4].startswith("away: E600 ")
    assert not (tmp_path / "state").exists(), "looking changes nothing"


@pytest.mark.parametrize("name", commands._NEEDED)
def test_a_missing_extra_is_named_with_its_install_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "_NEEDED", (name, f"{name}_that_nobody_has"))
    assert cli.main(["serve", str(write_settings(tmp_path))]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"E203 {name}_that_nobody_has not installed")
    assert "pip install 'anomap[serve]'" in said


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["status", "--help"], ["--version"]])
def test_help_imports_nothing_of_the_node(words):
    code = (
        "import sys; from anomap import cli\n"
        "try: status = cli.main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'pydicom', 'pynetdicom', 'flask', 'waitress', 'dicomweb_client', 'requests', 'sqlite3',\n"
        "         'prometheus_client'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if words == ["--help"]:
        assert "clinic node" in done.stdout
    if words == ["status", "--help"]:
        assert {"--retry", "--retry-all", "--discard", "--check", "--limit", "--json"} <= set(done.stdout.split())


def test_looking_at_the_status_imports_neither_torch_nor_pynetdicom(site):
    code = (
        "import sys; from anomap import cli; status = cli.main(['status', sys.argv[1]])\n"
        "heavy = {'torch', 'pynetdicom', 'flask'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site.settings)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
