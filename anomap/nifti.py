"""CT volumes from NIfTI files: their voxels must be Hounsfield units, and look like it.

NIfTI states neither modality nor unit, and its millimetres point to the patient's right, front and head (RAS). This is
the only place of the core where they become LPS. A file gives no DICOM report: there is nothing it could refer to.

What a file is, its first bytes say. Its header is judged before any voxel is read, and nothing is believed of it that
the file is too short for.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomap.dicom.header import MAX_SIDE
from anomap.dicom.read import MAX_VOXELS
from anomap.errors import AnomapError, require_extra
from anomap.preprocessing.orientation import AXIAL, turn_towards
from anomap.types import Float32, Float64, ImageSeries
from anomap.voxels import PADDING_HU, ct_from_voxels, require_perpendicular

SUFFIXES = (".nii", ".nii.gz")
HEAD_BYTES = 1024  # of a file, compressed or not; more than its header takes
_GZIP = b"\x1f\x8b"
_DEFLATED = 1032  # a byte of deflate stands for so many bytes at most (zlib's technical details)
_VERSIONS = {  # size of the header in either order of bytes -> the same as a number, where its mark stands, version
    length.to_bytes(4, order): (length, place, version)
    for length, place, version in ((348, 344, b"1\0"), (540, 4, b"2\0"))
    for order in ("little", "big")
}
_ONE_FILE, _PAIR = b"n+", b"ni"
AROUND_HU = -500.0  # air, lung, bowel gas: some voxel of a CT in Hounsfield units is less dense
GREY = 255.0  # pictures of 8 bit end here
LEAST_MM3 = 1e-9  # of a voxel
_RAS_TO_LPS = np.diag((-1.0, -1.0, 1.0, 1.0))
_IN_HU = "Give the CT in Hounsfield units, not windowed, normalised or cut to the body."


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiHeader:
    """What a NIfTI file says of itself.

    Attributes:
        shape: Of the stored volume, (k, j, i).
        world: ``(4, 4)``, index (k, j, i, 1) of the stored volume -> LPS mm.
        compressed: Whether the file is gzip.
        fields: nibabel's header.
    """

    shape: tuple[int, int, int]
    world: Float64
    compressed: bool
    fields: Any

    @property
    def axial_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns once the volume is turned to axial slices."""
        k, row, column = turn_towards(self.world, AXIAL).order
        return self.shape[k], self.shape[row], self.shape[column]

    @property
    def row_mm(self) -> float:
        """Distance of neighbouring rows of an axial slice."""
        _, row, _ = turn_towards(self.world, AXIAL).order
        return float(np.linalg.norm(self.world[:3, row]))


def is_nifti(path: Path) -> bool:
    """Whether a file's name says that it is NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def header_of(head: bytes) -> bytes:
    """The NIfTI header that a file begins with, b"" for any other file. Names are not asked.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of a shorter one; compressed or not.
    """
    plain = _unzipped(head) if head.startswith(_GZIP) else head
    length, place, version = _VERSIONS.get(plain[:4], (0, 0, b""))
    return plain[:length] if plain[place : place + 4] in (_ONE_FILE + version, _PAIR + version) else b""


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a volume that may be read; no more than the first `HEAD_BYTES` of the file are.

    Raises:
        AnomapError: E203 without nibabel; E100 or E102 for a missing or damaged file, E111 for the header of a pair of
            files, E117 for too many voxels; E112 when dimensions, kind of voxel, orientation, unit of length or axes
            can't be used.
    """
    nibabel = _nibabel()
    with _damage_told(nibabel):
        with path.open("rb") as file:
            head, size = file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size
        compressed = head.startswith(_GZIP)
        fields = _fields(nibabel, header_of(head))
        i, j, k = _stored_shape(fields)
        needed = fields.get_data_offset() + i * j * k * fields.get_data_dtype().itemsize
        if needed > size * (_DEFLATED if compressed else 1):
            raise AnomapError("E102", "the NIfTI file is shorter than its header says")
        world = _world(fields)
    require_perpendicular(world, "Resample the volume to perpendicular axes.")
    return NiftiHeader(shape=(k, j, i), world=world, compressed=compressed, fields=fields)


def read_nifti(path: Path) -> ImageSeries:
    """A CT volume, turned to axial slices, the lowest (nearest to the feet) first.

    Args:
        path: NIfTI-1 or NIfTI-2, compressed or not; one number a voxel, in Hounsfield units.

    Raises:
        AnomapError: As `read_nifti_header`; E102 when the voxels are damaged, E108 and E109 when they can't be
            Hounsfield units.
    """
    header = read_nifti_header(path)
    voxels = _voxels(path, header)
    _require_hounsfield(voxels)
    return ct_from_voxels(header.world, voxels)[0]


def _unzipped(head: bytes) -> bytes:
    """The beginning of what a gzip file holds, b"" when it can't be told."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def _fields(nibabel: Any, block: bytes) -> Any:
    """The header as nibabel has it, without extensions: they may be long, and say nothing of the voxels."""
    kind = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}.get(len(block))
    if kind is None:
        raise AnomapError("E102", "the file does not begin with a whole NIfTI header")
    fields = kind(block)
    if bytes(fields["magic"]).startswith(_PAIR):
        raise AnomapError("E111", "the voxels of this NIfTI header lie in another file", "Make one .nii of both.")
    return fields


def _stored_shape(fields: Any) -> tuple[int, int, int]:
    """(i, j, k), as the file has them."""
    shape = tuple(int(length) for length in fields.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1 or fields.get_data_dtype().kind not in "iuf":
        raise AnomapError("E112", "expected one volume of one number a voxel", "Give one three-dimensional CT a file.")
    if max(shape) > MAX_SIDE or math.prod(shape) > MAX_VOXELS:
        raise AnomapError("E117", f"a side has more than {MAX_SIDE} voxels, or the volume more than {MAX_VOXELS}")
    return shape


def _voxels(path: Path, header: NiftiHeader) -> Float32:
    """``(k, j, i)``, slope and intercept applied."""
    nibabel = _nibabel()
    with _damage_told(nibabel), path.open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if header.compressed else file
        proxy = nibabel.arrayproxy.ArrayProxy(stream, header.fields, mmap=False)  # mapped, a file that shrinks kills
        voxels: Float32 = np.asarray(proxy, np.float32)
        stream.read(1)  # at its end a gzip stream compares its check sum
    return voxels.reshape(header.shape[::-1]).transpose(2, 1, 0)  # stored (i, j, k)


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
        except (*damage, OSError, EOFError, ValueError, LookupError, OverflowError, zlib.error) as error:
            raise AnomapError("E102", f"the NIfTI file can't be read ({type(error).__name__})") from error


def _world(fields: Any) -> Float64:
    """``(4, 4)``: index (k, j, i, 1) -> LPS mm."""
    if max(int(fields["sform_code"]), int(fields["qform_code"])) < 1:
        raise AnomapError("E112", "the NIfTI file does not say how the volume lies (no sform, no qform)")
    if (unit := fields.get_xyzt_units()[0]) not in ("mm", "unknown"):
        raise AnomapError("E112", f"lengths are in {unit}, expected mm")
    affine = np.asarray(fields.get_best_affine(), np.float64)
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
