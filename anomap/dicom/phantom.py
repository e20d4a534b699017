"""Made-up patients as valid DICOM files: a CT of a trunk and a chest radiograph, the same bytes for the same arguments.

For tests, the demo and a first look at an installation; no substitute for images of people. The anatomy is coarse
but asymmetric, so that a flipped, transposed or wrongly ordered image can't go unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from anomap.errors import AnomapError
from anomap.types import Float64

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
NEEDLE_HU = 1200.0
AIR_HU, FAT_HU, TISSUE_HU, LUNG_HU, BONE_HU = -1000.0, -90.0, 45.0, -820.0, 480.0
CENTRE_LPS_MM = (12.5, -34.0, 210.25)  # of every CT phantom; not zero, so that a lost origin shows
RESCALE_INTERCEPT = -1024


def ct_affine(
    slices: int,
    rows: int,
    columns: int,
    spacing_mm: Sequence[float] = (5.0, 3.0, 3.0),
    orientation: Sequence[float] = AXIAL,
) -> Float64:
    """The affine of a CT phantom: index (k, row, col, 1) to LPS mm, k ascending along the slice normal.

    Args:
        slices: Number of slices.
        rows: Rows of a slice.
        columns: Columns of a slice.
        spacing_mm: Distance of slices, rows and columns.
        orientation: Image Orientation (Patient): direction of the rows, then of the columns (PS3.3 C.7.6.2.1.1).

    Returns:
        ``(4, 4)``; the middle of the volume lies at `CENTRE_LPS_MM`.
    """
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along_row, along_column) * spacing_mm[0]
    affine[:3, 1] = along_column * spacing_mm[1]
    affine[:3, 2] = along_row * spacing_mm[2]
    middle = np.array([slices - 1, rows - 1, columns - 1]) / 2
    affine[:3, 3] = np.array(CENTRE_LPS_MM) - affine[:3, :3] @ middle
    return affine


def nearest_voxel(affine: Float64, lps_mm: Sequence[float]) -> tuple[int, int, int]:
    """The voxel (k, row, col) whose centre lies nearest to a point; its exact place is ``affine @ (*voxel, 1)``.

    Args:
        affine: From `ct_affine`.
        lps_mm: Point in LPS mm.
    """
    index = np.linalg.solve(affine, np.array([*lps_mm, 1.0]))[:3]
    k, row, col = (int(v) for v in np.rint(index))
    return k, row, col


def write_ct_phantom(
    folder: Path,
    *,
    slices: int = 8,
    rows: int = 128,
    columns: int = 128,
    spacing_mm: Sequence[float] = (5.0, 3.0, 3.0),
    orientation: Sequence[float] = AXIAL,
    reverse: bool = False,
    needle_lps_mm: Sequence[float] | None = None,
    table: bool = False,
    patient_name: str = "Phantom^CT",
    patient_id: str = "PHANTOM",
    seed: int = 0,
) -> list[Path]:
    """Write a CT series of a trunk: skin, fat, muscle, two lungs, heart, aorta, liver, spine, ribs, noise.

    The array always shows an axial trunk (front up, the patient's right on the left); `orientation` only says where
    its axes point, so that readers can be tried with every plane and sign.

    Args:
        folder: Where the files go; made when missing.
        slices: Number of slices.
        rows: Rows of a slice.
        columns: Columns of a slice.
        spacing_mm: Distance of slices, rows and columns.
        orientation: Image Orientation (Patient), six direction cosines.
        reverse: Number the instances (and name the files) against the slice normal.
        needle_lps_mm: Centre of a metal bead of 3 x 3 x 3 voxels at `NEEDLE_HU`. It goes to the voxel nearest to the
            point (`nearest_voxel`), and is cut off where the volume ends.
        table: Draw the table below the patient.
        patient_name: Written as it is.
        patient_id: Written as it is.
        seed: Of noise and small differences in build.

    Returns:
        The files in the order of k, ascending along the slice normal.

    Raises:
        AnomapError: E200 when the needle lies outside the volume.
    """
    affine = ct_affine(slices, rows, columns, spacing_mm, orientation)
    volume = np.stack([_trunk(k / max(slices - 1, 1), rows, columns, seed, table) for k in range(slices)])
    volume += np.random.default_rng((seed, 1)).normal(0.0, 12.0, volume.shape)
    if needle_lps_mm is not None:
        k, row, col = nearest_voxel(affine, needle_lps_mm)
        if not (0 <= k < slices and 0 <= row < rows and 0 <= col < columns):
            raise AnomapError("E200", "the needle lies outside the phantom")
        volume[max(k - 1, 0) : k + 2, max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = NEEDLE_HU
    stored = np.clip(np.rint(volume) - RESCALE_INTERCEPT, 0, 4095).astype("<u2")
    what = (slices, rows, columns, *spacing_mm, *orientation, reverse, needle_lps_mm, table, patient_name, patient_id)
    key = f"ct {seed} " + " ".join(map(str, what))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(slices):
        number = slices - k if reverse else k + 1
        dataset = _common(CTImageStorage, key, number, patient_name, patient_id)
        _fill_ct(dataset, key, affine @ (k, 0.0, 0.0, 1.0), spacing_mm, orientation)
        _fill_pixels(dataset, stored[k], 12)
        paths.append(_save(dataset, folder / f"CT{number:04d}.dcm"))
    return paths


def write_radiograph_phantom(
    folder: Path,
    *,
    rows: int = 512,
    columns: int = 420,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    bits: Literal[12, 16] = 12,
    images: int = 1,
    needle: bool = False,
    patient_name: str = "Phantom^Radiograph",
    patient_id: str = "PHANTOM",
    seed: int = 0,
) -> list[Path]:
    """Write a chest radiograph (DX, for presentation) with a VOI window, or a series of several.

    Args:
        folder: Where the files go; made when missing.
        rows: Rows.
        columns: Columns; the pixels are square, and the picture spans 360 mm from head to foot.
        photometric: MONOCHROME1 stores the complement; shown right, both look the same.
        bits: Bits Stored.
        images: Number of images in the series: frontal first, then lateral views.
        needle: Draw a bright needle across the lung on the right of the picture.
        patient_name: Written as it is.
        patient_id: Written as it is.
        seed: Of noise and small differences in build.

    Returns:
        The files by instance number.
    """
    key = f"dx {seed} {rows} {columns} {photometric} {bits} {images} {needle} {patient_name} {patient_id}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, images + 1):
        lateral = number > 1
        grey = radiograph_grey(rows, columns, seed=seed + 1000 * (number - 1), needle=needle, lateral=lateral)
        black, white = (400, 3600) if bits == 12 else (6400, 57600)
        stored = np.rint(black + grey * (white - black))
        centre = (black + white + 1) / 2
        if photometric == "MONOCHROME1":
            stored, centre = 2**bits - 1 - stored, 2**bits - centre
        dataset = _common(DigitalXRayImageStorageForPresentation, key, number, patient_name, patient_id)
        _fill_radiograph(dataset, 360.0 / rows, lateral)
        dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
        dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
        dataset.WindowCenter, dataset.WindowWidth = str(centre), str(white - black + 1)
        _fill_pixels(dataset, stored.astype("<u2"), bits, photometric)
        paths.append(_save(dataset, folder / f"DX{number:04d}.dcm"))
    return paths


def _grid(rows: int, columns: int) -> tuple[Float64, Float64]:
    """Coordinates (down, right), each from -1 to 1 over the picture."""
    down, right = np.mgrid[0:rows, 0:columns].astype(float)
    return (down + 0.5) / rows * 2 - 1, (right + 0.5) / columns * 2 - 1


def _ellipse(down: Float64, right: Float64, centre: tuple[float, float], radii: tuple[float, float]) -> Float64:
    """Distance from an ellipse's centre; 1 on its rim."""
    return np.hypot((down - centre[0]) / radii[0], (right - centre[1]) / radii[1])


def _trunk(height: float, rows: int, columns: int, seed: int, table: bool) -> Float64:
    """One axial slice in HU without noise, ``(R, C)``; `height` runs from 0 (feet) to 1 (head)."""
    down, right = _grid(rows, columns)
    build = 1.0 + 0.04 * np.random.default_rng((seed, 0)).uniform(-1, 1)
    body = _ellipse(down, right, (0.0, 0.0), (0.58 * build, 0.84 * build))
    lung = 0.75 + 0.25 * height
    organs = (  # HU, centre (down, right), radii; later ones lie over earlier ones
        (LUNG_HU, (-0.06, -0.40), (0.36 * lung, 0.27 * lung)),  # right lung, the larger one
        (LUNG_HU, (-0.02, 0.43), (0.33 * lung, 0.22 * lung)),
        (60.0, (0.16, -0.42), (0.26 * (1.0 - height), 0.30 * (1.0 - height))),  # liver, below
        (50.0, (-0.14, 0.10), (0.23, 0.24)),  # heart, to the left
        (150.0, (0.20, 0.09), (0.055, 0.055)),  # aorta, contrast
        (BONE_HU * 0.7, (0.32, 0.0), (0.115, 0.10)),  # vertebral body
        (25.0, (0.42, 0.0), (0.035, 0.035)),  # spinal canal
    )
    image = np.full((rows, columns), AIR_HU)
    image[body < 1.0] = 20.0  # skin
    image[body < 0.97] = FAT_HU
    image[body < 0.88] = TISSUE_HU
    for value, centre, radii in organs:
        if min(radii) > 0:
            image[_ellipse(down, right, centre, radii) < 1.0] = value
    angle = np.arctan2(down, right)
    image[(np.abs(body - 0.82) < 0.03) & (np.cos(9 * angle + 6 * height) > 0.55)] = BONE_HU  # ribs, cut aslant
    if table:
        image[np.abs(down - 0.72 - 0.08 * right**2) < 0.025] = 120.0
    return image


def radiograph_grey(rows: int, columns: int, *, seed: int = 0, needle: bool = False, lateral: bool = False) -> Float64:
    """The picture of the radiograph phantom, ``(R, C)``: grey from 0 (black, air) to 1 (white).

    Args:
        rows: Rows.
        columns: Columns.
        seed: Of noise and build.
        needle: Draw a needle.
        lateral: A side view: one lung field, the spine at the back.
    """
    rng = np.random.default_rng((seed, 2))
    build = 1.0 + 0.03 * rng.uniform(-1, 1)
    down, right = _grid(rows, columns)
    grey = np.full((rows, columns), 0.06)
    wall = _ellipse(down, right, (0.25, 0.0), (1.35 * build, 0.93 * build))
    grey = grey + 0.50 * _soft(1.0 - wall, 0.04)
    if lateral:
        grey = grey - 0.30 * _soft(1.0 - _ellipse(down, right, (-0.08, 0.05), (0.62, 0.62 * build)), 0.06)
        grey = grey + 0.22 * _soft(0.12 - np.abs(right - 0.62 + 0.2 * down**2), 0.03)  # spine
        grey = grey + 0.25 * _soft(1.0 - _ellipse(down, right, (0.20, -0.25), (0.34, 0.30)), 0.08)  # heart
    else:
        grey = grey - 0.36 * _soft(1.0 - _ellipse(down, right, (-0.10, -0.42), (0.62 * build, 0.32)), 0.06)
        grey = grey - 0.36 * _soft(1.0 - _ellipse(down, right, (-0.06, 0.44), (0.60 * build, 0.28)), 0.06)
        grey = grey + 0.24 * _soft(0.15 - np.abs(right - 0.01), 0.03)  # mediastinum and spine
        grey = grey + 0.24 * _soft(1.0 - _ellipse(down, right, (0.24, 0.13), (0.30, 0.30)), 0.08)  # heart
        grey = grey + 0.22 * _soft(1.0 - _ellipse(down, right, (0.76, -0.42), (0.30, 0.52)), 0.06)  # liver
    for number in range(8):  # ribs: arcs that fall from the spine to the sides
        middle = -0.78 + 0.17 * number
        grey = grey + 0.07 * _soft(0.026 - np.abs(down - middle - 0.30 * right**2), 0.01) * _soft(0.95 - wall, 0.03)
    grey = grey + 0.10 * _soft(0.03 - np.abs(down + 0.86 - 0.10 * np.abs(right)), 0.01) * _soft(0.95 - wall, 0.03)
    grey = grey + rng.normal(0.0, 0.012, grey.shape)
    if needle:
        across = (down + 0.05) * 0.5 - (right - 0.45) * 0.87
        along = (down + 0.05) * 0.87 + (right - 0.45) * 0.5
        grey = np.where((np.abs(across) < max(0.008, 1.2 / columns)) & (np.abs(along) < 0.25), 0.98, grey)
    clipped: Float64 = np.clip(grey, 0.0, 1.0)
    return clipped


def _soft(depth: Float64, width: float) -> Float64:
    """A step at 0 with soft shoulders."""
    step: Float64 = 1.0 / (1.0 + np.exp(np.clip(-depth / width * 4, -60, 60)))
    return step


def _uid(*parts: object) -> UID:
    """A UID that depends on nothing but its parts (PS3.5 B.2)."""
    return UID(f"2.25.{uuid5(NAMESPACE_OID, ' '.join(map(str, parts))).int}")


def _common(sop_class: UID, key: str, number: int, patient_name: str, patient_id: str) -> Dataset:
    """Patient, study, series, equipment and SOP common modules."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, _uid(key, "image", number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(key, "study"), _uid(key, "series")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "", "1", ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "Phantom", "Made up"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.PatientName, dataset.PatientID = patient_name, patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.AcquisitionNumber = 1, number, 1
    return dataset


def _fill_ct(
    dataset: Dataset, key: str, position: Float64, spacing_mm: Sequence[float], orientation: Sequence[float]
) -> None:
    """CT image, frame of reference and image plane modules."""
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.BodyPartExamined, dataset.PatientPosition = "CHEST", "HFS"
    dataset.SeriesDescription, dataset.KVP = "CT phantom", 120
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = _uid(key, "frame of reference"), ""
    dataset.ImagePositionPatient = [_decimal(v) for v in position[:3]]
    dataset.ImageOrientationPatient = [_decimal(v) for v in orientation]
    dataset.PixelSpacing = [_decimal(v) for v in spacing_mm[1:]]
    dataset.SliceThickness = _decimal(spacing_mm[0])
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = RESCALE_INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = "50", "350"


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    return f"{float(value) + 0.0:.10g}"


def _fill_radiograph(dataset: Dataset, spacing_mm: float, lateral: bool) -> None:
    """DX series, anatomy, image, detector and positioning modules (PS3.3 A.26)."""
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.SeriesDescription = "Radiograph phantom"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BodyPartExamined, dataset.ImageLaterality = "CHEST", "U"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "816094009", "SCT", "Chest"
    dataset.AnatomicRegionSequence = Items([region])
    view = Dataset()  # CID 4010
    view.CodeValue, view.CodeMeaning = ("399198007", "right lateral") if lateral else ("399348003", "postero-anterior")
    view.CodingSchemeDesignator, view.ViewModifierCodeSequence = "SCT", Items([])
    dataset.ViewCodeSequence = Items([view])
    dataset.ViewPosition, dataset.PositionerType = "RL" if lateral else "PA", "NONE"
    dataset.PatientOrientation = ["A", "F"] if lateral else ["L", "F"]
    dataset.AcquisitionContextSequence = Items([])
    dataset.PixelIntensityRelationship = "LOG"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.LossyImageCompression, dataset.BurnedInAnnotation = "00", "NO"
    dataset.DetectorType = "DIRECT"
    dataset.ImagerPixelSpacing = [_decimal(spacing_mm)] * 2
    dataset.PixelSpacing, dataset.PixelSpacingCalibrationType = [_decimal(spacing_mm)] * 2, "GEOMETRY"
    dataset.PixelSpacingCalibrationDescription = "Drawn at this size"


def _fill_pixels(dataset: Dataset, stored: np.ndarray, bits: int, photometric: str = "MONOCHROME2") -> None:
    """Image pixel module, 16 bits allocated."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path
