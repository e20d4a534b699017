"""CT: where the body is, and Hounsfield units to the model's range.

The intensity window has fixed ends (Woodland 2025: level 50, width 350 HU). The reference script stretched each slice
between its own extremes instead, so that a grey level meant another density on each slice.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.preprocessing.geometry import axial_turn, fit_field_of_view, fit_square, resample_to_model
from anomap.types import Bool, Float32, Float64, ImageSeries, Prepared, PreprocessSpec

AIR_HU = -1000.0
TISSUE_HU = -300.0  # fat begins near -120, foam mattresses and clothes end near -500
THIN_MM = 6.0  # walls of tables and blankets are thinner, limbs are thicker
LEAST_BODY_MM2 = 2000.0  # a child's wrist
COMPANION = 0.1  # a second part (leg, arm) of at least this share of the largest belongs to the body


def prepare_ct(series: ImageSeries, spec: PreprocessSpec) -> Prepared:
    """Frames of a CT series as model input; frames without a body are left out.

    Args:
        series: Pixels in HU.
        spec: Preprocessing of kind "ct".

    Returns:
        N <= K images.

    Raises:
        AnomapError: E108 when all pixels are equal, E114 when no frame shows a body.
    """
    if series.pixels.max() == series.pixels.min():
        raise AnomapError("E108", "all pixels of the series have the same value")
    _, row_mm, column_mm = series.spacing_mm
    spacing = (row_mm, column_mm)
    shape = (series.pixels.shape[1], series.pixels.shape[2])
    turn = axial_turn(series.affine, shape)
    parts = []
    for k, (hu, valid) in enumerate(zip(series.pixels, series.valid, strict=True)):
        body = find_body(hu, valid, spacing)
        if body.any():
            parts.append((k, *_image(hu, valid, body, _place(body, spacing, turn, spec), spec)))
    if not parts:
        raise AnomapError("E114", "no frame shows a body: nothing denser than -300 HU is larger than 20 cm2")
    frames, images, valids, bodies, grids = zip(*parts, strict=True)
    count = len(frames)
    return Prepared(
        images=np.stack(images)[:, None],
        valid=np.stack(valids)[:, None],
        body=np.stack(bodies)[:, None],
        frame=np.array(frames, np.int64),
        frame_ids=tuple(series.frame_ids[k] for k in frames),
        to_source=np.stack(grids),
        gain=np.full(count, spec.window_width_hu / 2),
        offset=np.full(count, spec.window_level_hu),
        spec=spec,
    )


def find_body(hu: Float32, valid: Bool, spacing_mm: tuple[float, float]) -> Bool:
    """The patient on one axial slice, without table, clothes and the air around; lungs and bowel gas belong to it.

    The body may be cut by the border of the picture: it is not lost there, and a lung that opens to the border
    between two parts of the chest wall is still filled.

    Args:
        hu: ``(R, C)``.
        valid: ``(R, C)``, False in padding.
        spacing_mm: Distance of (rows, columns) in mm.

    Returns:
        ``(R, C)``; empty when nothing of at least 20 cm2 is there.
    """
    tissue = (hu > TISSUE_HU) & valid
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    labels, count = ndimage.label(shrunk(tissue, THIN_MM / 2, spacing_mm))
    empty = np.zeros_like(tissue)
    if count == 0:
        return empty
    area = np.bincount(labels.ravel())[1:]
    core = np.isin(labels, 1 + np.flatnonzero(area >= COMPANION * area.max()))
    grown = ~shrunk(~core, THIN_MM / 2 + max(spacing_mm), spacing_mm)
    body = _fill(grown & tissue) & valid
    return body if body.sum() * pixel_mm2 >= LEAST_BODY_MM2 else empty


def shrunk(mask: Bool, radius_mm: float, spacing_mm: tuple[float, float]) -> Bool:
    """The pixels that lie farther than a distance from everything outside of the mask.

    The same as a threshold on a distance transform, at a tenth of its time for radii of a few pixels: rows of
    shifted masks, the farther the row the fewer of them.

    Args:
        mask: ``(R, C)``; what lies beyond the picture counts as inside.
        radius_mm: Distance.
        spacing_mm: Distance of (rows, columns).
    """
    row_mm, column_mm = spacing_mm
    rows, columns = mask.shape
    kept, line, reach = np.ones_like(mask), mask.copy(), 0  # line: all columns within `reach` are inside
    for down in range(min(int(radius_mm / row_mm) + 1, rows - 1), -1, -1):
        if down * row_mm > radius_mm:
            continue
        while reach + 1 < columns and math.sqrt((down * row_mm) ** 2 + ((reach + 1) * column_mm) ** 2) <= radius_mm:
            reach += 1
            line[:, :-reach] &= mask[:, reach:]
            line[:, reach:] &= mask[:, :-reach]
        kept[: rows - down] &= line[down:]
        kept[down:] &= line[: rows - down]
    return kept


def _fill(body: Bool) -> Bool:
    """Fill holes, and bays that open to one side of the picture between two pieces of body."""
    labels, count = ndimage.label(~body)
    if count == 0:
        return body
    outside: set[int] = set()
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        seen = np.flatnonzero(side == 0)
        if len(seen) == 0:  # the body doesn't reach this side: all that is there is outside
            outside.update(np.unique(side))
            continue
        outside.update(np.unique(side[: seen[0]]), np.unique(side[seen[-1] + 1 :]))
    outside.discard(0)
    filled: Bool = ~np.isin(labels, sorted(outside))
    return filled


def _place(body: Bool, spacing_mm: tuple[float, float], turn: Float64, spec: PreprocessSpec) -> Float64:
    """The model's grid for one frame."""
    order = (1, 0) if turn[0, 0] == 0 else (0, 1)
    spacing = (spacing_mm[order[0]], spacing_mm[order[1]])
    shape = (body.shape[order[0]], body.shape[order[1]])
    if spec.fit != "body":
        return turn @ fit_square(shape, spacing, spec.size, spec.fit)
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    centre = np.array([(rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2, 1.0])
    turned = np.linalg.solve(turn, centre)[:2]
    return turn @ fit_field_of_view(turned, spacing, spec.size, spec.field_of_view_mm)


def _image(
    hu: Float32, valid: Bool, body: Bool, grid: Float64, spec: PreprocessSpec
) -> tuple[Float32, Bool, Bool, Float64]:
    """One frame on the model's grid: image, valid, body, grid.

    Densities are averaged before they are clipped: a needle thinner than a model pixel then still shows as dense.
    """
    shown = np.where(body, hu, np.float32(AIR_HU)) if spec.mask_outside_body else hu
    values, coverage = resample_to_model(shown, valid, grid, spec.size)
    share, _ = resample_to_model(body.astype(np.float32), valid, grid, spec.size)
    inside = coverage >= 0.5
    values = np.where(inside, values, AIR_HU)
    image = np.clip((values - spec.window_level_hu) / (spec.window_width_hu / 2), -1, 1).astype(np.float32)
    return image, inside, inside & (share >= 0.5), grid
