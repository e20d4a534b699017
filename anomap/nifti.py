"""CT volumes from NIfTI files: their voxels must be Hounsfield units, and look like it.

NIfTI states neither modality nor unit, and its millimetres point to the patient's right, front and head (RAS). This is
the only place of the core where they become LPS. A file gives no DICOM report: there is nothing it could refer to.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anomap.dicom.read import MAX_VOXELS
from anomap.errors import AnomapError, require_extra
from anomap.types import Float32, Float64, ImageSeries
from anomap.voxels import PADDING_HU, ct_from_voxels, require_perpendicular

SUFFIXES = (".nii", ".nii.gz")
AROUND_HU = -500.0  # air, lung, bowel gas: some voxel of a CT in Hounsfield units is less dense
GREY = 255.0  # pictures of 8 bit end here
LEAST_MM3 = 1e-9  # of a voxel
_RAS_TO_LPS = np.diag((-1.0, -1.0, 1.0, 1.0))
_IN_HU = "Give the CT in Hounsfield units, not windowed, normalised or cut to the body."


def is_nifti(path: Path) -> bool:
    """Whether a file's name says that it is NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: Path) -> ImageSeries:
    """A CT volume, turned to axial slices.

    Args:
        path: NIfTI-1 or NIfTI-2, compressed or not; one number a voxel, in Hounsfield units.

    Raises:
        AnomapError: E203 without nibabel; E100 or E102 for a missing or damaged file, E117 for too many voxels; E112
            when dimensions, kind of voxel, orientation, unit of length or axes can't be used; E108 and E109 when the
            voxels can't be Hounsfield units.
    """
    image = _opened(path)
    shape = tuple(int(length) for length in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or 0 in shape or image.get_data_dtype().kind not in "iuf":
        raise AnomapError("E112", "expected one volume of one number a voxel", "Give one three-dimensional CT a file.")
    if math.prod(shape) > MAX_VOXELS:
        raise AnomapError("E117", f"the volume has more than {MAX_VOXELS} voxels")
    world = _world(image)
    require_perpendicular(world, "Resample the volume to perpendicular axes.")
    voxels = _voxels(image).reshape(shape).transpose(2, 1, 0)  # stored (i, j, k); the house's order is (k, j, i)
    _require_hounsfield(voxels)
    return ct_from_voxels(world, voxels)[0]


def _opened(path: Path) -> Any:
    """The file with its header read and checked, its voxels not yet."""
    nibabel = _nibabel()
    with _damage_told(nibabel):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise AnomapError("E102", "the file has a NIfTI name and holds something else")
    return image


def _voxels(image: Any) -> Float32:
    with _damage_told(_nibabel()):
        voxels: Float32 = image.get_fdata(dtype=np.float32)  # slope and intercept applied
    return voxels


def _nibabel() -> Any:
    require_extra("nifti", "nibabel")
    import nibabel

    return nibabel


@contextmanager
def _damage_told(nibabel: Any) -> Iterator[None]:
    """What nibabel raises and logs of a damaged file names its path, and is not repeated."""
    damage = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    with nibabel.imageglobals.LoggingOutputSuppressor():
        try:
            yield
        except FileNotFoundError as error:
            raise AnomapError("E100", "there is no such file") from error
        except (*damage, OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
            raise AnomapError("E102", f"the NIfTI file can't be read ({type(error).__name__})") from error


def _world(image: Any) -> Float64:
    """``(4, 4)``: index (k, j, i, 1) -> LPS mm."""
    header = image.header
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        raise AnomapError("E112", "the NIfTI file does not say how the volume lies (no sform, no qform)")
    if (unit := header.get_xyzt_units()[0]) not in ("mm", "unknown"):
        raise AnomapError("E112", f"lengths are in {unit}, expected mm")
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < LEAST_MM3:
        raise AnomapError("E112", "the axes of the NIfTI file span no volume")
    return _RAS_TO_LPS @ affine[:, [2, 1, 0, 3]]


def _require_hounsfield(voxels: Float32) -> None:
    """Refuse what can't be Hounsfield units of a patient with air around, or in lung or bowel."""
    seen = np.isfinite(voxels) & (voxels > PADDING_HU)
    if not seen.any():
        raise AnomapError("E108", "no voxel holds a usable number")
    low, high = float(voxels.min(where=seen, initial=np.inf)), float(voxels.max(where=seen, initial=-np.inf))
    if low >= 0 and high <= GREY:
        raise AnomapError("E109", "all voxels lie between 0 and 255: a picture, no Hounsfield units", _IN_HU)
    if low > AROUND_HU:
        raise AnomapError("E109", f"no voxel is below {AROUND_HU:g}: these are no Hounsfield units", _IN_HU)
