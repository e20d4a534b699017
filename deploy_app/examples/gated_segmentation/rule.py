"""The ground truth of the example: lung fields by a fixed rule on grey levels. No person drew them.

There are no masks for the public radiographs used here. So the truth is what a rule cuts out of a good film: on each
side the largest dark field that a threshold separates from the border, from the other side and from everything of
another shape. Where there is no such pair of fields the rule says so, and the film is left out. It follows the visible
lung well enough to see whether a segmenter failed; it is not anatomy: what lies behind heart and diaphragm is missing.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anomap.types import Bool, Float32

SIDE = 128  # of the films the rule was made for, pixels
AREA = (0.05, 0.22)  # of one field, shares of the film
HEIGHT_TO_WIDTH = (1.2, 4.0)
CENTRE_ROW = (0.2, 0.7)  # where a field's middle may lie, shares of the height
FROM_MIDLINE = 0.1  # least distance of a field's middle from the film's midline, share of the width
ACROSS_MIDLINE = 0.06  # how far a field may reach beyond it
SOLID = 0.85  # least share of a field that is left when its dents are filled
LARGER_TO_SMALLER = 1.8  # of the two fields' areas
_MARGIN = 2  # pixels along the border that no field may touch
_LEVELS = np.arange(0.10, 0.62, 0.02)  # quantiles of grey levels that are tried as thresholds


def lung_fields(film: Float32) -> Bool | None:
    """The lung fields of a frontal radiograph.

    Args:
        film: ``(128, 128)``, dark where X-rays passed; scale and offset of grey values don't matter.

    Returns:
        ``(128, 128)``; None when the rule finds no plausible pair of fields.
    """
    soft = ndimage.gaussian_filter(film, 1.5)
    soft -= ndimage.gaussian_filter(soft, SIDE / 3)  # an uneven exposure would call for two thresholds
    largest: list[Bool | None] = [None, None]
    for level in np.quantile(soft, _LEVELS):
        for field, side in _fields(ndimage.binary_opening(soft < level, iterations=2)):
            held = largest[side]
            if held is None or field.sum() > held.sum():
                largest[side] = field
    left, right = largest
    if left is None or right is None:
        return None
    small, large = sorted((left.sum(), right.sum()))
    return None if large > LARGER_TO_SMALLER * small else left | right


def _fields(dark: Bool) -> list[tuple[Bool, int]]:
    """The connected parts that look like a lung field, dents filled, each with its side: 0 left, 1 right."""
    labels, _ = ndimage.label(dark)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels == number
        side = _side(part, box)
        if side is None:
            continue
        around = np.pad(part, 6)
        filled = ndimage.binary_fill_holes(ndimage.binary_closing(around, iterations=4))[6:-6, 6:-6]
        if part.sum() >= SOLID * filled.sum():
            found.append((filled, side))
    return found


def _side(part: Bool, box: tuple[slice, slice]) -> int | None:
    """The side of a part with the size, shape and place of a lung field; None for any other."""
    rows, columns = box
    inside = min(rows.start, columns.start) >= _MARGIN and max(rows.stop, columns.stop) <= SIDE - _MARGIN
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if not (inside and _within(part.mean(), AREA) and _within(height / width, HEIGHT_TO_WIDTH)):
        return None
    row, column = (centre / SIDE for centre in ndimage.center_of_mass(part))
    side = int(column > 0.5)
    reach = columns.stop / SIDE - 0.5 if side == 0 else 0.5 - columns.start / SIDE
    placed = _within(row, CENTRE_ROW) and abs(column - 0.5) >= FROM_MIDLINE and reach <= ACROSS_MIDLINE
    return side if placed else None


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] < value < limits[1]
