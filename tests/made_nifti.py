"""A CT series as other tools would store it in a NIfTI file."""

from __future__ import annotations

import nibabel
import numpy as np

from anomap.types import ImageSeries


def nifti_of(series: ImageSeries) -> nibabel.Nifti1Image:
    """Its voxels as (i, j, k) with millimetres to the right, front and head, padding as -1000 HU."""
    voxels = np.where(series.valid, series.pixels, np.float32(-1000)).transpose(2, 1, 0)
    affine = np.diag((-1.0, -1.0, 1.0, 1.0)) @ series.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return image
