"""`anomap serve` and `anomap status`. Imports no torch and no pynetdicom before a command runs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from anomap.console import print_line
from anomap.errors import AnomapError, ExitStatus, require_extra

Settings = Annotated[Positional[Path], arg(metavar="SETTINGS", help="TOML file, see docs/clinic.md")]
AsJson = Annotated[bool, arg(name="json", help="JSON on stdout instead of text")]
_NEEDED = ("pynetdicom", "dicomweb_client", "flask", "waitress", "prometheus_client")


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Run the clinic node: images arrive over DICOM, results return to the archive."""

    settings: Settings
    check: bool = False  # read the settings, ask every archive whether it is there, and end
    debug: bool = False  # show tracebacks when it can't start

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("serve", *_NEEDED)
        from anomap.cli import model_folder
        from anomap.service.settings import read_config

        config = read_config(self.settings)
        models = model_folder(config.models)
        if self.check:
            return _check_settings(config, models)
        from anomap.service.node import serve

        try:
            serve(config, models, _wait)
        except KeyboardInterrupt:  # Ctrl-C, SIGTERM: the ordinary end, and nothing is lost
            return ExitStatus.OK
        return ExitStatus.FAILED


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show the node's queue and failures; retry or discard jobs."""

    settings: Settings
    retry: int | None = None  # take up this failed job again
    retry_all: bool = False  # take up every failed job again
    discard: int | None = None  # give this job up for good
    check: bool = False  # exit status 4 unless the node runs and has disk space
    limit: int = 20  # most jobs shown
    as_json: AsJson = False

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.service.jobs import Jobs
        from anomap.service.settings import read_config
        from anomap.service.status import jobs, open_state, snapshot
        from anomap.service.types import JobState

        config = read_config(self.settings)
        spool, database = open_state(config.state)
        table = Jobs(database, "", config.work.quiet_s)
        now = time.time()
        if self.retry is not None:
            print_line(f"job {self.retry}: {table.retry(self.retry, now)}")
        if self.retry_all:
            for job in jobs(database, 10**6, (JobState.FAILED,)):
                try:
                    print_line(f"job {job['id']}: {table.retry(job['id'], now)}")
                except AnomapError as error:  # it has a successor, which is as good
                    print_line(f"job {job['id']}: {error.message}")
        if self.discard is not None:
            table.discard(self.discard, now)
            print_line(f"job {self.discard}: discarded")
        if self.retry is not None or self.retry_all or self.discard is not None:
            return ExitStatus.OK
        content = snapshot(spool, database, self.limit)
        if self.check:
            _require_health(content, config.disk.min_free_gb)
            print_line("healthy")
            return ExitStatus.OK
        for line in [json.dumps(content)] if self.as_json else _lines(content):
            print_line(line)
        return ExitStatus.OK


def _wait(node: Any) -> None:
    """Until a signal comes, or a part of the node has died: then whoever runs it starts it anew."""
    while node.alive:
        time.sleep(1.0)
    raise AnomapError("E500", "a part of the node has stopped")


def _check_settings(config: Any, models: Path) -> int:
    """Say what the settings mean, and whether every archive answers."""
    from anomap.bundle import list_bundles
    from anomap.service.archive import DicomArchive, WebArchive
    from anomap.service.log import silence_libraries

    silence_libraries()
    print_line(f"listens as {config.listen.ae_title} on {config.listen.address}:{config.listen.port}")
    print_line(f"accepts {', '.join(config.callers)}")
    print_line(f"models: {', '.join(f'{info.name} {info.version}' for info in list_bundles(models)) or 'none'}")
    status = ExitStatus.OK
    for place in config.destination:
        try:
            if place.kind == "dicom":
                DicomArchive(place, config.listen.ae_title).echo()
            if place.url:
                WebArchive(place).has("2.25.1", "2.25.1")
            print_line(f"{place.name}: answers, confirmation by {place.confirm}")
        except AnomapError as error:
            print_line(f"{place.name}: {error}")
            status = ExitStatus.FAILED
    return status


def _require_health(content: dict[str, Any], min_free_gb: float) -> None:
    if not content["running"]:
        raise AnomapError("E607", "the node doesn't run")
    if content["free_gb"] < min_free_gb:
        raise AnomapError("E604", f"{content['free_gb']} GB are free, {min_free_gb:g} are needed")


def _lines(content: dict[str, Any]) -> list[str]:
    """The snapshot for people."""
    state = "runs" if content["running"] else "does not run"
    lines = [f"node {state} · anomap {content['software']['version']} · {content['free_gb']} GB free"]
    lines.append("jobs: " + (", ".join(f"{n} {name}" for name, n in content["queue"].items() if n) or "none"))
    lines += [f"archive {row['destination']}: {row['objects']} {row['state']}" for row in content["outbox"]]
    for job in content["jobs"]:
        when = datetime.fromtimestamp(job["updated_at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        verdict = f" {job['verdict']}" if job["verdict"] else ""
        p_value = f" p={job['p_value']:.3g}" if job["p_value"] is not None else ""
        why = f" {job['code']} {job['message']}" if job["code"] else ""
        shown = f"{job['series'][:8]} {job['modality']}"
        lines.append(f"{job['id']:>6} {when} {job['state']:<10} {shown}{verdict}{p_value}{why}")
    lines += [f"alarm: series {alarm['series_key'][:8]}: {alarm['text']}" for alarm in content["alarms"]]
    return [*lines, content["notice"]]
