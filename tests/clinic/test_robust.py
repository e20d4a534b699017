"""Faults of the house itself: two nodes on one folder, leftovers of a crash, a worker that doesn't answer."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom
from anomap.service import pool
from anomap.service.database import Database
from anomap.service.jobs import Jobs
from anomap.service.pool import Worker
from anomap.service.settings import Work
from anomap.service.spool import Spool, key_of
from anomap.service.types import Image, JobState
from tests.clinic.watch import clinic
from tests.clinic.wire import CT, Peer, part10, store_files
from tests.service.clinic import ROOT, Node, eventually, running


def serve_again(node: Node) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anomap.cli", "serve", str(node.settings)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_second_node_touches_nothing_of_the_first(toy_models, tmp_path):
    """Half-written files of a running node look like those of a crashed one."""
    with clinic(tmp_path / "node", toy_models) as node:
        part = node.state / "images" / "0" / ".1.part"
        staging = node.state / "results" / ".anomap-staging-1"
        part.parent.mkdir()
        part.write_bytes(b"half")
        staging.mkdir()
        second = serve_again(node)
        assert second.returncode == 2
        assert "E603" in second.stderr
        assert part.exists()
        assert staging.exists()


def test_leftovers_of_a_crash_go_at_the_next_start(toy_models, tmp_path):
    paths = write_ct_phantom(tmp_path / "ct", slices=2, rows=64, columns=64)
    node = Node(tmp_path / "node", toy_models, work={"quiet_s": 600.0})
    with running(node):
        assert store_files(node.port, paths) == [0, 0]
    (folder,) = (node.state / "images").iterdir()
    kept = set(folder.iterdir())
    leftovers = [folder / "0123456789abcdef.dcm", folder / ".1.part", node.state / "results" / "000009-1" / "x.dcm"]
    leftovers[2].parent.mkdir()
    for path in leftovers:
        path.write_bytes(b"left")
    with running(node):
        assert set(folder.iterdir()) == kept
        assert not any((node.state / "results").iterdir())
        assert node.states() == ["receiving"]


def test_an_image_whose_file_is_gone_is_taken_again(toy_models, tmp_path):
    """The disk guard may have crashed between the file and the books."""
    paths = write_ct_phantom(tmp_path / "ct", slices=1, rows=64, columns=64)
    with clinic(tmp_path / "node", toy_models, work={"quiet_s": 600.0}) as node:
        assert store_files(node.port, paths) == [0]
        (file,) = (node.state / "images").glob("*/*.dcm")
        content = file.read_bytes()
        file.unlink()
        assert store_files(node.port, paths) == [0]
        assert file.read_bytes() == content


def test_peers_amid_a_word_do_not_keep_the_node_from_stopping(toy_models, tmp_path):
    """pynetdicom would wait for each of them as long as the silence."""
    with clinic(tmp_path / "node", toy_models, listen={"silence_s": 60.0}) as node, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Peer(node.port)).send(b"\x01\x00")
        for _ in range(3):
            peer = stack.enter_context(Peer(node.port)).associate([CT])
            peer.send(b"\x04\x00\x00\x00\xff")
        began = time.monotonic()
        assert node.stop(seconds=30.0) == 0
        assert time.monotonic() - began < 15.0


@pytest.fixture
def parts(toy_models, tmp_path):
    """Spool, database and jobs with one series of two slices that is ready."""
    spool = Spool(tmp_path / "state")
    spool.root.mkdir()
    spool.prepare()
    database = Database(spool.database)
    jobs = Jobs(database, "digest", 1.0)
    for path in write_ct_phantom(tmp_path / "ct", slices=2, rows=64, columns=64):
        file = part10(path)
        key = key_of("1.2.3")
        name = spool.image_path(key, file.uid)
        spool.write_image(name, path.read_bytes())
        jobs.receive(
            Image(
                uid=file.uid, series_uid="1.2.3", study_uid="1.2", modality="CT", series_key=key, path=name,
                sha256=file.uid, caller="MODALITY",
            ),
            0.0,
        )  # fmt: skip
    jobs.promote(10.0)
    yield spool, database, jobs
    database.close()


class Broken(Jobs):
    """A job table whose disk fails while a job runs."""

    def renew(self, job: int, now: float, seconds: float) -> None:
        raise sqlite3.OperationalError("disk I/O error")


def worker(parts, models, jobs: Jobs, **limits: float) -> Worker:
    spool, database, _ = parts
    config = AnalyzeConfig(steps=10**6, overwrite=True, time_limit_s=limits.get("time_limit_s"))
    work = Work(attempts=2, backoff_s=60.0, **limits)
    return Worker(1, spool, database, jobs, models, config, work, [], threading.Event())


def test_a_worker_is_not_left_at_a_job_that_was_given_up(parts, toy_models, monkeypatch):
    """Its answer would be taken for that of the next job."""
    monkeypatch.setattr(pool, "LEASE_S", 0.0)
    one = worker(parts, toy_models, Broken(parts[1], "digest", 1.0))
    lease = parts[2].lease(time.time(), 60.0)
    one.one_job(lease)
    assert one.child is None
    row = parts[1].connection.execute("SELECT * FROM jobs").fetchone()
    assert (row["state"], row["code"], row["attempts"]) == (JobState.READY, "E500", 1)


def test_a_worker_that_hangs_is_ended(parts, toy_models, monkeypatch):
    """Stopped as by a debugger or a dead network disk: it can't keep its own time limit."""
    monkeypatch.setattr(pool, "_LATE_S", 1.0)
    monkeypatch.setattr(pool, "_STOP_GRACE_S", 0.5)
    one = worker(parts, toy_models, parts[2], time_limit_s=1.0)
    lease = parts[2].lease(time.time(), 60.0)
    thread = threading.Thread(target=one.one_job, args=(lease,))
    thread.start()
    child = eventually(lambda: one.child, "a worker")
    os.kill(child.process.pid, signal.SIGSTOP)
    thread.join(30)
    assert not thread.is_alive()
    assert child.process.poll() == -signal.SIGKILL
    row = parts[1].connection.execute("SELECT * FROM jobs").fetchone()
    assert (row["state"], row["code"]) == (JobState.READY, "E402")
