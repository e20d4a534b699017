"""What is opened: eligible images with the way to their files, and a volume that lies where they lie."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
from pydicom import dcmread

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.viewer.open import label, open_images

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)


@pytest.fixture
def ct(tmp_path):
    """Files of a CT by slice, and their folder with something else in it."""
    files = write_ct_phantom(tmp_path / "ct", slices=4, rows=32, columns=40, reverse=True, patient_name="ZZPHI^CANARY")
    (tmp_path / "ct" / "notes.txt").write_text("ZZPHI")
    return files


def test_a_folder_gives_its_series_the_files_and_what_was_left_out(ct):
    images = open_images(ct[0].parent)
    (series,) = images.series
    assert [images.file_of(uid) for uid in series.frame_ids] == [str(path) for path in ct]
    assert images.file_of("1.2.3") == ""
    (line,) = images.left_out
    assert line.startswith("left out: 1 × E101 ")
    images.close()
    assert all(path.exists() for path in ct), "the input is never touched"


def test_a_zip_stays_unpacked_until_it_is_closed(ct, tmp_path):
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for path in ct:
            archive.write(path, f"deep/../{path.name}")
    images = open_images(tmp_path / "ct.zip")
    paths = [images.file_of(uid) for uid in images.series[0].frame_ids]
    assert [dcmread(path).SOPInstanceUID for path in paths] == list(images.series[0].frame_ids)
    images.close()
    assert not any(path.exists() for path in images.files.values())


def test_a_zip_that_holds_nothing_useful_leaves_nothing_behind(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(AnomapError, match="E101"):
        open_images(tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(AnomapError, match="E100"):
        open_images(tmp_path / "empty.zip")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_one_file_is_an_input_too(tmp_path):
    (path,) = write_radiograph_phantom(tmp_path, rows=48, columns=40)
    images = open_images(path)
    assert images.file_of(images.series[0].frame_ids[0]) == str(path)


def test_series_are_named_by_numbers_only(ct, tmp_path):
    for path in ct:
        dataset = dcmread(path)
        dataset.SeriesDescription = dataset.StudyDescription = "ZZPHI"
        dataset.save_as(path)
    (radiograph, _) = write_radiograph_phantom(
        tmp_path / "dx", rows=48, columns=40, images=2, patient_name="ZZPHI^CANARY"
    )
    shutil.copytree(radiograph.parent, ct[0].parent / "dx")
    labels = [label(series) for series in open_images(ct[0].parent).series]
    assert labels == [
        "CT series 1: 4 images of 40 × 32, every 5 mm",
        "DX series 1, image 1: 40 × 48",
        "DX series 1, image 2: 40 × 48",
    ]


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), CORONAL, OBLIQUE])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_volume_lies_where_the_images_lie(orientation, reverse, tmp_path):
    import slicer
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    from anomap.viewer.volume import add_volume, remove_volume

    write_ct_phantom(tmp_path, slices=4, rows=32, columns=40, orientation=orientation, reverse=reverse)
    (series,) = open_images(tmp_path).series
    scene = slicer.vtkMRMLScene()
    node = add_volume(scene, series, label(series))
    uids = node.GetAttribute("DICOM.instanceUIDs").split()
    image, matrix = node.GetImageData(), vtkMatrix4x4()
    assert image.GetDimensions() == (40, 32, 4)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(4, 32, 40)
    node.GetIJKToRASMatrix(matrix)
    assert node.IsIJKCoordinateSystemRightHanded(matrix)
    by_uid = {path.SOPInstanceUID: path for path in map(dcmread, tmp_path.iterdir())}
    for k, uid in enumerate(uids):
        dataset = by_uid[uid]
        ras = matrix.MultiplyPoint((0, 0, k, 1))[:3]
        assert np.allclose((-ras[0], -ras[1], ras[2]), [float(v) for v in dataset.ImagePositionPatient])
        assert np.array_equal(voxels[k], dataset.pixel_array.astype(np.float32) + float(dataset.RescaleIntercept))
    remove_volume(scene, node)
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode") == 0


def test_a_radiograph_shows_the_picture_it_is_meant_to_be(tmp_path):
    """Both photometric interpretations show the same."""
    import slicer
    from vtkmodules.util.numpy_support import vtk_to_numpy

    from anomap.viewer.volume import add_volume

    seen = []
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        write_radiograph_phantom(tmp_path / photometric, rows=48, columns=40, photometric=photometric)
        (series,) = open_images(tmp_path / photometric).series
        node = add_volume(slicer.vtkMRMLScene(), series, label(series))
        seen.append(vtk_to_numpy(node.GetImageData().GetPointData().GetScalars()))
        assert node.GetSpacing()[:2] == pytest.approx((7.5, 7.5))
    assert np.abs(seen[0] - seen[1]).max() < 2e-3
    assert 0.0 <= seen[0].min() < 0.2 < 0.5 < seen[0].max() <= 1.0
