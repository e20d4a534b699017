"""Radiographs: the presented picture to the model's range, and the part of it that shows the patient."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.preprocessing.geometry import fit_square, resample_to_model
from anomap.types import Bool, Float64, ImageSeries, Prepared, PreprocessSpec

DARK = 0.06  # of the range: shutters and direct exposure
WHITE = 0.995  # shutters that are presented white
LEAST_SHUTTER = 0.02  # white parts of the picture below this share are markers or metal, not shutters
LEAST_BODY = 0.1  # of the valid pixels; less means that the picture has no dark surroundings to tell it from


def prepare_radiograph(series: ImageSeries, spec: PreprocessSpec) -> Prepared:
    """Radiographs as model input: averaged onto the grid, then two percentiles stretched to -1 and 1.

    Args:
        series: P-values.
        spec: Preprocessing of kind "radiograph".

    Returns:
        N = K images.

    Raises:
        AnomapError: E108 when the picture has no contrast, E302 for fit "body", which is for CT.
    """
    if spec.fit == "body":
        raise AnomapError("E302", "fit 'body' is for CT")
    _, row_mm, column_mm = series.spacing_mm
    shape = (series.pixels.shape[1], series.pixels.shape[2])
    grid = fit_square(shape, (row_mm, column_mm), spec.size, spec.fit)
    count = len(series.pixels)
    images = np.full((count, 1, spec.size, spec.size), -1.0, np.float32)
    valid = np.zeros(images.shape, bool)
    body = np.zeros(images.shape, bool)
    gain, offset = np.empty(count), np.empty(count)
    for k in range(count):
        values, coverage = resample_to_model(series.pixels[k], series.valid[k], grid, spec.size)
        inside = coverage >= 0.5
        low, high = _ends(values[inside], spec)
        gain[k], offset[k] = (high - low) / 2, (high + low) / 2
        images[k, 0] = np.where(inside, np.clip((values - low) / (high - low) * 2 - 1, -1, 1), -1)
        valid[k, 0] = inside
        body[k, 0] = find_exposed((images[k, 0] + 1) / 2, inside)
    return Prepared(
        images=images,
        valid=valid,
        body=body,
        frame=np.arange(count, dtype=np.int64),
        frame_ids=series.frame_ids,
        to_source=np.repeat(grid[None], count, 0),
        gain=gain,
        offset=offset,
        spec=spec,
    )


def find_exposed(image: Float64, valid: Bool) -> Bool:
    """The part of a radiograph that shows the patient: without shutters and direct exposure at the border.

    Args:
        image: ``(H, W)`` in [0, 1].
        valid: ``(H, W)``.

    Returns:
        ``(H, W)``, never empty where `valid` is not: a picture that can't be told apart counts as a whole.
    """
    border = ndimage.binary_dilation(~np.pad(valid, 1))[1:-1, 1:-1] & valid
    surroundings = np.zeros_like(valid)
    for candidate, least in (((image < DARK) & valid, 0.0), ((image > WHITE) & valid, LEAST_SHUTTER)):
        labels, _ = ndimage.label(candidate)
        area = np.bincount(labels.ravel())
        for label in np.setdiff1d(np.unique(labels[border]), [0]):
            if area[label] >= least * valid.sum():
                surroundings |= labels == label
    labels, count = ndimage.label(valid & ~surroundings)
    if count == 0:
        return valid.copy()
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    exposed: Bool = ndimage.binary_fill_holes(labels == largest) & valid
    return exposed if exposed.sum() >= LEAST_BODY * valid.sum() else valid.copy()


def _ends(values: Float64, spec: PreprocessSpec) -> tuple[float, float]:
    if values.size == 0:
        raise AnomapError("E108", "the picture is padding only")
    low, high = np.percentile(values, spec.percentiles)
    if not high - low > 1e-6:  # P-values lie in [0, 1]; a 16-bit step is 1.5e-5
        raise AnomapError("E108", "the picture has no contrast")
    return float(low), float(high)
