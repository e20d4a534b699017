"""A made-up analysis: right in form, with round lesions where the test puts them; no model, no DICOM."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anomap.pipeline import Analysis
from anomap.types import (
    AnomalyResult,
    ImageSeries,
    Prepared,
    PreprocessSpec,
    Reason,
    Reconstruction,
    Region,
    ScoreMap,
    Verdict,
)

PROVENANCE = {
    "software_version": "0.1.0",
    "bundle_name": "made-up",
    "bundle_version": "0.0.1",
    "bundle_sha256": "ab" * 32,
    "config_sha256": "cd" * 32,
    "preset": "fast",
    "device": "cpu",
    "created": "2026-01-01T00:00:00+00:00",
    "cohort_id": "0123456789ab",
}


def body(rows: int, columns: int) -> np.ndarray:
    """A soft ellipse of 1 in a background of 0, ``(R, C)``."""
    row, column = np.mgrid[0:rows, 0:columns]
    radius = np.hypot((row - rows / 2) / (rows * 0.4), (column - columns / 2) / (columns * 0.36))
    return 1.0 / (1.0 + np.exp((radius - 1.0) * 30))


def made_analysis(
    *,
    modality: str = "CT",
    frames: int = 3,
    rows: int = 96,
    columns: int = 128,
    spacing_mm: tuple[float, float] = (3.0, 2.0),
    verdict: Verdict = Verdict.REVIEW,
    cohort: int = 120,
    frame_of_reference: str = "1.2.3",
    seed: int = 0,
) -> Analysis:
    """Frames of a soft ellipse; frame k has a bright spot that grows with k; the last one is the worst."""
    rng = np.random.default_rng(seed)
    ct = modality == "CT"
    clean = body(rows, columns) * (200 if ct else 0.7) + (-150 if ct else 0.05)
    spots = [
        np.hypot(*(np.mgrid[0:rows, 0:columns] - np.array([[[rows * 0.4]], [[columns * 0.62]]]))) < 3 + 3 * k
        for k in range(frames)
    ]
    grain = rng.normal(0, 8 if ct else 0.02, (frames, rows, columns))
    pixels = (clean + np.stack(spots) * (120 if ct else 0.3) + grain).astype(np.float32)
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 1], affine[2, 0], affine[3, 3] = spacing_mm[1], spacing_mm[0], 5.0, 1.0
    names = tuple(f"1.2.826.0.1.{seed}.{k}" for k in range(frames))
    series = ImageSeries(
        pixels=pixels, unit="HU" if ct else "1", affine=affine, modality=modality, frame_ids=names,
        valid=np.ones(pixels.shape, bool), frame_of_reference=frame_of_reference,
    )  # fmt: skip
    prepared = _prepared(series, clean, ct)
    scores, labels = _scores(pixels, clean, prepared, ct)
    result = _result(series, scores, labels, verdict, cohort)
    return Analysis(
        series=series,
        prepared=prepared,
        reconstruction=_fit(prepared, clean, frames),
        score_map=scores,
        result=result,
        choice="made up",
    )


def _prepared(series: ImageSeries, clean: np.ndarray, ct: bool) -> Prepared:
    """The model grid is a 64-pixel square that covers the source with margins."""
    frames, rows, columns = series.pixels.shape
    spec = PreprocessSpec(kind="ct" if ct else "radiograph", size=64)
    zoom = max(rows, columns) / 64
    to_source = np.array([[zoom, 0, rows / 2 - 32 * zoom], [0, zoom, columns / 2 - 32 * zoom], [0, 0, 1.0]])
    gain, offset = (175.0, 50.0) if ct else (0.5, 0.5)
    row, column = np.mgrid[0:64, 0:64]
    at = np.einsum("ij,jrc->irc", to_source, np.stack([row, column, np.ones_like(row)]).astype(float))
    valid = (at[0] >= 0) & (at[0] < rows) & (at[1] >= 0) & (at[1] < columns)
    images = [
        np.clip((ndimage.map_coordinates(frame, at[:2], order=1, mode="nearest") - offset) / gain, -1, 1)
        for frame in series.pixels
    ]
    return Prepared(
        images=np.stack(images)[:, None].astype(np.float32),
        valid=np.broadcast_to(valid, (frames, 1, 64, 64)).copy(),
        body=np.broadcast_to(valid, (frames, 1, 64, 64)).copy(),
        frame=np.arange(frames),
        frame_ids=series.frame_ids,
        to_source=np.broadcast_to(to_source, (frames, 3, 3)).copy(),
        gain=np.full(frames, gain),
        offset=np.full(frames, offset),
        spec=spec,
    )


def _fit(prepared: Prepared, clean: np.ndarray, frames: int) -> Reconstruction:
    smooth = ndimage.gaussian_filter(prepared.images[0, 0], 2.0)
    return Reconstruction(
        images=np.broadcast_to(smooth, prepared.images.shape).copy(),
        w=np.zeros((frames, 8), np.float32),
        loss=np.linspace(0.1, 0.3, frames),
        prior_distance=np.linspace(0.8, 1.4, frames),
        feature_residual=np.linspace(0.2, 0.5, frames),
        feature_distance=np.linspace(1.0, 1.3, frames),
        feature_map=np.linspace(1.5, 1.8, frames, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32),
        steps=30,
        converged=np.array([k != 0 for k in range(frames)]),
        seeds=np.arange(frames) + 2**60,
    )


def _scores(pixels: np.ndarray, clean: np.ndarray, prepared: Prepared, ct: bool) -> tuple[ScoreMap, np.ndarray]:
    scale = 1.0 if ct else 255.0
    residual = (pixels - clean) * scale
    wd = np.stack([ndimage.uniform_filter(np.abs(r), 7) for r in residual]).astype(np.float32)
    wd[:, :4] = np.nan
    frames = len(pixels)
    top = np.nanmax(wd, axis=(1, 2)).astype(np.float64)
    per_image = {
        "mse_full": (residual**2).mean(axis=(1, 2)).astype(np.float64),
        "wd_patch": top,
        "w_distance": prepared.gain * 0 + np.linspace(0.8, 1.4, frames),
        "feature_residual": np.linspace(0.2, 0.5, frames),
        "feature_distance": np.linspace(1.0, 1.3, frames),
        "feature_patch": np.linspace(1.5, 1.8, frames),
        "combined": top / top.max() * 3,
    }
    beside = ct and frames > 1
    if beside:
        per_image["neighbour_distance"] = np.linspace(0.4, 0.6, frames)
        per_image["neighbour_patch"] = np.linspace(0.9, 2.2, frames)
    labels = np.stack([ndimage.label(frame > 50)[0] for frame in np.nan_to_num(wd)]).astype(np.uint16)
    scores = ScoreMap(
        maps={"residual": residual.astype(np.float32), "mse": wd**2, "wd": wd},
        per_image=per_image,
        top_window=np.tile(np.array([20, 30, 24, 34]), (frames, 1)),
        frame=np.arange(frames),
        unit="HU" if ct else "grey level",
        top_place=np.tile(np.array([8, 16, 12, 20]), (frames, 1)),
        top_change=np.tile(np.array([40, 32, 44, 36]), (frames, 1)) if beside else None,
    )
    return scores, (labels > 0).astype(np.uint16)


def _result(series: ImageSeries, scores: ScoreMap, labels: np.ndarray, verdict: Verdict, cohort: int) -> AnomalyResult:
    frames = len(series.pixels)
    where = np.argwhere(labels)
    regions: tuple[Region, ...] = ()
    if len(where):
        low, high = where.min(axis=0), where.max(axis=0)
        centre = series.affine @ np.array([*where.mean(axis=0), 1.0])
        regions = (
            Region(
                label=1, frame=frames - 1, bbox=tuple(int(v) for v in (*low, *high)),
                centroid_lps_mm=tuple(float(v) for v in centre[:3]), area_mm2=float(labels[-1].sum() * 6),
                volume_ml=1.5 if frames > 1 else None, score="wd_patch",
                peaks={"wd_patch": float(np.nanmax(scores.maps["wd"]))}, mean_mse=900.0,
                p_value=2 / (cohort + 1) if cohort else 1.0,
            ),
        )  # fmt: skip
    ranked = {"wd_patch": np.linspace(0.5, 2 / (cohort + 1), frames)} if cohort else {}
    return AnomalyResult(
        p_value=2 / (cohort + 1) if cohort else 1.0,
        p_by_score=ranked,
        percentile_by_score={"wd_patch": np.linspace(50.0, 99.0, frames)} if cohort else {},
        summary={name: float(values.max()) for name, values in scores.per_image.items()},
        worst_image=frames - 1,
        labels=labels,
        regions=regions,
        region_thresholds={"wd_patch": 50.0},
        verdict=verdict,
        reasons=(Reason(code="MADE_UP", text="The scores were made up."),),
        cohort_description="Made-up adults, frontal, 2020" if cohort else "",
        cohort_size=cohort,
        provenance={**PROVENANCE, "seeds": list(range(frames)), "seconds": {"project": 1.5}},
    )
