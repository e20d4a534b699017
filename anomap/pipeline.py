"""The one place that sees all stages: read, prepare, project, score, calibrate, write.

A result depends on the pixels, the bundle and the configuration alone: seeds derive from the images' own names.
The MONAI Deploy application runs the same stages with the same settings (`projection_config`, `score_config`,
`provenance_of`, `write_series`), so that both give the same numbers and the same overlays.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from anomap import __version__
from anomap.bundle import Bundle, BundleInfo, list_bundles, load_bundle
from anomap.calibration import calibrate
from anomap.config import DEFAULT_OUTPUTS, AnalyzeConfig, OutputName
from anomap.dicom.parametric_map import build_parametric_map
from anomap.dicom.read import ReadConfig, Study, read_study
from anomap.dicom.report import build_report
from anomap.dicom.secondary_capture import build_secondary_capture
from anomap.dicom.segmentation import build_segmentation
from anomap.domain import choose_bundle
from anomap.errors import AnomapError, ExitStatus
from anomap.output import as_error, staged, write_result, writing
from anomap.preprocessing import prepare
from anomap.preview import render_preview
from anomap.projection import project
from anomap.projection.schedule import ProjectionConfig, preset
from anomap.report import (
    Json,
    hashed,
    output_entry,
    refused_result,
    series_result,
    skipped_entry,
    study_entry,
    study_result,
)
from anomap.scoring import ScoreConfig, score
from anomap.types import (
    AnomalyResult,
    Cohort,
    ImageSeries,
    Prepared,
    Reconstruction,
    ScoreMap,
    Skipped,
    Verdict,
)

__all__ = ["DEFAULT_OUTPUTS", "Analysis", "AnalyzeConfig", "OutputName", "StudyOutcome", "analyze", "analyze_series"]

Progress = Callable[[str, int, int], None]  # stage, done, total
Listener = Callable[[Json], None]  # one event; `anomap analyze --json` prints them as they are

# Leaving these out is no failure: nobody expects a report on them.
_NOT_FOR_US = frozenset({"E101", "E105", "E106", "E110", "E111", "E113", "E116"})
# These concern the whole run, not one series.
_FATAL = frozenset({"E202", "E300", "E301", "E302", "E401", "E402", "E403"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One series with everything that was made of it.

    Attributes:
        series, prepared, reconstruction, score_map, result: The results of the stages.
        choice: Why this bundle was used, one sentence.
    """

    series: ImageSeries
    prepared: Prepared
    reconstruction: Reconstruction
    score_map: ScoreMap
    result: AnomalyResult
    choice: str


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
    source: Path, output: Path, models: Path, config: AnalyzeConfig, listener: Listener | None = None
) -> StudyOutcome:
    """Analyse a study and publish the results.

    Args:
        source: Folder, zip or single DICOM file.
        output: Folder to publish as; see `anomap.output.staged`.
        models: Folder of bundles.
        config: What to do.
        listener: Told of every step (`Listener`).

    Raises:
        AnomapError: When nothing could be done at all; `output` then holds the refusal, except for E201, E202
            (it can't be written) and E403 (cancelled).
    """
    tell = listener or (lambda _: None)
    with staged(output, overwrite=config.overwrite) as folder:
        run = _Run(folder, models, config, tell)
        study = run.read(source)
        for number, series in enumerate(study.series, 1):
            run.one_series(number, len(study.series), series)
        return run.finish(output, study)


def analyze_series(
    series: ImageSeries, bundle: Bundle, config: AnalyzeConfig, progress: Progress | None = None, choice: str = ""
) -> Analysis:
    """Run the stages from pixels to verdict.

    Args:
        series: From `anomap.dicom.read.read_study` or a volume.
        bundle: Loaded on its device.
        config: What to do.
        progress: Told (stage, done, total).
        choice: Why this bundle.

    Raises:
        AnomapError: As the stages do.
    """
    seconds: dict[str, float] = {}
    totals: dict[str, int] = {}

    def tell(name: str, done: int, total: int) -> None:
        totals[name] = total
        if progress is not None:
            progress(name, done, total)

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        tell(name, 0, 1)
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 4)
        tell(name, totals[name], totals[name])

    with stage("prepare"):
        prepared = prepare(series, bundle.spec)
    with stage("project"):
        fitting = projection_config(config)
        fit = project(prepared, bundle, fitting, bundle.device, lambda done, total: tell("project", done, total))
    with stage("score"):
        score_map = score(prepared, fit, series.pixels.shape, score_config(bundle))
    with stage("calibrate"):
        provenance = provenance_of(bundle, config, fit, seconds)
        result = calibrate(series, score_map, bundle.cohort, provenance)
    return Analysis(
        series=series, prepared=prepared, reconstruction=fit, score_map=score_map, result=result, choice=choice
    )


def projection_config(config: AnalyzeConfig) -> ProjectionConfig:
    """The projection settings a configuration asks for."""
    return preset(config.preset, steps=config.steps, batch_size=config.batch_size)


def score_config(bundle: Bundle) -> ScoreConfig:
    """The score settings of a bundle: its cohort was measured with them."""
    return ScoreConfig(window=bundle.info.window, levels=bundle.info.levels)


def provenance_of(bundle: Bundle, config: AnalyzeConfig, fit: Reconstruction, seconds: dict[str, float]) -> Json:
    """Where a result comes from: what `AnomalyResult.provenance` holds. `seconds` is kept, not copied."""
    return {
        "software_version": __version__,
        "bundle_name": bundle.info.name,
        "bundle_version": bundle.info.version,
        "bundle_sha256": bundle.info.sha256,
        "config_sha256": config.sha256(bundle.device),
        "preset": config.preset,
        "device": bundle.device,
        "seeds": [int(seed) for seed in fit.seeds],
        "seconds": seconds,
        "created": now(),
        "cohort_id": cohort_id(bundle.cohort),
    }


def cohort_id(cohort: Cohort | None) -> str:
    """Short name of a cohort by its content, "" without one."""
    if cohort is None:
        return ""
    digest = hashlib.sha256(cohort.scores.tobytes())
    for part in (*cohort.names, *cohort.patients, cohort.bundle_sha256, repr(cohort.region_threshold)):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def write_series(analysis: Analysis, folder: Path, config: AnalyzeConfig) -> Json:
    """Write the chosen outputs of one series and its ``result.json`` into a new folder; return the latter.

    Raises:
        AnomapError: E202 when writing fails; as the builders do.
    """
    start = time.perf_counter()
    with writing():
        folder.mkdir()
    entries: list[Json] = []
    for name, dataset in _datasets(analysis, config.outputs):
        path = folder / f"{name}.dcm"
        with writing():
            dataset.save_as(path, enforce_file_format=True)
        entries.append(output_entry(path, str(dataset.SOPClassUID)))
    if "png" in config.outputs:
        path = folder / "preview.png"
        with writing():
            render_preview(analysis).save(path, optimize=True)
        entries.append(output_entry(path, None))
    analysis.result.provenance["seconds"]["write"] = round(time.perf_counter() - start, 4)
    content = series_result(analysis, entries, identified=config.identified)
    write_result(folder, content)
    return content


def _datasets(analysis: Analysis, outputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The wanted DICOM objects by file name; none for volumes that never were DICOM."""
    series, result = analysis.series, analysis.result
    if not series.headers:
        return
    segmentation = build_segmentation(series, result) if "seg" in outputs else None
    if "sr" in outputs:
        yield "sr", build_report(series, analysis.prepared, analysis.score_map, result, segmentation)
    if segmentation is not None:
        yield "seg", segmentation
    if "pm" in outputs and series.modality == "CT":
        residual = build_parametric_map(series, analysis.score_map, result)
        if residual is not None:
            yield "pm", residual
    if "sc" in outputs:
        yield "sc", build_secondary_capture(series, np.asarray(render_preview(analysis)), result)


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


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def folder_name(number: int, series: ImageSeries) -> str:
    """``<NN>-<modality>-<8 hex of the hashed UID>``: a CT by its series, a radiograph by its image."""
    uid = series.frame_ids[0]
    if series.modality == "CT" and series.headers:
        uid = str(series.headers[0].get("SeriesInstanceUID", uid))
    return f"{number:02d}-{series.modality}-{hashed(uid, 8)}"


class _Run:
    """One call of `analyze`: what is known so far."""

    def __init__(self, folder: Path, models: Path, config: AnalyzeConfig, tell: Listener) -> None:
        self.folder, self.config, self.tell = folder, config, tell
        self.device = resolve_device(config.device)
        self.models = list_bundles(models)
        self.start, self.created = time.monotonic(), now()
        self.bundles: dict[str, Bundle] = {}
        self.entries: list[Json] = []
        self.errors: list[AnomapError] = []

    def read(self, source: Path) -> Study:
        self.stage("read", 0, 1)
        study = read_study(source, ReadConfig(allow_gaps=self.config.allow_gaps))
        self.stage("read", 1, 1)
        for item in study.skipped:
            self.tell({"event": "skipped", **skipped_entry(item, identified=self.config.identified)})
        return study

    def stage(self, name: str, done: int, total: int) -> None:
        limit = self.config.time_limit_s
        if limit is not None and time.monotonic() - self.start > limit:
            raise AnomapError("E402", f"the time limit of {limit:g} s has passed (stage {name})")
        self.tell({"event": "stage", "stage": name, "done": done, "total": total})

    def one_series(self, number: int, total: int, series: ImageSeries) -> None:
        """Analyse and write one series; record what prevents it."""
        name = folder_name(number, series)
        described = {"folder": name, "modality": series.modality, "frames": len(series.pixels)}
        self.tell({"event": "series", "number": number, "of": total, **described})
        try:
            content = self.result_of(series, name)
        except AnomapError as error:
            if error.code in _FATAL:
                raise
            content = self.refuse(series, name, error)
        except Exception as error:
            failure = as_error(error)
            failure.__cause__ = error
            content = self.refuse(series, name, failure)
        self.entries.append(study_entry(name, content))
        self.tell({"event": "series_done", **self.entries[-1]})

    def result_of(self, series: ImageSeries, name: str) -> Json:
        info, reason = choose_bundle(series, self.models, self.config.model)
        self.tell({"event": "model", "folder": name, "model": info.name, "version": info.version, "reason": reason})
        analysis = analyze_series(series, self.bundle(info), self.config, self.stage, reason)
        self.stage("write", 0, 1)
        content = write_series(analysis, self.folder / name, self.config)
        self.stage("write", 1, 1)
        return content

    def bundle(self, info: BundleInfo) -> Bundle:
        """The loaded bundle; each is loaded once a run."""
        if info.name not in self.bundles:
            self.stage("load model", 0, 1)
            self.bundles[info.name] = load_bundle(info.folder, self.device)
            self.stage("load model", 1, 1)
        return self.bundles[info.name]

    def refuse(self, series: ImageSeries, name: str, error: AnomapError) -> Json:
        """Record why a series has no result. What was written of it already goes."""
        status, verdict = "failed", None
        if error.code == "E113":
            status, verdict = "not_applicable", Verdict.NOT_APPLICABLE
        elif error.status is ExitStatus.UNUSABLE_INPUT:
            status = "unusable"
        if status != "not_applicable":
            self.errors.append(error)
        folder = self.folder / name
        with writing():
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                path.unlink()
        content = refused_result(series, error, status, verdict, identified=self.config.identified)
        write_result(folder, content)
        return content

    def finish(self, output: Path, study: Study) -> StudyOutcome:
        """Write the top ``result.json``."""
        status, exit_status = study_status([entry["status"] for entry in self.entries], study.skipped)
        content = study_result(
            self.entries,
            study.skipped,
            status=status,
            exit_status=exit_status,
            config=self.config.as_dict(),
            run={
                "created": self.created,
                "device": self.device,
                "seconds": {"all": round(time.monotonic() - self.start, 3)},
            },
            identified=self.config.identified,
        )
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
