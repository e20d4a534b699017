"""A site's cohort from a folder of its own normal patients: read, analyse as studies will be, keep the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomap.bundle import Bundle
from anomap.calibration import SiteCohort, region_threshold
from anomap.config import AnalyzeConfig
from anomap.dicom.read import ReadConfig
from anomap.domain import choose_bundle
from anomap.errors import AnomapError
from anomap.evaluation.scores import map_peaks
from anomap.gate.policy import Policy
from anomap.gate.site import settings_sha256, stratum_of
from anomap.pipeline import neighbours_of, now, projection_config, score_config
from anomap.preprocessing import prepare
from anomap.projection import project
from anomap.report import hashed
from anomap.scoring import score
from anomap.source import read_source
from anomap.types import Cohort, Float64, ImageSeries

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patient:
    """What is kept of a patient: score name -> ``(N,)``, ``(N,)`` highest windows, stratum, study date."""

    scores: Mapping[str, Float64]
    peaks: Float64
    stratum: str
    date: str


def measure_site(
    normals: Path, bundle: Bundle, config: AnalyzeConfig, policy: Policy, strata_by: tuple[str, ...], tell: Tell
) -> SiteCohort:
    """Score one series of each normal patient.

    Args:
        normals: Folder; each entry (folder, zip or file, DICOM or NIfTI) holds images of one patient.
        bundle: Loaded.
        config: As studies will be analysed.
        policy: Its checks; what fails them would never come to a score.
        strata_by: See `anomap.gate.site.STRATA`.
        tell: Told in one line what becomes of each entry; no names.

    Raises:
        AnomapError: E100 when no patient could be measured; E300 to E303, E4xx as the stages do.
    """
    entries = sorted(path for path in normals.iterdir() if not path.name.startswith(".")) if normals.is_dir() else []
    if not entries:
        raise AnomapError("E100", "expected a folder with one entry for each normal patient")
    found: dict[str, _Patient] = {}
    for number, entry in enumerate(entries, 1):
        try:
            patient, series = _one_series(entry, bundle, config, policy, set(found))
            found[patient] = _measured(series, bundle, config, strata_by)
            tell(f"{number} of {len(entries)}: {found[patient].stratum}, {len(series.pixels)} image(s)")
        except AnomapError as error:
            if not error.code.startswith("E1"):
                raise
            tell(f"{number} of {len(entries)}: left out: {error.code} {error.message}")
    if not found:
        raise AnomapError("E100", "none of the entries holds a series that could be measured")
    return _site(sorted(found.values(), key=lambda patient: patient.date), bundle, config, strata_by)


def _one_series(
    entry: Path, bundle: Bundle, config: AnalyzeConfig, policy: Policy, known: set[str]
) -> tuple[str, ImageSeries]:
    """The patient of an entry and one series, chosen by the hash of its UID and not by its looks."""
    study = read_source(entry, ReadConfig(allow_gaps=config.allow_gaps))
    suitable, why = [], AnomapError("E113", "no series for this model")
    for series in study.series:
        refused = policy.refusal(series)
        if refused is not None:
            why = refused[1]
            continue
        try:
            choose_bundle(series, (bundle.info,))
        except AnomapError as error:
            why = error
            continue
        suitable.append(series)
    if not suitable:
        raise why
    header = _header(suitable[0])
    patient = f"{header.get('IssuerOfPatientID', '')}/{header.get('PatientID', '') or entry.name}"
    if patient in known:
        raise AnomapError("E115", "another study of a patient who is in the cohort already")
    return patient, min(suitable, key=lambda series: hashed(series.frame_ids[0]))


def _measured(series: ImageSeries, bundle: Bundle, config: AnalyzeConfig, strata_by: tuple[str, ...]) -> _Patient:
    prepared = prepare(series, bundle.spec)
    fit = project(prepared, bundle, projection_config(config), bundle.device)
    beside = neighbours_of(series, prepared, bundle)
    scores = score(prepared, fit, series.pixels.shape, score_config(bundle), beside)
    return _Patient(
        scores=scores.per_image,
        peaks=map_peaks(scores),
        stratum=stratum_of(series, strata_by),
        date=str(_header(series).get("StudyDate", "") or ""),
    )


def _header(series: ImageSeries) -> Any:
    """The first header; an empty one of a volume that never was DICOM: each entry is then a patient."""
    return series.headers[0] if series.headers else {}


def _site(patients: list[_Patient], bundle: Bundle, config: AnalyzeConfig, strata_by: tuple[str, ...]) -> SiteCohort:
    labels = [f"p{i:04d}" for i in range(1, len(patients) + 1)]
    names = tuple(dict.fromkeys(name for patient in patients for name in patient.scores))
    scores = np.concatenate([_columns(patient, names) for patient in patients])
    fitting = projection_config(config)
    images = Cohort(
        scores=scores,
        names=names,
        patients=tuple(label for label, p in zip(labels, patients, strict=True) for _ in p.peaks),
        bundle_sha256=bundle.info.sha256,
        description=(
            f"{len(scores)} images of {len(patients)} normal patients of this site. Measured {now()[:10]} "
            f"with preset {fitting.preset} ({fitting.steps} steps)."
        ),
        region_threshold=region_threshold(np.concatenate([patient.peaks for patient in patients])),
        combines=bundle.combines,
    )
    return SiteCohort(
        images=images,
        bundle_name=bundle.info.name,
        settings_sha256=settings_sha256(bundle.info, fitting),
        strata_by=strata_by,
        strata={label: patient.stratum for label, patient in zip(labels, patients, strict=True)},
    )


def _columns(patient: _Patient, names: tuple[str, ...]) -> Float64:
    """Scores ``(N, S)``; NaN is what this series doesn't have."""
    lacking = np.full(len(patient.peaks), np.nan)
    return np.stack([patient.scores.get(name, lacking) for name in names], axis=1)


def summary(site: SiteCohort, alpha_review: float, alpha_reject: float) -> Iterator[str]:
    """What a site must know of its cohort, a line for each stratum."""
    counts: dict[str, int] = {}
    for kind in site.strata.values():
        counts[kind] = counts.get(kind, 0) + 1
    for kind, n in sorted(counts.items()):
        line = f"{kind or 'all'}: {n} patients, smallest p {1 / (n + 1):.3g}"
        if 1 / (n + 1) > alpha_review:
            line += f"; too few for a verdict (alpha {alpha_review:g} needs {_needed(alpha_review)})"
        elif 1 / (n + 1) > alpha_reject:
            line += f"; nothing can be rejected by score (alpha {alpha_reject:g} needs {_needed(alpha_reject)})"
        yield line


def _needed(alpha: float) -> int:
    """Fewest patients with a p-value of at most alpha."""
    return int(np.ceil(1 / alpha - 1e-9)) - 1
