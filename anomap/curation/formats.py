"""What a file is, by its first bytes: names and extensions are not asked. Pictures become radiographs, NIfTI is CT."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from anomap.dicom.header import MAX_PIXELS, MAX_SIDE
from anomap.dicom.read import read_image
from anomap.errors import AnomapError
from anomap.nifti import HEAD_BYTES, header_of, read_nifti
from anomap.training.data import series_from_picture
from anomap.types import ImageSeries

_PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"II*\0": "tiff", b"MM\0*": "tiff"}
_GREY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F"}


def format_of(head: bytes) -> str:
    """One of `anomap.curation.schema.FORMATS`, "" for any other file.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of a shorter one.
    """
    if head[128:132] == b"DICM":  # first: the 128 bytes before may be anything, a TIFF header too
        return "dicom"
    for magic, name in _PICTURES.items():
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return "nifti" if header_of(head) else ""


def read_head(path: Path) -> bytes:
    """The bytes that `format_of` asks for.

    Raises:
        AnomapError: E102 when the file can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise AnomapError("E102", f"the file can't be read ({type(error).__name__})") from None


def read_series(path: Path, kind: str, name: str) -> ImageSeries:
    """One file as a series: of one image, or of all slices of a NIfTI volume.

    Args:
        path: The file.
        kind: Its format.
        name: Frame id for formats that have none of their own.

    Raises:
        AnomapError: Why it can't be used; E101 for files that are no image.
    """
    check_format(kind)
    if kind == "nifti":
        return read_nifti(path)
    return read_image(path) if kind == "dicom" else _picture(path, name)


def check_format(kind: str) -> None:
    """Refuse what is no image.

    Raises:
        AnomapError: E101.
    """
    if not kind:
        raise AnomapError("E101", "the file is neither DICOM, NIfTI nor PNG, JPEG, TIFF or WebP")


def picture_size(path: Path) -> tuple[int, int]:
    """Rows and columns of a picture, from its header.

    Raises:
        AnomapError: E102 when it can't be read, E117 for impossible sizes, E111 for several pages.
    """
    with _opened(path) as picture:
        return picture.height, picture.width


def _picture(path: Path, name: str) -> ImageSeries:
    with _opened(path) as picture:
        try:
            pixels = _grey(picture)
        except (OSError, ValueError, SyntaxError, zlib.error) as error:
            raise AnomapError("E102", f"the picture can't be decoded ({type(error).__name__})") from None
    if not np.isfinite(pixels).all() or pixels.min() == pixels.max():
        raise AnomapError("E108", "all pixels have the same value, or some are no number")
    return series_from_picture(pixels, name)


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path, formats=("PNG", "JPEG", "TIFF", "WEBP"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise AnomapError("E102", f"the picture can't be read ({type(error).__name__})") from None
    except Image.DecompressionBombError:
        raise AnomapError("E117", "the picture is too large to be real") from None
    if max(picture.size) > MAX_SIDE or picture.width * picture.height > MAX_PIXELS:
        raise AnomapError("E117", f"a picture of {picture.height} x {picture.width} pixels is too large to be real")
    if getattr(picture, "n_frames", 1) > 1:
        raise AnomapError("E111", "pictures of several pages are not curated")
    return picture


def _grey(picture: Image.Image) -> np.ndarray:
    """``(R, C)`` grey values of 255; 16 bits keep theirs. A picture in colour is only read when it shows none."""
    if picture.mode not in _GREY:
        colours = np.asarray(picture.convert("RGB"))
        if (colours != colours[..., :1]).any():
            raise AnomapError("E106", "the picture is in colour")
        return colours[..., 0]
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.convert("L"))
    values = np.asarray(picture, np.float64)
    low, high = min(0.0, float(values.min())), float(values.max())
    if picture.mode != "F" and low >= 0 and high <= 0xFFFF:
        return values / 0xFFFF * 255
    return (values - low) / ((high - low) or 1.0) * 255
