"""Where slices lie: which belong to one stack, in which order, and its affine.

Positions and directions decide; Slice Location, Slice Thickness, instance numbers and file names are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from anomap.dicom.header import number, numbers
from anomap.errors import AnomapError
from anomap.types import Float64

MAX_POSITION_MM = 1e5
UNEVEN = 0.1  # of the slice distance; positions are often rounded to 0.1 mm, a missing slice is 1.0
SAME_PLACE_MM = 0.01
MAX_SHEAR_DEGREES = 45.0  # gantries tilt by 30 at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Image plane of one slice (PS3.3 C.7.6.2).

    Attributes:
        size: Rows and columns.
        position: LPS mm of the first pixel's centre.
        directions: ``(3, 2)`` unit vectors down the rows' index and along the columns' index (orthonormal).
        spacing_mm: Distance of rows and of columns.
        thickness_mm: Slice Thickness, 1 when unknown; used only for single slices.
        frame_of_reference: UID or "".
    """

    size: tuple[int, int]
    position: Float64
    directions: Float64
    spacing_mm: tuple[float, float]
    thickness_mm: float
    frame_of_reference: str

    @property
    def normal(self) -> Float64:
        """Unit normal: along the rows cross down the columns."""
        normal: Float64 = np.cross(self.directions[:, 1], self.directions[:, 0])
        return normal

    def parallel_to(self, other: Plane) -> bool:
        """Whether both can be slices of one stack."""
        return (
            self.size == other.size
            and self.frame_of_reference == other.frame_of_reference
            and np.allclose(self.directions, other.directions, rtol=0.0, atol=1e-3)
            and np.allclose(self.spacing_mm, other.spacing_mm, rtol=1e-3, atol=0.0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Slices in order.

    Attributes:
        order: Indices into what `stack_slices` was given, ascending along the slice normal.
        affine: ``(4, 4)`` index (k, row, col, 1) to LPS mm.
        repeated: Indices left out because another slice lies at the same place (`allow_gaps` only).
        warnings: Sentences.
    """

    order: tuple[int, ...]
    affine: Float64
    repeated: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def plane_of(header: Dataset) -> Plane:
    """The image plane a header states.

    Args:
        header: Of a CT image.

    Raises:
        AnomapError: E112 when position, orientation or spacing is missing or impossible.
    """
    position = np.array(numbers(header, "ImagePositionPatient"))
    cosines = np.array(numbers(header, "ImageOrientationPatient"))
    spacing = numbers(header, "PixelSpacing")
    if len(position) != 3 or not np.isfinite(position).all() or np.abs(position).max() > MAX_POSITION_MM:
        raise AnomapError("E112", "ImagePositionPatient is missing or invalid")
    if len(spacing) != 2 or not all(0.0 < value < 100.0 for value in spacing):
        raise AnomapError("E112", "PixelSpacing is missing or invalid")
    if len(cosines) != 6 or not np.isfinite(cosines).all():
        raise AnomapError("E112", "ImageOrientationPatient is missing or invalid")
    along, down = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if max(abs(length - 1.0) for length in lengths) > 0.01 or abs(float(along @ down)) > 0.01:
        raise AnomapError("E112", "ImageOrientationPatient holds no two unit vectors at right angles")
    along = along / lengths[0]
    down = down - (down @ along) * along  # written with few digits, they are never quite orthogonal
    thickness = number(header, "SliceThickness", 1.0) or 1.0
    return Plane(
        size=(int(header.Rows), int(header.Columns)),
        position=position,
        directions=np.stack([down / np.linalg.norm(down), along], axis=1),
        spacing_mm=(spacing[0], spacing[1]),
        thickness_mm=thickness if math.isfinite(thickness) and 0.0 < thickness < 1000.0 else 1.0,
        frame_of_reference=str(header.get("FrameOfReferenceUID", "") or ""),
    )


def largest_group(planes: Sequence[Plane]) -> tuple[int, ...]:
    """Indices of the planes that are parallel, equal in size and spacing, and more than half of all.

    Args:
        planes: Of one series.

    Raises:
        AnomapError: E112 when no such group makes up more than half.
    """
    groups: list[list[int]] = []
    for index, plane in enumerate(planes):
        for group in groups:
            if planes[group[0]].parallel_to(plane):
                group.append(index)
                break
        else:
            groups.append([index])
    best = max(groups, key=len)
    if 2 * len(best) <= len(planes):
        raise AnomapError(
            "E112", f"the slices of the series differ in size, spacing or direction ({len(groups)} kinds)"
        )
    return tuple(best)


def stack_slices(planes: Sequence[Plane], *, allow_gaps: bool = False) -> Stack:
    """Order parallel slices along their normal and find the affine.

    A sheared stack (tilted gantry) keeps its shear in the affine. With gaps, distances are the usual ones between
    neighbours, so that slices behind a gap lie elsewhere than the affine says; their headers still hold the truth.

    Args:
        planes: Parallel planes; of several at one place the first counts.
        allow_gaps: Accept missing and repeated slices, with a warning.

    Raises:
        AnomapError: E103 when slices are missing, repeated or unevenly spaced; E112 when they jump sideways.
    """
    first = planes[0]
    depth = np.array([plane.position @ first.normal for plane in planes])
    order = [int(i) for i in np.argsort(depth, kind="stable")]
    repeated = [b for a, b in pairwise(order) if depth[b] - depth[a] < SAME_PLACE_MM]
    warnings = []
    if repeated:
        if not allow_gaps:
            raise AnomapError("E103", f"{len(repeated) + 1} or more slices lie at the same place")
        warnings.append(f"{len(repeated)} slices at places already taken were left out")
        order = [index for index in order if index not in set(repeated)]
    step, doubts = _step(np.stack([planes[index].position for index in order]), first, allow_gaps)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1:3] = first.directions * first.spacing_mm
    affine[:3, 3] = planes[order[0]].position
    return Stack(order=tuple(order), affine=affine, repeated=tuple(repeated), warnings=(*warnings, *doubts))


def _step(positions: Float64, plane: Plane, allow_gaps: bool) -> tuple[Float64, tuple[str, ...]]:
    """The vector from slice to slice, and warnings. `positions` is ``(K, 3)``, ascending."""
    normal = plane.normal
    if len(positions) == 1:
        return normal * plane.thickness_mm, ()
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    usual = float(np.median(distances))
    shear = np.median(steps / distances[:, None], axis=0) - normal  # sideways per mm along the normal
    sideways = steps - distances[:, None] * (normal + shear)
    if np.abs(sideways).max() > max(UNEVEN * usual, 0.5):
        raise AnomapError("E112", f"slices are shifted sideways by up to {np.abs(sideways).max():.1f} mm")
    tilt = math.degrees(math.atan(float(np.linalg.norm(shear))))
    if tilt > MAX_SHEAR_DEGREES:
        raise AnomapError("E112", f"the stack leans by {tilt:.0f} degrees")
    warnings = (f"the stack leans by {tilt:.1f} degrees (tilted gantry)",) if tilt > 0.5 else ()
    mean: Float64 = (positions[-1] - positions[0]) / (len(positions) - 1)
    straight = positions[0] + np.arange(len(positions))[:, None] * mean
    even = np.abs(distances - usual).max() <= UNEVEN * usual
    if even and np.abs((positions - straight) @ normal).max() <= UNEVEN * usual:
        return mean, warnings
    worst = int(np.argmax(np.abs(distances - usual)))
    found = f"{distances[worst]:.2f} mm after slice {worst + 1}, elsewhere {usual:.2f} mm"
    if not allow_gaps:
        raise AnomapError("E103", f"slices are unevenly spaced or missing: {found}")
    regular: Float64 = (normal + shear) * usual
    return regular, (*warnings, f"slices are unevenly spaced or missing ({found}); places behind a gap are off")
