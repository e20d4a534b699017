"""Connected regions that are unusual: where one map of local scores, or another, exceeds its threshold.

Because a window responds to an anomaly wherever it contains it, a region is wider than the anomaly by up to half
a window on every side; regions of places are as coarse as these. A region says where to look, not how large the
anomaly is; its centre is the anomaly's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from anomap.types import Bool, Float32, Float64, Int64, Region, UInt16

# Smallest region by default, as a share of a frame's scored area: a quarter of the paper's window, 32 of 512 pixels.
MIN_AREA_SHARE = 0.25 * (32 / 512) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A map in which regions are looked for.

    Attributes:
        score: The score of `anomap.scoring.SCORES` whose places the map shows; its highest value is an image's score.
        values: ``(K, R, C)`` on the source grid, NaN where nothing was scored.
        threshold: Value above which a voxel belongs to a region.
        spread: Standard deviation of the score; by how many of them a threshold is exceeded can be compared between
            layers.
        spill: Around what is odd, a map is raised, too. Voxels that exceed the threshold by less than this share of the
            highest excess that they are connected with are left out; 0: none.
    """

    score: str
    values: Float32
    threshold: float
    spread: float
    spill: float = 0.0

    def cut(self, place: slice | tuple[slice, ...]) -> Layer:
        """The same layer of a part of the grid."""
        return replace(self, values=self.values[place])

    def excess(self, at: Int64) -> Float64:
        """By how many spreads voxels (flat indices) exceed the threshold; minus infinity where nothing was scored."""
        values = (self.values.reshape(-1)[at].astype(np.float64) - self.threshold) / self.spread
        values[np.isnan(values)] = -np.inf
        return values


def find_regions(
    layers: Sequence[Layer],
    residual: Float32,
    affine: Float64,
    *,
    is_volume: bool,
    max_regions: int = 10,
    min_area_px: float | None = None,
) -> tuple[UInt16, tuple[Region, ...]]:
    """Label what exceeds the threshold of a layer.

    Voxels that touch at a face, an edge or a corner belong together, whichever layer they are of: 26 neighbours in a
    volume; in projection images 8 within the frame. Spill around them is left out (`Layer.spill`). A centroid is
    weighted by the excess over the threshold, so that the ragged border of a region, where the excess is small, hardly
    moves it.

    Args:
        layers: Where to look, at least one.
        residual: ``(K, R, C)`` signed difference from the reconstruction, for `Region.mean_mse`.
        affine: ``(4, 4)`` index (k, row, col, 1) -> LPS mm.
        is_volume: Frames are neighbouring slices of one body.
        max_regions: Only so many, those of the largest excess.
        min_area_px: Regions whose largest section covers fewer source pixels are dropped. When omitted,
            `MIN_AREA_SHARE` of the scored area. A quarter of `anomap.scoring.window_area_px` is a good value.

    Returns:
        ``(K, R, C)`` labels, 0 = none, and the regions, the largest excess first, labelled 1, 2, ...; without p-values.
    """
    neighbours = np.ones((3, 3, 3), np.bool_)
    if not is_volume:
        neighbours[[0, 2]] = False
    # NaN exceeds nothing
    inside = np.logical_or.reduce([layer.values > np.float32(layer.threshold) for layer in layers])
    found, count = ndimage.label(inside, neighbours)
    spill = _spill(layers, found, count)
    if len(spill):
        inside.reshape(-1)[spill] = False
        found, count = ndimage.label(inside, neighbours)  # what is left of one may be several
    at = np.flatnonzero(inside)
    component, excess = found.reshape(-1)[at], np.max([layer.excess(at) for layer in layers], axis=0)
    if min_area_px is None:
        scored = np.logical_or.reduce([np.isfinite(layer.values) for layer in layers])
        min_area_px = MIN_AREA_SHARE * float(np.count_nonzero(scored, axis=(1, 2)).max(initial=0))
    areas = _areas(at, component, count, inside.shape)
    order = np.lexsort((np.arange(count), -areas, -_peaks(excess, component, count)))
    chosen = order[areas[order] >= max(min_area_px, 1)][:max_regions]
    new_label = np.zeros(count + 1, np.uint16)
    new_label[chosen + 1] = np.arange(1, len(chosen) + 1)
    labels = np.zeros(inside.shape, np.uint16)
    labels.reshape(-1)[at] = new_label[component]
    regions = tuple(
        _region(label, place, labels[place] == label, layers, residual[place], affine, is_volume)
        for label, place in enumerate(ndimage.find_objects(labels), 1)
    )
    return labels, regions


def _spill(layers: Sequence[Layer], found: Int64, count: int) -> Int64:
    """The flat indices of the labelled voxels that every layer takes for spill."""
    at = np.flatnonzero(found)
    component = found.reshape(-1)[at]
    kept = np.zeros(len(at), np.bool_)
    for layer in layers:
        excess = layer.excess(at)
        kept |= excess > layer.spill * np.maximum(_peaks(excess, component, count), 0.0)[component - 1]
    return at[~kept]


def _peaks(excess: Float64, component: Int64, count: int) -> Float64:
    """Highest value in each of the components 1 .. `count`."""
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, component - 1, excess)
    return peaks


def _areas(at: Int64, component: Int64, count: int, shape: tuple[int, ...]) -> Int64:
    """Voxels of each component in the frame where it has most, from the rising flat indices of all their voxels."""
    areas = np.zeros(count, np.int64)
    ends = np.searchsorted(at, np.arange(1, shape[0]) * shape[1] * shape[2])
    for frame in np.split(component, ends):
        np.maximum(areas, np.bincount(frame - 1, minlength=count), out=areas)
    return areas


def _region(
    label: int,
    place: tuple[slice, ...],
    inside: Bool,
    layers: Sequence[Layer],
    residual: Float32,
    affine: Float64,
    is_volume: bool,
) -> Region:
    """Measure one region; `inside` and `residual` are cut to its bounding box `place`."""
    first = np.array([side.start for side in place])
    index = np.argwhere(inside) + first  # [V,3]
    within = np.flatnonzero(inside)
    cut = [layer.cut(place) for layer in layers]
    values = np.max([layer.excess(within) for layer in cut], axis=0)
    left_over = residual[inside].astype(np.float64)
    left_over = left_over[np.isfinite(left_over)]
    centre = np.average(index, axis=0, weights=values)
    frame = int(index[values.argmax(), 0])
    peaks = {layer.score: float(np.fmax.reduce(layer.values[inside])) for layer in cut}
    peaks = {score: peak for score, peak in peaks.items() if np.isfinite(peak)}
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
        score=max(layers, key=lambda layer: (peaks.get(layer.score, -np.inf) - layer.threshold) / layer.spread).score,
        peaks=peaks,
        mean_mse=float(np.mean(left_over**2)) if left_over.size else 0.0,
    )
