"""What a viewer gets back, all of it on the grid of its own volume.

    result/result.json            as of every series
    result/sr.dcm seg.dcm pm.dcm  when the volume came from DICOM
    result/wd.npy                 (k, j, i) float32, Wasserstein distance of the window centred there; 0: not scored
    result/reconstruction.npy     (k, j, i) int16 HU, or float32 P-values of a radiograph
    result/regions.npz            one uint8 mask a region, cut to its box: "1", "2", ...
    result/view.json              the rest: see `describe`

Places are in LPS mm of the viewer's volume itself, before any transform that the viewer has put it under.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from anomap.pipeline import Analysis
from anomap.preprocessing.ct import AIR_HU
from anomap.report import Json
from anomap.scoring import SCORES, shown_places
from anomap.types import Float64, Int64, Region
from anomap.volume.job import VolumeJob
from anomap.volume.place import Placed

FORMAT = "anomap.view/1"
VIEW = "view.json"
MOST_PLACES = 10  # of all slices: who wants more looks through the slices


def write_view(analysis: Analysis, placed: Placed, job: VolumeJob, folder: Path, dicom: list[str]) -> None:
    """Write everything but what `anomap.pipeline` writes.

    Args:
        analysis: The result.
        placed: Where the series lies in the viewer's volume.
        job: For the volume's matrix.
        folder: The result folder.
        dicom: Names of the DICOM objects in it.
    """
    wd = np.nan_to_num(analysis.score_map.maps["wd"], nan=0.0)
    np.save(folder / "wd.npy", placed.given_back(wd, 0.0))
    np.save(folder / "reconstruction.npy", _reconstruction(analysis, placed))
    labels = placed.given_back(analysis.result.labels, 0)
    masks, starts = _masks(labels, len(analysis.result.regions))
    np.savez(folder / "regions.npz", **masks)  # type: ignore[arg-type]  # numpy's stub takes keywords for options
    content = describe(analysis, placed, job, starts, float(wd.max(initial=0.0)), dicom)
    (folder / VIEW).write_text(json.dumps(content, allow_nan=False, ensure_ascii=False), encoding="utf-8")


def describe(
    analysis: Analysis, placed: Placed, job: VolumeJob, starts: list[list[int]], maximum: float, dicom: list[str]
) -> Json:
    """The content of ``view.json``.

    Args:
        analysis: The result.
        placed: Where the series lies in the viewer's volume.
        job: For the volume's matrix.
        starts: First index (k, j, i) of each region's mask.
        maximum: Of the map.
        dicom: Names of the DICOM objects.
    """
    result, series = analysis.result, analysis.series
    threshold = result.region_thresholds["wd_patch"]
    prepared = analysis.prepared
    return {
        "format": FORMAT,
        "verdict": str(result.verdict),
        "p_value": result.p_value if result.cohort_size else None,
        "reasons": [reason.text for reason in result.reasons],
        "cohort": {"description": result.cohort_description, "images": result.cohort_size},
        "model": f"{result.provenance['bundle_name']} {result.provenance['bundle_version']}",
        "choice": analysis.choice,
        "device": result.provenance["device"],
        "warnings": list(series.warnings),
        "unit": analysis.score_map.unit,
        "threshold": threshold if np.isfinite(threshold) else maximum,
        "maximum": maximum,
        "grey_window": [float(prepared.offset[0] - prepared.gain[0]), float(prepared.offset[0] + prepared.gain[0])],
        "regions": [
            {**_region(region, analysis, placed, job), "start": start}
            for region, start in zip(result.regions, starts, strict=True)
        ],
        "places": _oddest_places(analysis, placed, job),
        "slices": [_slice(n, analysis, placed, job) for n in range(len(analysis.score_map.frame))],
        "dicom": dicom,
    }


def _region(region: Region, analysis: Analysis, placed: Placed, job: VolumeJob) -> Json:
    index = analysis.series.index_of(region.centroid_lps_mm)
    metric = analysis.series.has_physical_spacing
    return {
        "label": region.label,
        "place_lps_mm": _place(placed.index(index), job),
        "score": region.peaks[region.score],
        "unit": SCORES[region.score].unit.format(unit=analysis.score_map.unit),
        "p_value": region.p_value if analysis.result.cohort_size else None,
        "volume_ml": region.volume_ml,
        "area_mm2" if metric else "area_px": region.area_mm2,
    }


def _slice(n: int, analysis: Analysis, placed: Placed, job: VolumeJob) -> Json:
    """One analysed slice and its worst window."""
    return _box(n, analysis.score_map.top_window, "wd_patch", analysis, placed, job)


def _oddest_places(analysis: Analysis, placed: Placed, job: VolumeJob) -> list[Json]:
    """The oddest place of the slices with the oddest ones, the oddest first; none where the model knows no places."""
    shown = shown_places(analysis.score_map)
    if shown is None:
        return []
    name, boxes = shown
    order = np.argsort(-analysis.score_map.per_image[name], kind="stable")[:MOST_PLACES]
    return [{**_box(int(n), boxes, name, analysis, placed, job), "unit": SCORES[name].unit} for n in order]


def _box(n: int, boxes: Int64, name: str, analysis: Analysis, placed: Placed, job: VolumeJob) -> Json:
    """The middle of one of ``(N, 4)`` boxes, so that who jumps there sees it in all views, and its score."""
    frame = int(analysis.score_map.frame[n])
    row0, col0, row1, col1 = boxes[n]
    middle = analysis.prepared.to_source[n] @ ((row0 + row1 - 1) / 2, (col0 + col1 - 1) / 2, 1.0)
    p_values = analysis.result.p_by_score.get(name)
    return {
        "place_lps_mm": _place(placed.index((frame, middle[0], middle[1])), job),
        "score": float(analysis.score_map.per_image[name][n]),
        "p_value": None if p_values is None else float(p_values[n]),
    }


def _place(index: Float64, job: VolumeJob) -> list[float]:
    return [float(value) for value in (job.affine @ (*index, 1.0))[:3]]


def _reconstruction(analysis: Analysis, placed: Placed) -> np.ndarray:
    """On the viewer's grid; air, or black, where the model saw nothing."""
    ct = analysis.series.unit == "HU"
    air = AIR_HU if ct else 0.0
    frames = np.full(analysis.series.pixels.shape, air, np.int16 if ct else np.float32)
    for n, frame in enumerate(analysis.prepared.frame):
        values = np.nan_to_num(analysis.reconstructed(n), nan=air)
        frames[frame] = np.round(values) if ct else values
    return placed.given_back(frames, air)


def _masks(labels: np.ndarray, count: int) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """Each region's mask cut to its box, and where the box begins."""
    from scipy import ndimage

    boxes: list[Any] = ndimage.find_objects(labels, count)
    masks = {
        str(label): np.ascontiguousarray(labels[box] == label).astype(np.uint8) for label, box in enumerate(boxes, 1)
    }
    return masks, [[int(side.start) for side in box] for box in boxes]
