"""`anomap curate` and its parts. Imports neither torch nor pyarrow before one of them runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from anomap.console import listening, print_line
from anomap.curation.report_commands import CurateApply, CurateReport
from anomap.curation.settings import Book, CurateConfig, read_book
from anomap.errors import AnomapError, ExitStatus, require_extra

if TYPE_CHECKING:
    from anomap.curation.run import Engine

Root = Annotated[Positional[Path], arg(metavar="ROOT", help="folder with everything below it; never written to")]
Output = Annotated[Path, arg(name="out", aliases=["-o"], help="folder for the tables; goes on with its own")]
Done = Annotated[Positional[Path], arg(metavar="OUT", help="output folder of anomap curate")]
ModelFolder = Annotated[Path | None, arg(help="folder of model bundles; else $ANOMAP_MODELS, else those of anomap")]
KeyFile = Annotated[
    Path | None, arg(help="file that keys the patients' labels; without it they hold for this curation alone")
]
AsJson = Annotated[bool, arg(name="json", help="JSON lines on stdout instead of text")]
Config = OmitArgPrefixes[CurateConfig]
_REPORTED = 300_000  # images, at most, that are reported without being asked: a page holds all, more was not measured
_TOO_MANY = f"no page: more than {_REPORTED:,} images; see docs/curation-report.md for what takes its place"


@dataclass(frozen=True, kw_only=True)
class CurateIndex:
    """Index a repository and cut it into shards, for a job array. Prints the number of shards."""

    root: Root
    output: Output
    config: Config = field(default_factory=CurateConfig)
    patient_key: KeyFile = None
    overwrite: bool = False  # begin anew; decisions.csv stays
    models: ModelFolder = None
    as_json: AsJson = False
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("curate", "pyarrow")
        from anomap.curation.run import indexed

        book = self._begin(indexed)
        if not self.as_json:
            print_line(str(book.shards))
        return ExitStatus.OK

    def _begin(self, work: Callable[..., Book], **more: Any) -> Book:
        """Let `work` do it with what was asked for, and show how far it is."""
        from anomap.cli import model_folder

        key, models = _key(self.patient_key), model_folder(self.models)
        with listening(as_json=self.as_json) as listener:
            return work(
                self.root,
                self.output,
                models,
                self.config,
                listener,
                patient_key=key,
                overwrite=self.overwrite,
                **more,
            )


@dataclass(frozen=True, kw_only=True)
class Curate(CurateIndex):
    """Score all images of a repository; run again to resume. Also: curate index, shard, merge, report, apply."""

    engine: Literal["embedded", "ray"] = "embedded"  # ray: actors, on this machine or on a cluster
    workers: int = 1  # of engine ray
    ray_address: str | None = None  # of a running Ray cluster, or auto; without it Ray is started on this machine
    ray_gpus: float = 0.0  # GPUs of each Ray worker; 0.5 lets two share one

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("curate", "pyarrow", "sklearn")
        from anomap.curation.run import curate

        book = self._begin(curate, engine=self._engine())
        return _finish(self.output, book, as_json=self.as_json)

    def _engine(self) -> Engine | None:
        if self.engine == "embedded":
            if self.workers != 1:
                raise AnomapError("E200", "several workers need --engine ray")
            return None
        from anomap.curation.ray_engine import RayOptions, ray_engine

        if self.workers < 1:
            raise AnomapError("E200", f"--workers must be at least 1, got {self.workers}")
        return ray_engine(RayOptions(workers=self.workers, address=self.ray_address, gpus=self.ray_gpus))


@dataclass(frozen=True, kw_only=True)
class CurateShard:
    """Measure one shard of an indexed repository, unless it is there already: one job of an array."""

    output: Done
    number: Annotated[Positional[int], arg(metavar="N", help="of the shard, from 0")]
    root: Annotated[Path, arg(help="the repository that was indexed")]
    device: str | None = None  # instead of the one that was given to index
    models: ModelFolder = None
    as_json: AsJson = False
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("curate", "pyarrow")
        from anomap.cli import model_folder
        from anomap.curation.run import one_shard

        with listening(as_json=self.as_json) as listener:
            one_shard(self.root, self.output, model_folder(self.models), self.number, self.device, listener)
        return ExitStatus.OK


@dataclass(frozen=True, kw_only=True)
class CurateMerge:
    """When all shards are there: write images.parquet; after the first look of --triage, its threshold instead."""

    output: Done
    as_json: AsJson = False
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("curate", "pyarrow", "sklearn")
        from anomap.curation.run import concluded

        book = concluded(self.output, read_book(self.output))
        if book.result is None:
            print_line(
                f"images with a cheap score above {book.triage_threshold:.4g} are projected: run all shards again"
            )
            return ExitStatus.OK
        return _finish(self.output, book, as_json=self.as_json)


SUBCOMMANDS: dict[str, Any] = {
    "index": CurateIndex,
    "shard": CurateShard,
    "merge": CurateMerge,
    "report": CurateReport,
    "apply": CurateApply,
}


def _key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        key = path.read_bytes()
    except OSError as error:
        raise AnomapError("E200", f"the key file can't be read: {error.strerror}") from error
    if len(key) < 16:
        raise AnomapError("E200", f"the key file holds {len(key)} bytes, at least 16 are needed")
    return key


def _finish(out: Path, book: Book, *, as_json: bool) -> int:
    """Say what came out, and report. What could not be read is a row, so that this is no failure; nothing scored is."""
    from anomap.curation.report import write_report

    result = book.result or {}
    scored = sum(result["tiers"].values())
    status = ExitStatus.OK if scored else ExitStatus.UNUSABLE_INPUT
    if as_json:
        print_line(json.dumps({"event": "result", "output": str(out), "exit_status": int(status), **result}))
    else:
        for code, count in result["errors"].items():
            print_line(f"not scored: {count} rows, {code}")
        print_line(f"{out}/images.parquet: {scored} of {result['rows']} rows scored")
    for line in write_report(out) if result["rows"] <= _REPORTED else [_TOO_MANY]:
        if not as_json:
            print_line(line)
    return status
