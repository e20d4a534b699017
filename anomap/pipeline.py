"""One series through all stages: prepare, project, score, calibrate, write.

A result depends on the pixels, the bundle and the configuration alone: seeds derive from the images' own names.
The MONAI Deploy application's operators run the same stages with the same settings (`projection_config`,
`score_config`, `provenance_of`) and write with the same functions, so that both give the same numbers and overlays.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from anomap import __version__
from anomap.bundle import Bundle
from anomap.calibration import SiteCohort, calibrate, looked_at
from anomap.config import AnalyzeConfig
from anomap.dicom.parametric_map import build_parametric_map
from anomap.dicom.report import build_report
from anomap.dicom.secondary_capture import build_secondary_capture
from anomap.dicom.segmentation import build_segmentation
from anomap.gate.site import cohort_for, stratum_of
from anomap.gate.tiers import FirstLook
from anomap.output import write_result, writing
from anomap.preprocessing import prepare
from anomap.preprocessing.geometry import resample_to_source
from anomap.preprocessing.positions import slice_positions
from anomap.preview import render_preview
from anomap.projection import project
from anomap.projection.features import feature_distance
from anomap.projection.neighbours import series_neighbours
from anomap.projection.places import place_map
from anomap.projection.schedule import ProjectionConfig, preset
from anomap.report import Json, output_entry, series_result
from anomap.scoring import ScoreConfig, highest_place, of_neighbours, score
from anomap.types import AnomalyResult, Cohort, Float32, Float64, ImageSeries, Prepared, Reconstruction, ScoreMap

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One series with everything that was made of it.

    Attributes:
        series, prepared, reconstruction, score_map, result: The results of the stages.
        choice: Why this bundle was used, one sentence.
        first_look: The quick look that this analysis of all images followed, if there was one.
    """

    series: ImageSeries
    prepared: Prepared
    reconstruction: Reconstruction
    score_map: ScoreMap
    result: AnomalyResult
    choice: str
    first_look: FirstLook | None = None

    def reconstructed(self, n: int) -> Float32:
        """Reconstruction of image n on the source grid, ``(R, C)`` in source units; NaN where the model saw nothing."""
        prepared = self.prepared
        values = prepared.offset[n] + prepared.gain[n] * self.reconstruction.images[n, 0].astype(np.float64)
        values[~prepared.valid[n, 0]] = np.nan
        return resample_to_source(values.astype(np.float32), prepared.to_source[n], self.series.pixels.shape[1:])


def analyze_series(
    series: ImageSeries,
    bundle: Bundle,
    config: AnalyzeConfig,
    progress: Progress | None = None,
    choice: str = "",
    *,
    every: int = 1,
) -> Analysis:
    """Run the stages from pixels to verdict.

    Args:
        series: From `anomap.dicom.read.read_study` or a volume.
        bundle: Loaded on its device.
        config: What to do.
        progress: Told (stage, done, total).
        choice: Why this bundle.
        every: Look at one image in so many only, if the series and a site's cohort have images enough. The result
            says which it was (`AnomalyResult.every`).

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

    fitting = projection_config(config)
    cohort = cohort_for(config.cohort, bundle, fitting)  # first: one that doesn't fit costs no time
    with stage("prepare"):
        whole = prepare(series, bundle.spec)
        cohort, prepared, every = _thinned(cohort, whole, every)
    with stage("project"):
        fit = project(prepared, bundle, fitting, bundle.device, lambda done, total: tell("project", done, total))
    with stage("score"):
        beside = neighbours_of(series, whole, bundle)
        looked = np.isin(whole.frame, prepared.frame)
        of_looked, of_rest = (None, None) if beside is None else (beside[looked], beside[~looked])
        score_map = score(prepared, fit, series.pixels.shape, score_config(bundle), of_looked)
        unseen = without_projection(whole.chosen(np.flatnonzero(~looked)), of_rest, bundle) if every > 1 else {}
    with stage("calibrate"):
        provenance = provenance_of(bundle, config, fit, seconds)
        result = judged(series, score_map, cohort, config, provenance, every, unseen)
    return Analysis(
        series=series, prepared=prepared, reconstruction=fit, score_map=score_map, result=result, choice=choice
    )


def _thinned(
    cohort: Cohort | SiteCohort | None, prepared: Prepared, every: int
) -> tuple[Cohort | SiteCohort | None, Prepared, int]:
    """Cohort and images of a quick look, or as they are, with 1, where there can be none."""
    thin = cohort.thinned(every) if every > 1 and isinstance(cohort, SiteCohort) else None
    rows = looked_at(len(prepared.images), every)
    return (cohort, prepared, 1) if thin is None or not len(rows) else (thin, prepared.chosen(rows), every)


def projection_config(config: AnalyzeConfig) -> ProjectionConfig:
    """The projection settings a configuration asks for."""
    return preset(config.preset, steps=config.steps, batch_size=config.batch_size)


def judged(
    series: ImageSeries,
    score_map: ScoreMap,
    cohort: Cohort | SiteCohort | None,
    config: AnalyzeConfig,
    provenance: Json,
    every: int = 1,
    unseen: Mapping[str, Float64] | None = None,
) -> AnomalyResult:
    """Compare scores with a cohort under the limits and weights of a configuration; its id joins `provenance`.

    Raises:
        AnomapError: As `anomap.calibration.calibrate`.
    """
    provenance["cohort_id"] = cohort_id(cohort.images if isinstance(cohort, SiteCohort) else cohort)
    return calibrate(
        series,
        score_map,
        cohort,
        provenance,
        stratum=stratum_of(series, cohort.strata_by) if isinstance(cohort, SiteCohort) else "",
        weights=dict(config.score_weights),
        alpha_review=config.alpha_review,
        alpha_reject=config.alpha_reject,
        every=every,
        unseen=unseen,
    )


def score_config(bundle: Bundle) -> ScoreConfig:
    """The score settings of a bundle: its cohort was measured with them. Only the maps that outputs show are made."""
    return ScoreConfig(window=bundle.info.window, levels=bundle.info.levels, maps=("residual", "wd", "place"))


def neighbours_of(series: ImageSeries, prepared: Prepared, bundle: Bundle) -> Float32 | None:
    """How far each place of a slice is from the slices beside it, where a series has such and the model knows places.

    Args:
        series: The series.
        prepared: All its images.
        bundle: Loaded on its device.
    """
    return series_neighbours(prepared, slice_positions(series)[prepared.frame], bundle, bundle.device)


def without_projection(prepared: Prepared, neighbours: Float32 | None, bundle: Bundle) -> dict[str, Float64]:
    """The scores that need no projection, of images that are not projected: they cost a thirtieth.

    Args:
        prepared: N images.
        neighbours: ``(N, S, S)`` their part of `neighbours_of`.
        bundle: Loaded on its device.
    """
    known, device = bundle.feature_statistics, bundle.device
    places = place_map(prepared.images, bundle.discriminator, known.places if known else (), device)
    found = {
        "feature_distance": feature_distance(prepared.images, bundle.discriminator, known, device),
        "feature_patch": highest_place(places),
    }
    if neighbours is not None:
        found |= of_neighbours(neighbours)
    return {name: values for name, values in found.items() if not np.isnan(values).any()}


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
    }


def cohort_id(cohort: Cohort | None) -> str:
    """Short name of a cohort by its content, "" without one."""
    if cohort is None:
        return ""
    digest = hashlib.sha256(cohort.scores.tobytes())
    for part in (*cohort.names, *cohort.patients, cohort.bundle_sha256, repr(cohort.region_threshold)):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def write_series(analysis: Analysis, folder: Path, config: AnalyzeConfig, previous: Sequence[Dataset] = ()) -> Json:
    """Write the chosen outputs of one series and its ``result.json`` into a new folder; return the latter.

    Args:
        analysis: What to report.
        folder: Made here.
        config: What to write.
        previous: Former reports that this one may take the place of.

    Raises:
        AnomapError: E202 when writing fails; as the builders do.
    """
    with writing():
        folder.mkdir()
    segmentation, entries = write_overlays(analysis, folder, config)
    return write_report(analysis, folder, config, segmentation, entries, previous)


def write_overlays(analysis: Analysis, folder: Path, config: AnalyzeConfig) -> tuple[Any, list[Json]]:
    """Write the chosen pictures of one series: SEG, Parametric Map, Secondary Capture, preview.

    Returns:
        The segmentation, to which the report refers (None without regions), and the entries for ``result.json``.
        Volumes that never were DICOM get a preview alone.
    """
    series, result, outputs = analysis.series, analysis.result, config.outputs
    entries: list[Json] = []
    segmentation = None
    with _timed(analysis, "overlays"):
        whole = result.every == 1  # a map that is 0 where nobody looked would say too much
        if series.headers and "seg" in outputs and whole:
            segmentation = build_segmentation(series, result)
            entries += _save(segmentation, folder / "seg.dcm")
        if series.headers and "pm" in outputs and series.modality == "CT" and whole:
            entries += _save(build_parametric_map(series, analysis.score_map, result), folder / "pm.dcm")
        page = render_preview(analysis) if {"png", "sc"} & set(outputs) else None
        if series.headers and "sc" in outputs:
            entries += _save(build_secondary_capture(series, np.asarray(page), result), folder / "sc.dcm")
        if page is not None and "png" in outputs:
            path = folder / "preview.png"
            with writing():
                page.save(path)  # Pillow's optimize would save 5 % of the bytes for five times the seconds
            entries.append(output_entry(path, None))
    return segmentation, entries


def write_report(
    analysis: Analysis,
    folder: Path,
    config: AnalyzeConfig,
    segmentation: Any,
    entries: Sequence[Json],
    previous: Sequence[Dataset] = (),
) -> Json:
    """Write the SR of one series and, last, its ``result.json``; return the latter.

    Args:
        analysis: What to report.
        folder: Of the series.
        config: What to write.
        segmentation: From `write_overlays`.
        entries: From `write_overlays`.
        previous: Former reports that this one may take the place of.
    """
    written = list(entries)
    with _timed(analysis, "report"):
        if analysis.series.headers and "sr" in config.outputs:
            made = (analysis.series, analysis.prepared, analysis.score_map, analysis.result)
            report = build_report(*made, segmentation, previous)
            written = _save(report, folder / "sr.dcm") + written
    content = series_result(analysis, written, identified=config.identified)
    write_result(folder, content)
    return content


@contextmanager
def _timed(analysis: Analysis, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    analysis.result.provenance["seconds"][name] = round(time.perf_counter() - start, 4)


def _save(dataset: Any, path: Path) -> list[Json]:
    """Write an object, if there is one; its entry."""
    if dataset is None:
        return []
    with writing():
        dataset.save_as(path, enforce_file_format=True)
    return [output_entry(path, str(dataset.SOPClassUID))]


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
