"""The phantoms are valid DICOM, the same every time, and hold what they are said to hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from anomap.dicom.phantom import (
    NEEDLE_HU,
    ct_affine,
    nearest_voxel,
    radiograph_grey,
    write_ct_phantom,
    write_radiograph_phantom,
)
from anomap.errors import AnomapError
from tests.dicom.tools import complaints

SIZE = {"rows": 64, "columns": 80}


def hu(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    return dataset.pixel_array.astype(float) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, -1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_a_ct_phantom_is_valid_dicom(tmp_path, orientation):
    for path in write_ct_phantom(tmp_path, slices=2, orientation=orientation, **SIZE):
        assert complaints(path) == []


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [12, 16])
def test_a_radiograph_phantom_is_valid_dicom(tmp_path, photometric, bits):
    for path in write_radiograph_phantom(tmp_path, photometric=photometric, bits=bits, images=2, **SIZE):
        assert complaints(path) == []


def test_the_same_arguments_give_the_same_bytes_and_others_do_not(tmp_path):
    first = write_ct_phantom(tmp_path / "a", slices=2, seed=3, **SIZE)
    again = write_ct_phantom(tmp_path / "b", slices=2, seed=3, **SIZE)
    other = write_ct_phantom(tmp_path / "c", slices=2, seed=4, **SIZE)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    uids = [str(pydicom.dcmread(p).SOPInstanceUID) for p in [*first, *other]]
    assert len(set(uids)) == 4
    one, same = (write_radiograph_phantom(tmp_path / n, seed=5, **SIZE)[0].read_bytes() for n in "de")
    assert one == same


def test_a_trunk_has_air_lungs_tissue_and_bone_and_is_not_symmetric(tmp_path):
    slices = np.stack([hu(path) for path in write_ct_phantom(tmp_path, slices=4)])
    for low, high, least in [
        (-1030, -940, 0.3),
        (-880, -760, 0.05),
        (-130, -50, 0.01),
        (0, 90, 0.1),
        (300, 600, 0.005),
    ]:
        assert np.mean((slices > low) & (slices < high)) > least
    for axis in (0, 1, 2):
        assert np.abs(slices - np.flip(slices, axis)).mean() > 20


def test_a_needle_lies_at_the_voxel_nearest_to_its_point(tmp_path):
    size = {"slices": 6, "rows": 64, "columns": 80, "spacing_mm": (4.0, 2.0, 3.0), "orientation": (0, 1, 0, 0, 0, -1)}
    affine = ct_affine(**size)
    point = affine[:3] @ (2.2, 30.4, 41.4, 1)
    paths = write_ct_phantom(tmp_path, needle_lps_mm=point, **size)
    found = np.argwhere(np.stack([hu(path) for path in paths]) == NEEDLE_HU)
    assert tuple(found.mean(axis=0)) == nearest_voxel(affine, point) == (2, 30, 41)
    assert len(found) == 27


def test_a_needle_outside_is_refused(tmp_path):
    with pytest.raises(AnomapError, match="E200"):
        write_ct_phantom(tmp_path, needle_lps_mm=(1000, 0, 0), **SIZE)


def test_reversed_instances_hold_the_same_slices(tmp_path):
    plain = write_ct_phantom(tmp_path / "a", slices=3, **SIZE)
    turned = write_ct_phantom(tmp_path / "b", slices=3, reverse=True, **SIZE)
    for a, b in zip(plain, turned, strict=True):
        first, second = pydicom.dcmread(a), pydicom.dcmread(b)
        assert first.ImagePositionPatient == second.ImagePositionPatient
        assert first.PixelData == second.PixelData
        assert first.InstanceNumber + second.InstanceNumber == 4


def test_the_needle_of_a_radiograph_is_thin_and_bright():
    plain, pierced = (radiograph_grey(512, 420, needle=needle) for needle in (False, True))
    changed = plain != pierced
    assert 0.001 < changed.mean() < 0.01
    assert (pierced[changed] > 0.9).all()


def test_a_patient_name_is_written_as_given(tmp_path):
    ct = write_ct_phantom(tmp_path / "ct", slices=1, patient_name="ZZPHI^CANARY", **SIZE)
    dx = write_radiograph_phantom(tmp_path / "dx", patient_name="ZZPHI^CANARY", patient_id="7", **SIZE)
    assert {str(pydicom.dcmread(p).PatientName) for p in [*ct, *dx]} == {"ZZPHI^CANARY"}
    assert pydicom.dcmread(dx[0]).PatientID == "7"
