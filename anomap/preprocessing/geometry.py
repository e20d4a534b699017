"""The model's square grid on a source frame: the map between them, and resampling both ways.

A grid is a matrix `to_source` ``(3, 3)``: model (row, col, 1) -> source (row, col, 1), pixel centres on integers.
Grids are axis-aligned (scale, shift, flips, rows for columns), so resampling is separable: one weight matrix an axis.
Numpy alone: scoring uses the way back without knowing where images come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomap.errors import AnomapError
from anomap.types import Bool, Float32, Float64

_BLOCK = 1 << 16  # source pixels interpolated at a time: what is in between stays in the processor's cache


def fit_square(shape: tuple[int, int], spacing_mm: tuple[float, float], size: int, fit: str) -> Float64:
    """The grid that shows a whole frame.

    Args:
        shape: Source (R, C).
        spacing_mm: Distance of source (rows, columns); only the ratio matters.
        size: Model side in pixels.
        fit: "pad" keeps the aspect and centres the frame in the square; "squeeze" stretches it to the square.

    Returns:
        `to_source` ``(3, 3)``.
    """
    extent = np.array(shape, float)  # in source pixels
    if fit == "pad":
        spacing = np.array(spacing_mm, float)
        extent = (extent * spacing).max() / spacing
    return _grid(scale=extent / size, centre=(np.array(shape) - 1) / 2, size=size)


def fit_field_of_view(centre: Float64, spacing_mm: tuple[float, float], size: int, field_of_view_mm: float) -> Float64:
    """The grid of a square of fixed millimetres.

    Args:
        centre: Source (row, col) at the middle of the square.
        spacing_mm: Distance of source (rows, columns) in mm.
        size: Model side in pixels.
        field_of_view_mm: Side of the square.

    Returns:
        `to_source` ``(3, 3)``.
    """
    return _grid(scale=field_of_view_mm / size / np.array(spacing_mm, float), centre=centre, size=size)


def axial_turn(affine: Float64, shape: tuple[int, int]) -> Float64:
    """The turn that shows an axial frame as radiologists do: rows run to posterior, columns to the patient's left.

    Args:
        affine: ``(4, 4)``, index (k, row, col, 1) -> LPS mm.
        shape: Source (R, C).

    Returns:
        ``(3, 3)``: (row, col, 1) of the turned frame -> source (row, col, 1). The identity for frames that are not
        axial: nothing says which way they should be turned.
    """
    directions = affine[:3, 1:3] / np.linalg.norm(affine[:3, 1:3], axis=0)  # columns: along rows, along columns
    left, posterior = directions[0], directions[1]  # how far (row, col) steps lead there
    turn = np.eye(3)
    if np.abs(directions[2]).max() > np.sqrt(0.5):
        return turn
    transposed = abs(left[0]) > abs(left[1])
    source_of = (1, 0) if transposed else (0, 1)  # the source axis of the turned row and column
    turn[:2, :2] = 0.0
    for turned, (source, sense) in enumerate(zip(source_of, (posterior, left), strict=True)):
        forward = sense[source] >= 0
        turn[source, turned] = 1.0 if forward else -1.0
        turn[source, 2] = 0.0 if forward else shape[source] - 1
    return turn


def box_to_source(to_source: Float64, box: Sequence[float] | np.ndarray) -> tuple[float, float, float, float]:
    """The edges of a box of model pixels on the source frame.

    Args:
        to_source: ``(3, 3)``.
        box: ``(row0, col0, row1, col1)`` in model pixels, the end not included.

    Returns:
        The same on the source frame, counted from the outer corner of its first pixel: a pixel's own edges are
        its index and its index + 1. The box may lie outside the frame in part.
    """
    row0, col0, row1, col1 = (float(value) - 0.5 for value in box)  # edges in pixel centres' coordinates
    corners = np.array([[row0, col0, 1.0], [row1, col1, 1.0]]) @ to_source.T
    low, high = corners[:, :2].min(axis=0) + 0.5, corners[:, :2].max(axis=0) + 0.5  # a turn may swap them
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def resample_to_model(plane: Float32, valid: Bool, to_source: Float64, size: int) -> tuple[Float64, Float64]:
    """Average the valid source pixels under each model pixel.

    Exact area averaging where the model's pixels are larger than the source's, bilinear where they are smaller; the
    two agree where they are equal.

    Args:
        plane: ``(R, C)``.
        valid: ``(R, C)``; other pixels don't contribute.
        to_source: The grid.
        size: Model side H = W.

    Returns:
        values ``(H, W)``, 0 where nothing contributes; coverage ``(H, W)`` in [0, 1], the valid share of each pixel.
    """
    axes = _axes(to_source)
    rows, columns = (_weights(size, plane.shape[axis.source], axis.scale, axis.shift) for axis in axes)
    turned = axes[0].source == 1
    pixels, weight = (plane.T, valid.T) if turned else (plane, valid)
    coverage = rows @ weight.astype(np.float64) @ columns.T
    total = rows @ np.where(weight, pixels, 0.0).astype(np.float64) @ columns.T
    values = np.divide(total, coverage, out=np.zeros_like(total), where=coverage > 1e-9)
    return values, np.minimum(coverage, 1.0)


def resample_to_source(values: Float32, to_source: Float64, shape: tuple[int, int]) -> Float32:
    """Interpolate model pixels at the centres of source pixels.

    Args:
        values: ``(H, W)``, maybe with NaN: what leans on a NaN is NaN.
        to_source: The grid.
        shape: Source (R, C).

    Returns:
        ``(R, C)`` float32, bilinear; the outer half of a border pixel has its value; NaN outside of the model's square.
    """
    axes = _axes(to_source)
    (first, second, share), (left, right, along) = (
        _taps(shape[axis.source], extent, axis.scale, axis.shift)
        for axis, extent in zip(axes, values.shape, strict=True)
    )
    placed = np.empty((len(first), len(left)), np.float32)
    block = max(1, _BLOCK // len(left))
    for rows in (slice(start, start + block) for start in range(0, len(first), block)):
        blended = _blend(values[first[rows]], values[second[rows]], share[rows, None])
        placed[rows] = _blend(np.take(blended, left, axis=1), np.take(blended, right, axis=1), along)
    return np.ascontiguousarray(placed.T) if axes[0].source == 1 else placed


class _Axis:
    """One model axis: it runs along the source axis `source`, source index = shift + scale * model index."""

    __slots__ = ("scale", "shift", "source")

    def __init__(self, source: int, scale: float, shift: float) -> None:
        self.source, self.scale, self.shift = source, scale, shift


def _axes(to_source: Float64) -> tuple[_Axis, _Axis]:
    linear = to_source[:2, :2]
    straight = abs(linear[0, 1]) + abs(linear[1, 0]) == 0
    turned = abs(linear[0, 0]) + abs(linear[1, 1]) == 0
    if straight == turned or np.linalg.det(linear) == 0:
        raise AnomapError("E501", "the model grid is not aligned with the axes of the source")
    order = (1, 0) if turned else (0, 1)
    first, second = (
        _Axis(source, float(linear[source, model]), float(to_source[source, 2])) for model, source in enumerate(order)
    )
    return first, second


def _grid(scale: Float64, centre: Float64, size: int) -> Float64:
    grid = np.diag([scale[0], scale[1], 1.0])
    grid[:2, 2] = centre - scale * (size - 1) / 2
    return grid


def _weights(size: int, extent: int, scale: float, shift: float) -> Float64:
    """``(size, extent)``: the share of each source pixel in each model pixel, along one axis.

    A model pixel is a box at least one source pixel wide; the share is the overlap of two boxes.
    """
    centre = shift + scale * np.arange(size)[:, None]
    half = max(abs(scale), 1.0) / 2
    source = np.arange(extent)[None]
    overlap = np.minimum(centre + half, source + 0.5) - np.maximum(centre - half, source - 0.5)
    weights: Float64 = np.clip(overlap, 0.0, None) / (2 * half)
    # A box wider than its own pixel leans over the border of the source: what lies inside counts as a whole pixel.
    inside = (centre[:, 0] >= -0.5) & (centre[:, 0] <= extent - 0.5)
    if abs(scale) < 1.0:
        total = weights.sum(1)
        weights[inside] /= total[inside, None]
        weights[~inside] = 0.0
    return weights


def _taps(extent: int, size: int, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray, Float64]:
    """For each source index the two model indices around it and the share of the second; NaN outside."""
    position = (np.arange(extent) - shift) / scale
    outside = (position < -0.5) | (position > size - 0.5)
    position = np.clip(position, 0, size - 1)
    below = np.floor(position).astype(np.int64)
    share = position - below
    above = np.where(share > 0, np.minimum(below + 1, size - 1), below)
    return below, above, np.where(outside, np.nan, share)


def _blend(first: np.ndarray, second: np.ndarray, share: Float64) -> np.ndarray:
    blended: np.ndarray = first * (1 - share) + second * share
    return blended
