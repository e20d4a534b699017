"""A toy site: a cohort of 20 normal NIfTI volumes, and three cases: to pass, to be reviewed, and damaged."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from anomap.cli import main
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import read_study
from tests.made_nifti import nifti_of

PATIENTS = 20  # with one fewer no p-value would be as small as 0.05
STEPS = ["--steps", "1"]


@pytest.fixture(scope="session")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one NIfTI file a patient."""
    folder, source = tmp_path_factory.mktemp("normals"), tmp_path_factory.mktemp("dicom")
    for number in range(PATIENTS):
        dicom = source / str(number)
        write_ct_phantom(dicom, slices=3, rows=48, columns=48, spacing_mm=(5, 8, 8), seed=number)
        nibabel.save(nifti_of(read_study(dicom).series[0]), folder / f"n{number:02d}_0000.nii.gz")
    return folder


@pytest.fixture(scope="session")
def cohort(normals: Path, toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "cohort.json"
    assert (
        main(["calibrate", str(normals), "-o", str(path), "--model", "toy-ct", "--models", str(toy_models), *STEPS])
        == 0
    )
    return path


@pytest.fixture
def cases(normals: Path, tmp_path: Path) -> Path:
    """ "plain" passes, "long" has no patients of its kind in the cohort and is reviewed, "broken" holds no image."""
    folder = tmp_path / "cases"
    folder.mkdir()
    plain = normals / "n07_0000.nii.gz"
    (folder / "plain_0000.nii.gz").write_bytes(plain.read_bytes())
    image = nibabel.load(plain)
    twice = np.concatenate([image.get_fdata(dtype=np.float32)] * 2, axis=2)
    nibabel.save(nibabel.Nifti1Image(twice, image.affine), folder / "long_0000.nii.gz")
    (folder / "broken_0000.nii.gz").write_text("not an image")
    return folder
