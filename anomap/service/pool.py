"""The workers of a node: threads that lease jobs, run each in a child process, and book what became of it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom import dcmread

from anomap.config import AnalyzeConfig
from anomap.errors import CODES, AnomapError, ExitStatus
from anomap.output import RESULT, as_error
from anomap.process import end_group
from anomap.service.database import Database
from anomap.service.jobs import Jobs, backoff_s
from anomap.service.log import Level, log, log_failure
from anomap.service.settings import Work
from anomap.service.spool import Spool
from anomap.service.types import JobState, Lease, Output

LEASE_S = 60.0
POLL_S = 0.2
_STOP_GRACE_S = 10.0  # between asking a worker to end and ending it
_LATE_S = 30.0  # a worker enforces its time limit itself; this much later the node does
# Overlays first: who sees a report in the archive finds there what it refers to.
_ORDER = ("seg.dcm", "pm.dcm", "sc.dcm", "sr.dcm")


class Stopped(Exception):  # noqa: N818 (no error)
    """The node stops; the job goes back."""


class Child:
    """A worker's process.

    Args:
        models: Folder of bundles.
        config: What to do.
        memory_limit_gb: Of its address space; 0: none.
    """

    def __init__(self, models: Path, config: AnalyzeConfig, memory_limit_gb: float) -> None:
        words = {"models": str(models), "config": config.as_dict(), "memory_limit_gb": memory_limit_gb}
        # What libraries print may quote a patient: it goes nowhere. A session of its own: Ctrl-C is for the node.
        self.process = subprocess.Popen(  # noqa: S603 (our own command line, no shell)
            [sys.executable, "-m", "anomap.service.worker", json.dumps(words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        self._said = b""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def order(self, order: dict[str, Any]) -> None:
        """Give it a job.

        Raises:
            AnomapError: E606 when it is dead.
        """
        try:
            assert self.process.stdin is not None  # noqa: S101 (for the type checker)
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise AnomapError("E606", "the analysis process is gone") from error

    def answers(self) -> Iterator[dict[str, Any] | None]:
        """What it says, line by line; None after every `POLL_S` of silence.

        Raises:
            AnomapError: E606 when it ends.
        """
        assert self.process.stdout is not None  # noqa: S101 (for the type checker)
        descriptor = self.process.stdout.fileno()
        while True:
            while b"\n" in self._said:
                line, self._said = self._said.split(b"\n", 1)
                yield json.loads(line)
            if not select.select([descriptor], [], [], POLL_S)[0]:
                yield None
                continue
            data = os.read(descriptor, 65536)
            if not data:
                status = self.process.wait()
                how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                raise AnomapError("E606", f"the analysis process {how}")
            self._said += data

    def end(self) -> None:
        """End it with all that it has started, politely first."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        end_group(self.process, _STOP_GRACE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Worker(threading.Thread):
    """Runs jobs one after the other until it is stopped.

    Args:
        number: Of the worker.
        spool: Where images and results lie.
        database: Of the node.
        jobs: The job table.
        models: Folder of bundles.
        config: What to do; the time limit is set here.
        work: Limits and attempts.
        destinations: Names of the archives.
        stop: Set when the node stops.
    """

    def __init__(
        self,
        number: int,
        spool: Spool,
        database: Database,
        jobs: Jobs,
        models: Path,
        config: AnalyzeConfig,
        work: Work,
        destinations: Sequence[str],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"worker-{number}")
        self.spool, self.database, self.jobs, self.models = spool, database, jobs, models
        self.config, self.work, self.destinations, self.stop = config, work, destinations, stop
        self.child: Child | None = None

    def run(self) -> None:
        """Lease, run, book; until the node stops."""
        try:
            while not self.stop.is_set():
                try:
                    lease = self.jobs.lease(time.time(), LEASE_S)
                    if lease is None:
                        self.stop.wait(POLL_S)
                    else:
                        self.one_job(lease)
                except Exception as error:  # a bug or a broken disk must not silently end the only worker
                    log_failure("worker_failed", error, worker=self.name)
                    self.stop.wait(1.0)
        finally:
            self._end_child()
            self.database.close()

    def one_job(self, lease: Lease) -> None:
        """Run one job and book the outcome."""
        start, folder = time.time(), self.spool.result(lease.job, lease.run)
        log("job_started", job=lease.job, series=lease.series_key, attempt=lease.attempt)
        try:
            # There before the child begins, so that what it leaves when it is killed lies inside, too.
            (self.spool.root / folder).mkdir(parents=True, exist_ok=True)
            self._analyse(lease, folder)
            facts, outputs = self._made(folder, time.time() - start)
        except Stopped:
            self.jobs.release(lease, time.time())
            self.spool.remove(folder)
            log("job_released", job=lease.job, series=lease.series_key)
        except Exception as error:  # also a bug: a job must use up its attempts, not start over for ever
            self._fail(lease, folder, as_error(error))
        else:
            self._finish(lease, facts, outputs)

    def _analyse(self, lease: Lease, folder: str) -> None:
        """Have the child do it.

        Raises:
            Stopped: When the node stops meanwhile.
            AnomapError: The analysis' own error; E606 when the process died; E402 when it had to be ended.
        """
        if self.child is None or not self.child.alive:
            self._end_child()
            self.child = Child(self.models, self.config, self.work.memory_limit_gb)
        self.child.order(
            {
                "source": str(self.spool.images(lease.series_key)),
                "output": str(self.spool.root / folder),
                "previous": [str(self.spool.root / path) for path in lease.previous],
            }
        )
        try:
            self._wait(lease, self.child)
        except BaseException as error:
            # After unusable input the process is as good as before. Else it may still be at work on this job, and its
            # answer would be taken for that of the next.
            if not (isinstance(error, AnomapError) and error.status is ExitStatus.UNUSABLE_INPUT):
                self._end_child()
            raise

    def _wait(self, lease: Lease, child: Child) -> None:
        limit = time.monotonic() + self.work.time_limit_s + _LATE_S
        renewed = time.monotonic()
        for answer in child.answers():
            if answer is None:
                if self.stop.is_set():
                    raise Stopped
                if time.monotonic() > limit:
                    raise AnomapError("E402", f"the time limit of {self.work.time_limit_s:g} s has passed")
                if time.monotonic() - renewed > LEASE_S / 4:
                    self.jobs.renew(lease, time.time(), LEASE_S)
                    renewed = time.monotonic()
            elif answer["event"] == "done":
                return
            elif answer["event"] == "error":
                raise AnomapError(answer["code"], answer["message"], answer["remedy"])

    def _made(self, folder: str, seconds: float) -> tuple[dict[str, Any], list[Output]]:
        """What a published result says, as columns of the job, and its objects.

        Raises:
            AnomapError: When the result says that nothing could be analysed.
        """
        content = json.loads((self.spool.root / folder / RESULT).read_text(encoding="utf-8"))
        if content["exit_status"] not in (ExitStatus.OK, ExitStatus.PARTIAL):
            raise _why(content)
        problem = _why(content) if content["exit_status"] == ExitStatus.PARTIAL else None
        p_values = [entry["p_value"] for entry in content["series"] if entry["p_value"] is not None]
        facts = {
            "folder": folder,
            "verdict": content["verdict"],
            "p_value": min(p_values) if p_values else None,
            "seconds": round(seconds, 3),
            "code": problem and problem.code,
            "message": problem and problem.message,
        }
        return facts, outputs_of(self.spool, folder)

    def _finish(self, lease: Lease, facts: dict[str, Any], outputs: Sequence[Output]) -> None:
        """Book a result."""
        state = self.jobs.finish(lease, time.time(), facts, outputs, self.destinations)
        if state not in (JobState.OUTBOX, JobState.DONE):  # superseded, discarded or taken back meanwhile
            self.spool.remove(facts["folder"])
        self.database.count("analysed", facts["verdict"] or "none")
        log(
            "job_analysed", job=lease.job, series=lease.series_key, state=state, verdict=facts["verdict"],
            objects=len(outputs), seconds=facts["seconds"],
        )  # fmt: skip

    def _fail(self, lease: Lease, folder: str, error: AnomapError) -> None:
        """Put a job back or give it up."""
        self.spool.remove(folder)
        now = time.time()
        if error.status is ExitStatus.UNUSABLE_INPUT:  # another attempt can't change that
            state = JobState.REFUSED
            self.jobs.close(lease, now, state, error)
        elif lease.attempt >= self.work.attempts:
            state = JobState.FAILED
            self.jobs.close(lease, now, state, error)
        else:
            state = JobState.READY
            self.jobs.retry_later(lease, now, backoff_s(lease.attempt, self.work.backoff_s), error)
        self.database.count("job_errors", error.code)
        level: Level = "warning" if state is JobState.READY else "error"
        log(
            "job_failed", level, job=lease.job, series=lease.series_key, state=state, attempt=lease.attempt,
            code=error.code, message=error.message,
        )  # fmt: skip

    def _end_child(self) -> None:
        if self.child is not None:
            self.child.end()
            self.child = None


def outputs_of(spool: Spool, folder: str) -> list[Output]:
    """The DICOM objects of a result, in the order in which they are to be sent.

    Args:
        spool: Where it lies.
        folder: Of the result, below the state folder.
    """
    paths = sorted((spool.root / folder).glob("*/*.dcm"), key=lambda path: (path.parent.name, _ORDER.index(path.name)))
    found = []
    for path in paths:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        relative = path.relative_to(spool.root).as_posix()
        found.append(Output(uid=str(header.SOPInstanceUID), sop_class=str(header.SOPClassUID), path=relative))
    return found


def _why(content: dict[str, Any]) -> AnomapError:
    """The first reason in a study's ``result.json`` why not everything was analysed."""
    reasons = [(entry["error"]["code"], entry["error"]["message"]) for entry in content["series"] if entry["error"]]
    reasons += [(item["code"], item["reason"]) for item in content["skipped"]]
    code, message = next((reason for reason in reasons if reason[0] in CODES), ("E100", "nothing could be analysed"))
    return AnomapError(code, message)
