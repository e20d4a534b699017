"""An `ImageSeries` from voxels that have no DICOM files: of a viewer, or of a NIfTI file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomap.errors import AnomapError
from anomap.preprocessing.ct import AIR_HU
from anomap.preprocessing.orientation import (
    AXIAL,
    CORONAL,
    MAX_SHEAR,
    SAGITTAL,
    Turn,
    rotation_degrees,
    shear,
    turn_towards,
)
from anomap.types import Float64, ImageSeries

PADDING_HU = -1500.0  # nothing in a patient is less dense than air; what is below, a reader has filled in
FAT_HU = -200.0  # lower than fat: a CT with any air around or inside has such voxels
ODD_ROTATION_DEGREES = 20.0
ODD_PIXELS = 2.0  # ratio of a pixel's sides from which its look is coarser than the models have ever seen


def require_perpendicular(world: Float64, remedy: str | None = None) -> None:
    """Refuse axes that don't stand on each other.

    Args:
        world: ``(4, 4)``, index -> mm.
        remedy: What to do.

    Raises:
        AnomapError: E112 when they differ from a right angle by more than `MAX_SHEAR`.
    """
    if (cosine := shear(world)) > MAX_SHEAR:
        angle = np.degrees(np.arcsin(min(cosine, 1.0)))
        raise AnomapError("E112", f"the volume's axes are not perpendicular (by {angle:.0f} degrees)", remedy)


def ct_from_voxels(world: Float64, voxels: np.ndarray) -> tuple[ImageSeries, Turn]:
    """Voxels taken for Hounsfield units, turned to axial slices.

    Args:
        world: ``(4, 4)``, index (k, j, i, 1) of the volume -> LPS mm; its axes perpendicular.
        voxels: ``(k, j, i)``.

    Returns:
        The series, and the turn from the volume's axes to its.

    Raises:
        AnomapError: E109 when no voxel is below 0.
    """
    turn = turn_towards(world, AXIAL)
    affine = turn.affine(world, voxels.shape)
    pixels = np.array(turn.turned(voxels), np.float32, order="C")  # a copy also of what is mapped and fits
    valid = (pixels > PADDING_HU) & (pixels < np.inf)
    lowest = pixels.min(where=valid, initial=np.inf)
    np.copyto(pixels, AIR_HU, where=~valid)
    if lowest >= 0:
        raise AnomapError("E109", "no voxel is below 0: these are no Hounsfield units", "Give a CT volume in HU.")
    notes = ["the volume has no DICOM files: its voxels were taken for Hounsfield units, and there is no DICOM report"]
    if lowest > FAT_HU:
        notes.append("no voxel is below -200 HU: check that the volume is CT in Hounsfield units")
    if (angle := rotation_degrees(affine)) > ODD_ROTATION_DEGREES:
        notes.append(f"the slices are rotated by {angle:.0f} degrees against the patient's axes")
    _, row_mm, column_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if max(row_mm, column_mm) > ODD_PIXELS * min(row_mm, column_mm):
        notes.append(f"pixels of axial slices are {row_mm:.1f} x {column_mm:.1f} mm: scores are coarse")
    return _series(pixels, valid, affine, "CT", notes), turn


def radiograph_from_voxels(world: Float64, voxels: np.ndarray) -> tuple[ImageSeries, Turn]:
    """A volume of one slice taken for a radiograph, black for its lowest value; arguments and results as above.

    Raises:
        AnomapError: E113 for several slices, E108 when all pixels are equal.
    """
    if 1 not in voxels.shape:
        raise AnomapError("E113", "a radiograph has one slice, this volume has several")
    # Across the picture is the direction of its one slice, and stays so however oblique it lies.
    axis = voxels.shape.index(1)
    across = np.argmax(np.abs(world[:3, axis]))
    straight = world.copy()
    straight[:3, axis] = np.sign(world[across, axis]) * np.eye(3)[across]
    turn = turn_towards(straight, (SAGITTAL, CORONAL, AXIAL)[across])
    pixels = np.ascontiguousarray(turn.turned(voxels), np.float32)
    valid = np.isfinite(pixels)
    low, high = (pixels[valid].min(), pixels[valid].max()) if valid.any() else (0.0, 0.0)
    if not high > low:
        raise AnomapError("E108", "all pixels have the same value")
    pixels = np.where(valid, (pixels - low) / (high - low), np.float32(0)).astype(np.float32)
    notes = ["the picture has no DICOM file: black was taken for its lowest value, and there is no DICOM report"]
    # Nobody knows whether a viewer's pixels are millimetres: only their shape counts, each covers an area of 1.
    affine = turn.affine(world, voxels.shape)
    affine[:3, :3] /= np.sqrt(np.linalg.norm(np.cross(affine[:3, 1], affine[:3, 2])))
    return _series(pixels, valid, affine, "CR", notes), turn


def _series(pixels: np.ndarray, valid: np.ndarray, affine: Float64, modality: str, notes: Sequence[str]) -> ImageSeries:
    centres = [affine @ (k, (pixels.shape[1] - 1) / 2, (pixels.shape[2] - 1) / 2, 1.0) for k in range(len(pixels))]
    return ImageSeries(
        pixels=pixels,
        unit="HU" if modality == "CT" else "1",
        affine=affine,
        modality=modality,
        frame_ids=tuple("\\".join(f"{value + 0.0:.2f}" for value in centre[:3]) for centre in centres),
        valid=valid,
        warnings=tuple(notes),
    )
