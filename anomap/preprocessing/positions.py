"""Where the slices of a series lie."""

from __future__ import annotations

import numpy as np

from anomap.types import Float64, ImageSeries


def slice_positions(series: ImageSeries) -> Float64:
    """Where the slices of a CT series lie along their common normal in mm, ``(K,)``.

    As the headers say, where there are any: behind a gap the affine is off. Both ways along the normal may be up.
    Radiographs are no slices, and lie at 0: what their headers say of a position nobody checked.
    """
    if series.modality != "CT":
        return np.zeros(len(series.pixels))
    normal = np.cross(series.affine[:3, 1], series.affine[:3, 2])
    origins = series.affine[:3, 3] + np.arange(len(series.pixels))[:, None] * series.affine[:3, 0]
    if series.headers and all("ImagePositionPatient" in header for header in series.headers):
        origins = np.array([header.ImagePositionPatient for header in series.headers], np.float64)
    positions: Float64 = origins @ normal / np.linalg.norm(normal)
    return positions
