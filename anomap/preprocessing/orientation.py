"""Which way a volume lies, and the turn to the way the models know: axes permuted and reversed, nothing resampled.

Files of other worlds than DICOM store voxels in any order (NIfTI often runs to the right, to the front, upwards); a
two-dimensional model would see such slices upside down or cut along another plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from anomap.errors import AnomapError
from anomap.types import Float64

MAX_SHEAR = 0.02  # cosine between axes that should be perpendicular; 1 degree
# Directions (columns: along k, rows, columns) in LPS in which pictures are shown: the patient's left is on the right.
_S, _P, _L = np.eye(3)[[2, 1, 0]]
AXIAL = np.stack([_S, _P, _L], axis=1)
CORONAL = np.stack([_P, -_S, _L], axis=1)
SAGITTAL = np.stack([_L, -_S, _P], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Axis a of the turned array is axis ``order[a]`` of the source, reversed where ``flip[a]``."""

    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]

    def turned(self, array: np.ndarray) -> np.ndarray:
        """A view of a source array ``(3 axes)`` in the new order."""
        return array.transpose(self.order)[self._reversed]

    def restored(self, array: np.ndarray) -> np.ndarray:
        """A view of a turned array in the order of the source; the inverse of `turned`."""
        inverse = np.argsort(self.order)
        return array[self._reversed].transpose(inverse)

    def affine(self, affine: Float64, shape: tuple[int, ...]) -> Float64:
        """The turned array's affine.

        Args:
            affine: ``(4, 4)``, source index -> mm.
            shape: Of the source array.
        """
        return affine @ self.matrix(shape)

    def matrix(self, shape: tuple[int, ...]) -> Float64:
        """``(4, 4)``: turned index -> source index of an array of `shape`."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for axis, (source, reverse) in enumerate(zip(self.order, self.flip, strict=True)):
            matrix[source, axis] = -1.0 if reverse else 1.0
            matrix[source, 3] = shape[source] - 1 if reverse else 0.0
        return matrix

    @property
    def _reversed(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if reverse else 1) for reverse in self.flip)


def turn_towards(affine: Float64, directions: Float64) -> Turn:
    """The turn after which the axes come closest to given directions.

    Args:
        affine: ``(4, 4)``, index -> mm.
        directions: ``(3, 3)``, the wanted direction of each axis as a column; `AXIAL` and its like.

    Raises:
        AnomapError: E112 when an axis has no length.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (lengths > 0).all():
        raise AnomapError("E112", "the volume has an axis without a direction")
    cosines = directions.T @ (affine[:3, :3] / lengths)  # [wanted axis, source axis]
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[axis, p[axis]]) for axis in range(3)))
    flips = [bool(cosines[axis, source] < 0) for axis, source in enumerate(order)]
    return Turn(order=(order[0], order[1], order[2]), flip=(flips[0], flips[1], flips[2]))


def shear(affine: Float64) -> float:
    """Largest cosine between two axes; 0 when all are perpendicular."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(directions.T @ directions - np.eye(3)).max())


def rotation_degrees(affine: Float64) -> float:
    """Largest angle between an axis of a turned volume and the direction it should have (`AXIAL`)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.clip((directions * AXIAL).sum(axis=0), -1.0, 1.0)
    return float(np.degrees(np.arccos(cosines)).max())
