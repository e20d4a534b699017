"""A repository of CT volumes: the same slices as DICOM and as NIfTI, and NIfTI that can't be used."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from tests.made_nifti import nifti_of

SLICES = 5
REFUSED = {  # path -> code; each of them one row
    "bad/cut": "E102",
    "bad/flat": "E109",
    "bad/four": "E112",
    "bad/nan": "E108",
    "bad/other.nii.gz": "E101",
    "bad/pair": "E111",
    "bad/short": "E102",
    "bad/text.nii": "E101",
}


def write_volumes(root: Path) -> Path:
    """A CT series as DICOM, as NIfTI, as NIfTI stored another way, and copied; a radiograph; bad files."""
    write_ct_phantom(root / "dicom", slices=SLICES, rows=48, columns=44)
    write_radiograph_phantom(root / "xr", rows=64, columns=56)
    (series,) = read_study(root / "dicom").series
    image = nifti_of(series)
    nibabel.save(image, root / "whole.nii.gz")
    shutil.copy(root / "whole.nii.gz", root / "copy.png")
    other = nibabel.Nifti2Image.from_image(image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]])))
    nibabel.save(other, root / "other.nii")
    (root / "other.nii").rename(root / "sagittal")

    bad = root / "bad"
    bad.mkdir()
    packed = (root / "whole.nii.gz").read_bytes()
    plain = gzip.decompress(packed)
    (bad / "cut").write_bytes(packed[: len(packed) // 2])
    (bad / "short").write_bytes(plain[: len(plain) // 2])
    (bad / "pair").write_bytes(plain[:344] + b"ni1\0" + plain[348:])
    (bad / "text.nii").write_text("no volume")
    (bad / "other.nii.gz").write_bytes(gzip.compress(plain[:344] + b"n+3\0" + plain[348:]))
    hu = image.get_fdata(dtype=np.float32)
    for name, voxels in {
        "flat": np.clip(hu, 0, 255),
        "four": np.stack([hu, hu], axis=-1),
        "nan": np.full_like(hu, np.nan),
    }.items():
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine), bad / "made.nii.gz")
        (bad / "made.nii.gz").rename(bad / name)
    return root
