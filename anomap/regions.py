"""Connected regions of elevated residual: where the map of window scores exceeds a threshold.

Because a window responds to an anomaly wherever it contains it, a region is wider than the anomaly by up to half
a window on every side. It says where to look, not how large the anomaly is; its centre is the anomaly's centre.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anomap.types import Bool, Float32, Float64, Int64, Region, ScoreMap, UInt16

# Smallest region by default, as a share of a frame's scored area: a quarter of the paper's window, 32 of 512 pixels.
MIN_AREA_SHARE = 0.25 * (32 / 512) ** 2


def find_regions(
    score_map: ScoreMap,
    affine: Float64,
    threshold: float,
    *,
    is_volume: bool,
    max_regions: int = 10,
    cohort_peaks: Float64 | None = None,
    min_area_px: float | None = None,
) -> tuple[UInt16, tuple[Region, ...]]:
    """Label what exceeds a threshold on the "wd" map.

    Voxels that touch at a face, an edge or a corner belong together: 26 neighbours in a volume; in projection
    images 8 within the frame. A centroid is weighted by the excess over the threshold, so that the ragged border
    of a region, where the excess is small, hardly moves it.

    Args:
        score_map: With maps "wd" and "residual".
        affine: ``(4, 4)`` index (k, row, col, 1) -> LPS mm.
        threshold: Map value above which a voxel belongs to a region.
        is_volume: Frames are neighbouring slices of one body.
        max_regions: Only so many, the highest ones.
        cohort_peaks: ``(M,)`` highest window of each cohort image, for the p-values (of one region; many regions
            of an image share its chance of a false alarm).
        min_area_px: Regions whose largest section covers fewer source pixels are dropped. When omitted,
            `MIN_AREA_SHARE` of the scored area. A quarter of `anomap.scoring.window_area_px` is a good value.

    Returns:
        ``(K, R, C)`` labels, 0 = none, and the regions, highest `peak_wd` first, labelled 1, 2, ...
    """
    wd = score_map.maps["wd"]
    if min_area_px is None:
        min_area_px = MIN_AREA_SHARE * float(np.isfinite(wd).sum(axis=(1, 2)).max(initial=0))
    found, chosen = _largest(wd, threshold, is_volume, max_regions, min_area_px)
    new_label = np.zeros(int(found.max(initial=0)) + 1, np.uint16)
    new_label[chosen] = np.arange(1, len(chosen) + 1)
    labels: UInt16 = new_label[found]
    places = ndimage.find_objects(labels)
    peaks = np.empty(0) if cohort_peaks is None else cohort_peaks
    regions = tuple(
        _region(label, place, labels[place] == label, score_map, affine, threshold, is_volume, peaks)
        for label, place in enumerate(places, 1)
    )
    return labels, regions


def _largest(
    wd: Float32, threshold: float, is_volume: bool, max_regions: int, min_area_px: float
) -> tuple[Int64, Int64]:
    """All connected components, and the labels of the `max_regions` highest ones that are large enough."""
    neighbours = np.ones((3, 3, 3), np.bool_)
    if not is_volume:
        neighbours[[0, 2]] = False
    found, count = ndimage.label(wd > threshold, neighbours)  # NaN exceeds nothing
    inside = found > 0
    peaks = np.full(count + 1, -np.inf)
    np.maximum.at(peaks, found[inside], wd[inside])
    areas = np.zeros(count + 1, np.int64)
    for frame in found:
        np.maximum(areas, np.bincount(frame.reshape(-1), minlength=count + 1), out=areas)
    areas[0] = -1  # not a region
    order = np.lexsort((np.arange(count + 1), -areas, -peaks))
    return found, order[areas[order] >= max(min_area_px, 1)][:max_regions]


def _region(
    label: int,
    place: tuple[slice, ...],
    inside: Bool,
    score_map: ScoreMap,
    affine: Float64,
    threshold: float,
    is_volume: bool,
    cohort_peaks: Float64,
) -> Region:
    """Measure one region; `inside` is its mask within its bounding box `place`."""
    first = np.array([side.start for side in place])
    index = np.argwhere(inside) + first  # [V,3]
    values = score_map.maps["wd"][place][inside].astype(np.float64)
    residual = score_map.maps["residual"][place][inside].astype(np.float64)
    residual = residual[np.isfinite(residual)]
    centre = np.average(index, axis=0, weights=values - threshold)
    frame, peak = int(index[values.argmax(), 0]), float(values.max())
    pixel_mm2 = float(np.linalg.norm(np.cross(affine[:3, 1], affine[:3, 2])))
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    left, posterior, superior = (float(v) for v in (affine @ np.array([*centre, 1.0]))[:3])
    k0, row0, col0, k1, row1, col1 = (int(v) for v in (*first, *(side.stop - 1 for side in place)))
    return Region(
        label=label,
        frame=frame,
        bbox=(k0, row0, col0, k1, row1, col1),
        centroid_lps_mm=(left, posterior, superior),
        area_mm2=int(np.count_nonzero(index[:, 0] == frame)) * pixel_mm2,
        volume_ml=len(index) * voxel_mm3 / 1000.0 if is_volume else None,
        peak_wd=peak,
        mean_mse=float(np.mean(residual**2)) if residual.size else 0.0,
        p_value=(1 + int(np.count_nonzero(cohort_peaks >= peak))) / (1 + len(cohort_peaks)),
    )
