"""``result.json``: everything anomap says of a series or a study, for machines.

Schema ``anomap.result/1`` (``docs/result.schema.json``). Every score stands under a key that contains ``score`` and
ends in its unit; every other physical number names its unit, too. UIDs and file names are hashed unless the
caller asks for them in clear. What differs between two runs on the same input stands under ``run`` alone
(and in the hashes of the files under ``outputs``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.calibration import COMBINED
from anomap.errors import AnomapError, ExitStatus
from anomap.output import SCHEMA, error_entry
from anomap.scoring import SCORES
from anomap.types import AnomalyResult, ImageSeries, Region, Skipped, Verdict

if TYPE_CHECKING:
    from anomap.pipeline import Analysis

Json = dict[str, Any]

# From harmless to grave. A study is as grave as its gravest series, and PASS only when all of them pass.
_GRAVITY = (Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.UNCALIBRATED, Verdict.REVIEW, Verdict.REJECT)


def hashed(text: str, digits: int = 16) -> str:
    """First hexadecimal digits of the SHA-256 of a UID or a file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def score_key(name: str, unit: str) -> str:
    """The JSON key of a score, with its unit: ``score_wd_patch_hu``, ``score_mse_full_grey2``.

    Args:
        name: A name in `anomap.scoring.SCORES`, or "combined".
        unit: `ScoreMap.unit`, "HU" or "grey level".
    """
    grey = "hu" if unit == "HU" else "grey"
    of_score = "z" if name == COMBINED else SCORES[name].unit
    return f"score_{name}_" + {"{unit}": grey, "{unit}²": f"{grey}2"}.get(of_score, of_score)


def series_result(analysis: Analysis, outputs: Sequence[Json] = (), *, identified: bool = False) -> Json:
    """``result.json`` of one analysed series.

    Args:
        analysis: Everything from the pixels to the verdict.
        outputs: Entries of `output_entry` for the files beside it.
        identified: Write SOP Instance UIDs in clear.
    """
    result, series = analysis.result, analysis.series
    provenance = result.provenance
    return {
        **_head("series", "complete"),
        "modality": series.modality,
        "verdict": str(result.verdict),
        "reasons": [{"code": reason.code, "text": reason.text} for reason in result.reasons],
        "p_value": result.p_value,
        **_notification(result.verdict, result.reasons),
        "error": None,
        "domain": {"ok": result.verdict is not Verdict.NOT_APPLICABLE, "why": analysis.choice},
        "model": {
            "name": provenance["bundle_name"],
            "version": provenance["bundle_version"],
            "sha256": provenance["bundle_sha256"],
        },
        "cohort": {
            "id": provenance["cohort_id"],
            "images": result.cohort_size,
            "description": result.cohort_description,
            "patients": result.cohort_patients,
        },
        "thresholds": {
            f"region_{score_key(name, analysis.score_map.unit)}": _number(threshold)
            for name, threshold in result.region_thresholds.items()
        },
        "scores": _summary(analysis),
        "images": _images(analysis, identified=identified),
        "regions": [_region(region, series, analysis.score_map.unit) for region in result.regions],
        "geometry": {
            "frames": len(series.pixels),
            "rows": series.pixels.shape[1],
            "columns": series.pixels.shape[2],
            "spacing_mm": list(series.spacing_mm) if series.has_physical_spacing else None,
        },
        "warnings": list(series.warnings),
        **_tier(analysis),
        "projection": {
            "preset": provenance["preset"],
            "steps": analysis.reconstruction.steps,
            "config_sha256": provenance["config_sha256"],
        },
        "outputs": list(outputs),
        "run": {
            "created": provenance["created"],
            "device": provenance["device"],
            "seconds": dict(provenance["seconds"]),
        },
    }


def refused_result(
    series: ImageSeries, error: AnomapError, status: str, verdict: Verdict | None, *, identified: bool = False
) -> Json:
    """``result.json`` of a series that was refused or failed: why, and that there is no score."""
    return {
        **_head("series", status),
        "modality": series.modality,
        "verdict": None if verdict is None else str(verdict),
        "reasons": [{"code": error.code, "text": error.message}],
        "p_value": None,
        "error": error_entry(error),
        "domain": {"ok": status != "not_applicable", "why": error.message},
        "images": [
            {"image": None, "frame": k, **_identity(name, identified=identified)}
            for k, name in enumerate(series.frame_ids)
        ],
        "outputs": [],
    }


def study_result(
    entries: Sequence[Json],
    skipped: Iterable[Skipped],
    *,
    status: str,
    exit_status: ExitStatus,
    config: Mapping[str, Any],
    run: Mapping[str, Any],
    identified: bool = False,
) -> Json:
    """``result.json`` at the top: one line a series, and everything left out with its reason.

    Args:
        entries: One `study_entry` a series.
        skipped: What the reader left out.
        status: "complete", "partial", "nothing_eligible" or "failed".
        exit_status: What the command will end with.
        config: `AnalyzeConfig.as_dict()`.
        run: What may differ between runs: creation time, device, seconds.
        identified: Write file names in clear.
    """
    verdict = study_verdict(entries)
    worst = next((entry for entry in entries if _weight(entry) == verdict), None)
    reasons = worst["reasons"] if worst else []
    return {
        **_head("study", status),
        "exit_status": int(exit_status),
        "verdict": None if verdict is None else str(verdict),
        "reasons": reasons,
        **({} if verdict is None else _notification(verdict, reasons)),
        "error": None,
        "config": dict(config),
        "series": list(entries),
        "skipped": [skipped_entry(item, identified=identified) for item in skipped],
        "run": dict(run),
    }


def study_entry(folder: str, content: Json) -> Json:
    """The line of a series in the top ``result.json``.

    Args:
        folder: Its folder in the output.
        content: Its own ``result.json``.
    """
    copied = ("modality", "status", "verdict", "reasons", "p_value", "error")
    tier = {"tier": content["tier"]} if "tier" in content else {}
    return {"folder": folder, **{name: content[name] for name in copied}, **tier, "frames": len(content["images"])}


def skipped_entry(item: Skipped, *, identified: bool = False) -> Json:
    """Something left out of the input; file names often carry names or UIDs, so they are hashed."""
    name = {"name": item.name} if identified else {}
    return {"name_sha256": hashed(item.name), **name, "code": item.code, "reason": item.reason}


def study_verdict(entries: Sequence[Json]) -> Verdict | None:
    """The gravest verdict of all series; REVIEW at least when one could not be analysed; None without series."""
    return max(map(_weight, entries), key=_GRAVITY.index, default=None)


def _weight(entry: Json) -> Verdict:
    """What a series counts as in the verdict of its study."""
    return Verdict(entry["verdict"]) if entry["verdict"] else Verdict.REVIEW


def output_entry(path: Path, sop_class_uid: str | None) -> Json:
    """A written file: name, SOP Class, size and hash."""
    data = path.read_bytes()
    return {
        "file": path.name,
        "sop_class_uid": sop_class_uid,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _head(kind: str, status: str) -> Json:
    return {
        "schema": SCHEMA,
        "kind": kind,
        "status": status,
        "not_a_diagnosis": True,
        "notice": NOT_A_DIAGNOSIS,
        "software": {"name": "anomap", "version": __version__},
    }


def _notification(verdict: Verdict, reasons: Iterable[Any]) -> Json:
    """Mercure shows this text to people; only verdicts that want one have it."""
    if verdict not in (Verdict.REVIEW, Verdict.REJECT):
        return {}
    texts = [reason["text"] if isinstance(reason, dict) else reason.text for reason in reasons]
    return {"__mercure_notification": {"text": f"anomap: {verdict}. {' '.join(texts)} {NOT_A_DIAGNOSIS}"}}


def _tier(analysis: Analysis) -> Json:
    """Whether one image in so many was looked at, or all after such a look; nothing where it was never asked for."""
    every, first = analysis.result.every, analysis.first_look
    if every == 1 and first is None:
        return {}
    look = None
    if first is not None:
        cohort = {"id": first.cohort_id, "patients": first.patients}
        look = {"every": first.every, "p_value": first.p_value, "cohort": cohort}
    return {"tier": {"name": "quick" if every > 1 else "full", "every": every, "first_look": look}}


def _summary(analysis: Analysis) -> Json:
    """Worst value of every score over the series, with the image that has it."""
    result, unit = analysis.result, analysis.score_map.unit
    return {
        score_key(name, unit): {"score": float(value), **_rank(result, name)}
        for name, value in sorted(result.summary.items())
    }


def _rank(result: AnomalyResult, name: str) -> Json:
    """Smallest p and highest percentile of a score over the images; null without a cohort."""
    p, share = result.p_by_score.get(name), result.percentile_by_score.get(name)
    return {
        "p_value": _number(p.min()) if p is not None and len(p) else None,
        "percentile_pct": _number(share.max()) if share is not None and len(share) else None,
    }


def _images(analysis: Analysis, *, identified: bool) -> list[Json]:
    series, fit, scores = analysis.series, analysis.reconstruction, analysis.score_map
    result = analysis.result
    images: list[Json] = []
    for n, (frame, name) in enumerate(zip(scores.frame, analysis.prepared.frame_ids, strict=True)):
        images.append(
            {
                "image": n,
                "frame": int(frame),
                **_identity(name, identified=identified),
                "pixels_sha256": hashlib.sha256(series.pixels[frame].tobytes()).hexdigest(),
                **{score_key(key, scores.unit): float(v[n]) for key, v in sorted(scores.per_image.items())},
                "p_value": {key: _number(p[n]) for key, p in sorted(result.p_by_score.items())},
                "percentile_pct": {key: _number(v[n]) for key, v in sorted(result.percentile_by_score.items())},
                "top_window_model_px": [int(value) for value in scores.top_window[n]],
                "top_place_model_px": None if scores.top_place is None else scores.top_place[n].tolist(),
                "top_change_model_px": None if scores.top_change is None else scores.top_change[n].tolist(),
                "projection_loss": _number(fit.loss[n]),
                "converged": bool(fit.converged[n]),
                "seed": int(fit.seeds[n]),
            }
        )
    return images


def _identity(name: str, *, identified: bool) -> Json:
    clear = {"sop_instance_uid": name} if identified else {}
    return {"sop_instance_uid_sha256": hashed(name), **clear}


def _region(region: Region, series: ImageSeries, unit: str) -> Json:
    names = ("k0", "row0", "col0", "k1", "row1", "col1")
    area = "area_mm2" if series.has_physical_spacing else "area_px"
    return {
        "label": region.label,
        "frame": region.frame,
        "box": dict(zip(names, map(int, region.bbox), strict=True)),
        "centroid_index": [float(value) for value in series.index_of(region.centroid_lps_mm)],
        "centroid_lps_mm": [float(v) for v in region.centroid_lps_mm] if series.frame_of_reference else None,
        area: float(region.area_mm2),
        "volume_ml": None if region.volume_ml is None else float(region.volume_ml),
        "score": region.score,
        **{f"peak_{score_key(name, unit)}": float(peak) for name, peak in region.peaks.items()},
        f"mean_{score_key('mse_patch', unit)}": float(region.mean_mse),
        "p_value": float(region.p_value),
        "p_value_series": region.p_series,
        "survives": region.survives,
    }


def _number(value: Any) -> float | None:
    """A float for JSON, which knows no NaN."""
    number = float(value)
    return number if math.isfinite(number) else None
