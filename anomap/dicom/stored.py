"""Stored pixel values of a single-frame image, decoded with care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGExtended12Bit

from anomap.dicom.header import quiet
from anomap.errors import AnomapError

Stored = npt.NDArray[np.integer]

_LONE_MARKERS = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length (ISO 10918-1 table B.1)
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0..15, and SOF55 of JPEG-LS


def stored_values(path: Path) -> Stored:
    """Decode the pixel data of an eligible file (`anomap.dicom.header.check_eligible`).

    Args:
        path: The file.

    Returns:
        ``(R, C)`` integers as stored, unused high bits removed (PS3.5 8.1.1).

    Raises:
        AnomapError: E105 without pixel data, E102 when they are damaged or too short, E107 when no codec can read
            them, E117 when a compressed image is larger than the header says.
    """
    with quiet():
        try:
            dataset = dcmread(path)
        except Exception as error:
            raise AnomapError("E102", f"the file cannot be read ({type(error).__name__})") from None
        try:
            _check_extent(dataset)
            values = pixel_array(dataset, raw=True)
        except AnomapError:
            raise
        except MemoryError:
            raise AnomapError("E117", "the image does not fit into memory") from None
        except NotImplementedError:
            raise AnomapError("E107", "no codec can read this image") from None
        except Exception as error:
            raise _undecodable(dataset, error) from None
        except BaseException as error:  # decoders in Rust (RLE) panic, and a panic is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise AnomapError("E102", "the pixel data are damaged (the decoder gave up)") from None
    if values.shape != (dataset.Rows, dataset.Columns) or values.dtype.kind not in "iu":
        raise AnomapError("E102", "the decoded image has not the size that its header says")
    stored: Stored = values
    return stored


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream itself states; None when it states none.

    A decoder allocates what the stream says, so this is asked before.

    Args:
        frame: The compressed frame.
    """
    start = frame.find(b"\xff\x4f\xff\x51")  # SOC, SIZ (ISO 15444-1 A.5.1), maybe inside JP2 boxes
    if start >= 0:
        width, height, left, top = (
            int.from_bytes(frame[start + 8 + 4 * i : start + 12 + 4 * i], "big") for i in range(4)
        )
        return height - top, width - left
    position = 2
    while frame[:2] == b"\xff\xd8" and position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker in _FRAME_MARKERS:
            rows = int.from_bytes(frame[position + 5 : position + 7], "big")
            return rows, int.from_bytes(frame[position + 7 : position + 9], "big")
        if marker == 0xFF:
            position += 1
        elif marker in _LONE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _check_extent(dataset: Dataset) -> None:
    """Compare the pixel data's size with the header's before anything is allocated."""
    if not dataset.get("PixelData"):
        raise AnomapError("E105", "the image has no pixel data")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        expected, found = rows * columns * int(dataset.BitsAllocated) // 8, len(dataset.PixelData)
        if found < expected:
            raise AnomapError("E102", f"the pixel data are cut short: {found} of {expected} bytes")
        if found >= 2 * expected:
            raise AnomapError("E102", f"the pixel data do not fit the header: {found} bytes, expected {expected}")
        return
    size = codestream_size(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    if size is not None and size != (rows, columns):
        larger = size[0] * size[1] > rows * columns
        says = f"the compressed image has {size[0]} x {size[1]} pixels, its header says {rows} x {columns}"
        raise AnomapError("E117" if larger else "E102", says)


def _undecodable(dataset: Dataset, error: Exception) -> AnomapError:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and int(dataset.BitsStored) > 8:
        return AnomapError("E107", "12-bit JPEG (extended process) can't be decoded")
    return AnomapError("E102", f"the pixel data cannot be decoded ({type(error).__name__})")
