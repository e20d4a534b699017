"""One file's header: read it without trusting it, and say whether we analyse such an image.

Everything a header holds is settled here (converted, or dropped when it can't be), silently: pydicom converts on
first use and its warnings quote values, which may be a patient's.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import config, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import PersonName

from anomap.errors import AnomapError

MAX_FILE_BYTES = 2**30
MAX_SIDE = 2**15  # the largest detectors have some 6000 pixels a side
MAX_PIXELS = 2**27
MAX_DEPTH = 24  # of nested sequences; real headers stay below 8
RADIOGRAPHS = ("CR", "DX")

# Modalities we analyse by SOP class. Films in archives of research are often Secondary Capture with modality CR or DX.
_MODALITIES: dict[str, tuple[str, ...]] = {
    CTImageStorage: ("CT",),
    ComputedRadiographyImageStorage: RADIOGRAPHS,
    DigitalXRayImageStorageForPresentation: RADIOGRAPHS,
    SecondaryCaptureImageStorage: RADIOGRAPHS,
}
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# Image Type values of pictures that show no plain slice (PS3.3 C.8.2.1.1.1 and what scanners write).
_NOT_A_SLICE = frozenset(
    {
        "LOCALIZER",
        "SCOUT",
        "TOPOGRAM",
        "SCREEN SAVE",
        "SCREENSAVE",
        "DOSE_INFO",
        "DOSE",
        "REPORT",
        "MIP",
        "MINIP",
        "VRT",
    }
)
_KINDS = {
    "SQ": "sequence",
    **dict.fromkeys(("DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), "number"),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), "bytes"),
}
_UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom say nothing: its warnings and log lines quote the values they complain about."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def read_header(path: Path) -> tuple[Dataset, int]:
    """Read a header, without pixel data and with every element settled.

    Args:
        path: The file.

    Returns:
        The header with its file meta information, and the number of elements that had to be dropped.

    Raises:
        AnomapError: E101 for other files, E102 for damaged ones, E107 for deflated ones (whose header can't be read
            without unpacking all of it, however much that is), E117 for huge ones.
    """
    with quiet():
        try:
            _check_file(path)
            header = dcmread(path, stop_before_pixels=True)
            return header, _settle(header, 0)
        except AnomapError:
            raise
        except InvalidDicomError:
            raise AnomapError("E101", "the file is not DICOM Part 10 (no DICM mark at its start)") from None
        except RecursionError:
            raise AnomapError("E102", "the header's sequences are nested too deeply") from None
        except Exception as error:
            raise AnomapError("E102", f"the header cannot be read ({type(error).__name__})") from None


def check_eligible(header: Dataset) -> None:
    """Refuse what anomap doesn't analyse, by header alone.

    Args:
        header: From `read_header`.

    Raises:
        AnomapError: E116 for our own results, E105 without an image, E106 for colour, E111 for other kinds of image,
            E110 for localizers and screen shots, E102 and E117 for impossible sizes, E107 for transfer syntaxes we
            can't decode.
    """
    _check_origin(header)
    _check_kind(header)
    kinds = {str(value).strip().upper() for value in _values(header.get("ImageType"))}
    if kinds & _NOT_A_SLICE:
        raise AnomapError("E110", f"the image is a {min(kinds & _NOT_A_SLICE).lower()}")
    _check_size(header)
    _check_decodable(header)
    for keyword in _UIDS:
        value = str(header.get(keyword, ""))
        if len(value) > 64 or not _UID_FORM.fullmatch(value):
            raise AnomapError("E102", f"{keyword} is missing or no UID")


def check_class(header: Dataset) -> None:
    """Refuse what never becomes eligible, for whoever has no more than the beginning of a header.

    Args:
        header: With SOP class, modality and manufacturer.

    Raises:
        AnomapError: E116 for our own results, E111 for SOP classes and modalities that aren't analysed.
    """
    _check_origin(header)
    _check_modality(header)


def number(header: Dataset, keyword: str, default: float | None = None) -> float | None:
    """The first value of an element as a float; `default` when absent, empty or no number (NaN is kept)."""
    try:
        return float(_values(header.get(keyword))[0])
    except (IndexError, TypeError, ValueError):
        return default


def numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """All values of an element as floats; empty when one is no number."""
    try:
        return tuple(float(value) for value in _values(header.get(keyword)))
    except (TypeError, ValueError):
        return ()


def kind_name(sop_class: object) -> str:
    """The standard's name of a SOP class; what isn't in the standard isn't repeated."""
    uid = UID(str(sop_class), validation_mode=config.IGNORE)
    return uid.name.removesuffix(" Storage") if not uid.is_private and uid.name != uid else "unknown class"


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)


def _check_file(path: Path) -> None:
    """Look at size and file meta information before the rest is parsed."""
    size = path.stat().st_size
    if size == 0:
        raise AnomapError("E101", "the file is empty")
    if size > MAX_FILE_BYTES:
        raise AnomapError("E117", f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    if not syntax:
        raise AnomapError("E102", "the file names no transfer syntax")
    if syntax == DeflatedExplicitVRLittleEndian:
        raise AnomapError("E107", "the deflated transfer syntax is refused: a small file may unpack to any size")


def _settle(dataset: Dataset, depth: int) -> int:
    """Convert every element now; drop those that can't be or are of another kind than their tag, and count them."""
    if depth > MAX_DEPTH:
        raise AnomapError("E102", "the header's sequences are nested too deeply")
    dropped = 0
    for tag in list(dataset.keys()):
        try:
            found = dataset.get_item(tag)
            element = dataset[tag]
            if element.VR == "PN":
                str(element.value)  # names are decoded on first use
                _keep_bytes(element, found)
            usable = _of_its_kind(element)
        except RecursionError:
            raise
        except Exception:
            usable = False
        if not usable:
            del dataset[tag]
            dropped += 1
            continue
        if element.VR == "SQ":
            dropped += sum(_settle(item, depth + 1) for item in element.value)
    if depth == 0:
        _drop_impossible_spacing(dataset)
    return dropped


def _keep_bytes(element: DataElement, found: Any) -> None:
    """Let a name be written as it came. pydicom forgets empty groups, last escapes, and bytes it could not decode."""
    if isinstance(element.value, PersonName) and isinstance(found, RawDataElement) and found.value:
        element.value.original_string = found.value.rstrip(b"\0 ")


def _of_its_kind(element: DataElement) -> bool:
    """Whether a standard element holds a sequence, number, text or bytes as its tag says, so that it may be used so."""
    if element.tag.is_private or not dictionary_has_tag(element.tag):
        return True
    found, expected = (
        {_KINDS.get(vr, "text") for vr in text.split(" or ")} for text in (element.VR, dictionary_VR(element.tag))
    )
    return bool(found & expected)


def _drop_impossible_spacing(header: Dataset) -> None:
    """A spacing of zero is none; left in, it would be copied into every result."""
    for keyword in _SPACINGS:
        values = numbers(header, keyword)
        if keyword in header and not (len(values) == 2 and all(0.0 < value < 100.0 for value in values)):
            del header[keyword]


def _check_origin(header: Dataset) -> None:
    if str(header.get("Manufacturer", "")).strip().lower() == "anomap":
        raise AnomapError("E116", "the object was made by anomap")


def _check_modality(header: Dataset) -> str:
    """The modality in capitals, if it is one that is analysed for this SOP class."""
    sop_class = header.get("SOPClassUID", "")
    modality = str(header.get("Modality", "")).strip().upper()
    if sop_class == EnhancedCTImageStorage:
        raise AnomapError("E111", "enhanced (multi-frame) CT is not supported", "Convert it to single-frame CT.")
    if sop_class == DigitalXRayImageStorageForProcessing:
        raise AnomapError("E111", "raw radiographs (for processing) have no defined grey scale; give the presented one")
    if modality not in _MODALITIES.get(str(sop_class), ()):
        raise AnomapError("E111", f"this kind of image is not analysed ({kind_name(sop_class)})")
    return modality


def _check_kind(header: Dataset) -> None:
    sop_class = header.get("SOPClassUID", "")
    name = kind_name(sop_class)
    if "Rows" not in header or "Columns" not in header:
        raise AnomapError("E105", f"the object holds no image ({name})")
    photometric = str(header.get("PhotometricInterpretation", "")).strip().upper()
    if number(header, "SamplesPerPixel", 1.0) != 1.0 or photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
        raise AnomapError("E106", f"the image is in colour ({name})")
    modality = _check_modality(header)
    frames = number(header, "NumberOfFrames", 1.0)
    if frames != 1.0:
        raise AnomapError("E111", f"multi-frame images are not supported ({name})")
    if not photometric:
        raise AnomapError("E102", "PhotometricInterpretation is missing")
    if modality != header.Modality:
        header.Modality = modality


def _check_size(header: Dataset) -> None:
    rows, columns = _whole(header, "Rows"), _whole(header, "Columns")
    if rows < 1 or columns < 1:
        raise AnomapError("E102", f"an image of {rows} x {columns} pixels has no content")
    if max(rows, columns) > MAX_SIDE or rows * columns > MAX_PIXELS:
        raise AnomapError("E117", f"an image of {rows} x {columns} pixels is too large to be real")
    allocated, stored = _whole(header, "BitsAllocated"), _whole(header, "BitsStored")
    if allocated not in (8, 16, 32) or not 1 < stored <= allocated:
        raise AnomapError("E102", f"{stored} bits stored in {allocated} are not possible")
    if _whole(header, "PixelRepresentation") not in (0, 1):
        raise AnomapError("E102", "PixelRepresentation must be 0 or 1")


def _whole(header: Dataset, keyword: str) -> int:
    value = header.get(keyword)
    if not isinstance(value, int):
        raise AnomapError("E102", f"{keyword} is missing or no whole number")
    return value


def _check_decodable(header: Dataset) -> None:
    syntax = UID(str(header.file_meta.TransferSyntaxUID), validation_mode=config.IGNORE)
    if syntax in _NATIVE:
        return
    try:
        decodable = get_decoder(syntax).is_available
    except NotImplementedError:
        raise AnomapError("E107", f"the transfer syntax is not supported ({kind_name(syntax)})") from None
    if not decodable:
        raise AnomapError("E107", f"no codec is installed for {kind_name(syntax)}")
