"""One study: read it, analyse its series, record what prevents a result, publish all of it at once.

The command line runs the series one after the other (`analyze`); the MONAI Deploy application sends them through
its operators. Both keep their books in a `StudyRun`, so that they say the same of the same study.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from anomap.bundle import Bundle, BundleInfo, list_bundles, load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.read import ReadConfig, Study
from anomap.domain import choose_bundle
from anomap.errors import AnomapError, ExitStatus
from anomap.output import as_error, staged, write_result, writing
from anomap.pipeline import Analysis, Progress, analyze_series, now, write_series
from anomap.report import Json, hashed, refused_result, skipped_entry, study_entry, study_result
from anomap.source import read_source
from anomap.types import ImageSeries, Skipped, Verdict

Check = Callable[[ImageSeries], tuple[Verdict, AnomapError] | None]  # before any compute; see anomap.gate.policy
Analyse = Callable[[ImageSeries, Bundle, AnalyzeConfig, Progress, str], Analysis]
Listener = Callable[[Json], None]  # one event; `anomap analyze --json` prints them as they are

# Leaving these out is no failure: nobody expects a report on them.
_NOT_FOR_US = frozenset({"E101", "E105", "E106", "E110", "E111", "E113", "E116"})
# These concern the whole run, not one series.
FATAL = frozenset({"E202", "E200", "E300", "E301", "E302", "E303", "E401", "E402", "E403"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """What `analyze` published.

    Attributes:
        output: The folder.
        content: Its ``result.json``.
        status: The exit status of the command.
        errors: Failures of single series, each with its cause; already recorded in `content`.
    """

    output: Path
    content: Json
    status: ExitStatus
    errors: tuple[AnomapError, ...] = ()


def analyze(
    source: Path,
    output: Path,
    models: Path,
    config: AnalyzeConfig,
    listener: Listener | None = None,
    *,
    bundles: dict[str, Bundle] | None = None,
    previous: Sequence[Dataset] = (),
) -> StudyOutcome:
    """Analyse a study and publish the results.

    Args:
        source: Folder, zip or single DICOM file, or NIfTI (`anomap.source`).
        output: Folder to publish as; see `anomap.output.staged`.
        models: Folder of bundles.
        config: What to do.
        listener: Told of every step (`Listener`).
        bundles: Models loaded by earlier calls with the same folder and device; filled in here.
        previous: Former reports that the new ones may take the place of.

    Raises:
        AnomapError: When nothing could be done at all; `output` then holds the refusal, except for E201, E202
            (it can't be written) and E403 (cancelled).
    """
    tell = listener or (lambda _: None)
    with staged(output, overwrite=config.overwrite) as folder:
        run = StudyRun(folder, models, config, tell, bundles=bundles, previous=previous)
        study = run.read(source)
        for number, series in enumerate(study.series, 1):
            run.one_series(number, len(study.series), series)
        return run.finish(output)


def resolve_device(name: str) -> str:
    """The torch device a name stands for.

    Raises:
        AnomapError: E401 when this machine doesn't have it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not found or (index and int(index) >= torch.cuda.device_count()):
        raise AnomapError("E401", f"this machine has no device {name!r}")
    return name


def stages_within(limit_s: float | None, tell: Listener) -> Progress:
    """Something that says how far a stage is, and raises E402 when the time limit, from now on, has passed.

    Args:
        limit_s: Seconds; None: no limit.
        tell: Told of every step.
    """
    start = time.monotonic()

    def stage(name: str, done: int, total: int) -> None:
        if limit_s is not None and time.monotonic() - start > limit_s:
            raise AnomapError("E402", f"the time limit of {limit_s:g} s has passed (stage {name})")
        tell({"event": "stage", "stage": name, "done": done, "total": total})

    return stage


def folder_name(number: int, series: ImageSeries) -> str:
    """``<NN>-<modality>-<8 hex of the hashed UID>``: a CT by its series, a radiograph by its image."""
    uid = series.frame_ids[0]
    if series.modality == "CT" and series.headers:
        uid = str(series.headers[0].get("SeriesInstanceUID", uid))
    return f"{number:02d}-{series.modality}-{hashed(uid, 8)}"


class StudyRun:
    """The books of one run: settings, loaded models, and what became of every series so far.

    Args:
        folder: Where results are written, usually from `anomap.output.staged`.
        models: Folder of bundles.
        config: What to do.
        tell: Told of every step.
        bundles: Models that are loaded already; filled in.
        previous: Former reports that the new ones may take the place of.
        check: Says which series are refused unseen, with which verdict and why.
        analyse: How one series is analysed, `anomap.pipeline.analyze_series` or the like.

    Raises:
        AnomapError: E401 when the device isn't there; E302 when a bundle's metadata is invalid.
    """

    def __init__(
        self,
        folder: Path,
        models: Path,
        config: AnalyzeConfig,
        tell: Listener,
        *,
        bundles: dict[str, Bundle] | None = None,
        previous: Sequence[Dataset] = (),
        check: Check | None = None,
        analyse: Analyse | None = None,
    ) -> None:
        self.analyse = analyse or analyze_series
        self.check = check or (lambda _: None)
        self.folder, self.config, self.tell = folder, config, tell
        self.device = resolve_device(config.device)
        self.models = list_bundles(models)
        self.start, self.created = time.monotonic(), now()
        self.stage = stages_within(config.time_limit_s, tell)
        self.bundles: dict[str, Bundle] = {} if bundles is None else bundles
        self.previous = previous
        self.entries: list[Json] = []
        self.errors: list[AnomapError] = []
        self.expected: int | None = None  # series to analyse; None until the input was read
        self.skipped: Sequence[Skipped] = ()

    def read(self, source: Path) -> Study:
        """Read the input; say what is left out.

        Raises:
            AnomapError: As `anomap.source.read_source` does.
        """
        self.stage("read", 0, 1)
        study = read_source(source, ReadConfig(allow_gaps=self.config.allow_gaps))
        self.stage("read", 1, 1)
        self.expected, self.skipped = len(study.series), study.skipped
        for item in study.skipped:
            self.tell({"event": "skipped", **skipped_entry(item, identified=self.config.identified)})
        return study

    def one_series(self, number: int, total: int, series: ImageSeries) -> None:
        """Analyse and write one series, or record what prevents it."""
        name = self.announce(number, total, series)
        if (refused := self.check(series)) is not None:
            self.publish_refusal(series, name, refused[1], "not_applicable", refused[0])
            return
        try:
            bundle, reason = self.choose(series, name)
            analysis = self.analyse(series, bundle, self.config, self.stage, reason)
            self.stage("write", 0, 1)
            content = write_series(analysis, self.folder / name, self.config, self.previous)
            self.stage("write", 1, 1)
        except Exception as error:
            self.refuse(series, name, error)
        else:
            self.record(name, content)

    def announce(self, number: int, total: int, series: ImageSeries) -> str:
        """Say what comes; the name of its folder."""
        name = folder_name(number, series)
        described = {"folder": name, "modality": series.modality, "frames": len(series.pixels)}
        self.tell({"event": "series", "number": number, "of": total, **described})
        return name

    def choose(self, series: ImageSeries, name: str) -> tuple[Bundle, str]:
        """The bundle for a series, loaded, and why it is the one.

        Raises:
            AnomapError: As `anomap.domain.choose_bundle` and `anomap.bundle.load_bundle` do.
        """
        info, reason = choose_bundle(series, self.models, self.config.model)
        self.tell({"event": "model", "folder": name, "model": info.name, "version": info.version, "reason": reason})
        return self.bundle(info), reason

    def record(self, name: str, content: Json) -> None:
        """Keep the line of a series, analysed or not, for the top ``result.json``."""
        self.entries.append(study_entry(name, content))
        self.tell({"event": "series_done", **self.entries[-1]})

    def bundle(self, info: BundleInfo) -> Bundle:
        """The loaded bundle; each is loaded once."""
        if info.name not in self.bundles:
            self.stage("load model", 0, 1)
            self.bundles[info.name] = load_bundle(info.folder, self.device)
            self.stage("load model", 1, 1)
        return self.bundles[info.name]

    def refuse(self, series: ImageSeries, name: str, cause: Exception) -> None:
        """Record why a series has no result. What was written of it already goes.

        Raises:
            AnomapError: `cause` itself, when it concerns the whole run.
        """
        error = as_error(cause)
        if error is not cause:
            error.__cause__ = cause
        elif error.code in FATAL:
            raise error
        status, verdict = "failed", None
        if error.code == "E113":
            status, verdict = "not_applicable", Verdict.NOT_APPLICABLE
        elif error.status is ExitStatus.UNUSABLE_INPUT:
            status = "unusable"
        if status != "not_applicable":
            self.errors.append(error)
        self.publish_refusal(series, name, error, status, verdict)

    def publish_refusal(
        self, series: ImageSeries, name: str, error: AnomapError, status: str, verdict: Verdict | None
    ) -> None:
        """Write the refusal of a series in place of whatever was written of it."""
        folder = self.folder / name
        with writing():
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                path.unlink()
        content = refused_result(series, error, status, verdict, identified=self.config.identified)
        write_result(folder, content)
        self.record(name, content)

    def finish(self, output: Path, more: Callable[[Json], Json] | None = None) -> StudyOutcome:
        """Write the top ``result.json``.

        Args:
            output: Where the folder will be published.
            more: Makes further keys of the content.

        Raises:
            AnomapError: E501 when a series was lost on the way: no result at all beats one that looks complete.
        """
        if len(self.entries) != self.expected:
            raise AnomapError("E501", f"{len(self.entries)} of {self.expected or 'unread'} series were dealt with")
        status, exit_status = study_status([entry["status"] for entry in self.entries], self.skipped)
        content = study_result(
            self.entries,
            self.skipped,
            status=status,
            exit_status=exit_status,
            config={**self.config.as_dict(), "cohort": [Path(path).name for path in self.config.cohort]},
            run={
                "created": self.created,
                "device": self.device,
                "seconds": {"all": round(time.monotonic() - self.start, 3)},
            },
            identified=self.config.identified,
        )
        content |= more(content) if more else {}
        write_result(self.folder, content)
        return StudyOutcome(output=output, content=content, status=exit_status, errors=tuple(self.errors))


def study_status(states: Sequence[str], skipped: Sequence[Skipped]) -> tuple[str, ExitStatus]:
    """Status of a study and exit status, from those of its series and from what was left out.

    0 means that every eligible image has a result. Localizers, other modalities and foreign files don't count;
    a damaged image does.
    """
    lost = any(state in ("failed", "unusable") for state in states)
    lost = lost or any(item.code not in _NOT_FOR_US for item in skipped)
    if "complete" in states:
        return ("partial", ExitStatus.PARTIAL) if lost else ("complete", ExitStatus.OK)
    if "failed" in states:
        return "failed", ExitStatus.FAILED
    return "nothing_eligible", ExitStatus.UNUSABLE_INPUT
