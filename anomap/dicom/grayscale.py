"""From stored values to what they mean: Hounsfield units, or P-values as a display would show them.

The grey-scale pipeline of DICOM: modality transformation (PS3.3 C.11.1), values of interest (C.11.2),
presentation (C.11.6, and Photometric Interpretation in C.7.6.3.1.2). Padding (C.7.5.1.1.2) is masked on the way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from anomap.dicom.header import number
from anomap.errors import AnomapError
from anomap.types import Bool, Float32, Float64

AIR_HU = -1000.0  # what padding in CT becomes
NO_TISSUE_HU = -1500.0  # vacuum is about -1000, noise and streaks beside metal reach some hundreds lower
WRONG_HU = -4096.0  # nobody measures that; padding may lie there, but then at one value
MAX_HU = 1e5  # beyond any metal on an extended scale
_HU_TYPES = frozenset({"", "HU", "HU_MOD"})


def to_hounsfield(stored: npt.NDArray[np.integer], header: Dataset) -> tuple[Float32, Bool]:
    """CT: stored values to HU.

    Args:
        stored: ``(R, C)`` as stored.
        header: Of the same image.

    Returns:
        ``(R, C)`` float32 HU with air in the padding, and where the image is valid.

    Raises:
        AnomapError: E109 without a usable scale to HU, or with values no scanner measures (some damaged compressed
            images decode to noise); E108 when nothing but padding or a single value is there.
    """
    if "ModalityLUTSequence" in header:
        raise AnomapError("E109", "a modality LUT gives no Hounsfield units")
    if str(header.get("RescaleType", "") or "").strip().upper() not in _HU_TYPES:
        raise AnomapError("E109", "RescaleType is not HU")
    if number(header, "RescaleSlope") is None or number(header, "RescaleIntercept") is None:
        raise AnomapError("E109", "RescaleSlope or RescaleIntercept is missing or no number")
    slope, intercept = _rescale(header)
    valid = valid_pixels(stored, header)
    values = stored.astype(np.float64) * slope + intercept
    deep = values[valid & (values < WRONG_HU)]
    if np.abs(values[valid]).max() > MAX_HU or (deep.size and deep.min() < deep.max()):
        low, high = values[valid].min(), values[valid].max()
        raise AnomapError("E109", f"values from {low:.0f} to {high:.0f} are no Hounsfield units")
    valid &= ~_unmarked_padding(values)
    if not valid.any():
        raise AnomapError("E108", "the image holds nothing but padding")
    return np.where(valid, values, AIR_HU).astype(np.float32), valid


def to_p_values(stored: npt.NDArray[np.integer], header: Dataset) -> tuple[Float32, Bool, tuple[str, ...]]:
    """Radiographs: stored values to P-values.

    The VOI LUT is preferred to the window, and of several the first is taken. Without either, the full range of the
    stored bits is shown; so is it when a window is invalid or would show a single grey.

    Args:
        stored: ``(R, C)`` as stored.
        header: Of the same image.

    Returns:
        ``(R, C)`` float32 in [0, 1] (0 black, also in the padding; 1 white), where the image is valid, and warnings.

    Raises:
        AnomapError: E109 when a LUT or the rescale values are unusable; E108 as `to_hounsfield`.
    """
    valid = valid_pixels(stored, header)
    values, low, high = _modality(stored, header)
    grey, warnings = _values_of_interest(values, (low, high), header, valid)
    inverse, doubt = inverted(header)
    if inverse:
        grey = 1.0 - grey
    return np.where(valid, grey, 0.0).astype(np.float32), valid, (*warnings, *doubt)


def valid_pixels(stored: npt.NDArray[np.integer], header: Dataset) -> Bool:
    """Where an image holds no padding.

    Args:
        stored: ``(R, C)`` as stored.
        header: Of the same image. Writers disagree on the sign of Pixel Padding Value, so it is taken modulo the
            stored bits.

    Raises:
        AnomapError: E108 when nothing or a single value is left.
    """
    valid = np.ones(stored.shape, bool)
    first = number(header, "PixelPaddingValue")
    if first is not None and math.isfinite(first):
        last = number(header, "PixelPaddingRangeLimit", first)
        ends = [_as_stored(v, header) for v in (first, last) if v is not None and math.isfinite(v)]
        valid = (stored < min(ends)) | (stored > max(ends))
    if not valid.any():
        raise AnomapError("E108", "the image holds nothing but padding")
    inside = stored[valid]
    if inside.min() == inside.max():
        raise AnomapError("E108", "all pixels have the same value")
    return valid


def inverted(header: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether low values are shown white; a warning when the header contradicts itself.

    Args:
        header: Of the image. Presentation LUT Shape decides, else Photometric Interpretation.
    """
    by_photometric = str(header.get("PhotometricInterpretation", "")).strip().upper() == "MONOCHROME1"
    shape = str(header.get("PresentationLUTShape", "") or "").strip().upper()
    if shape not in ("IDENTITY", "INVERSE"):
        return by_photometric, ()
    if (shape == "INVERSE") == by_photometric:
        return by_photometric, ()
    return shape == "INVERSE", ("Presentation LUT Shape contradicts Photometric Interpretation; the former was used",)


def apply_window(values: Float64, centre: float, width: float, function: str = "LINEAR") -> Float64:
    """A window as PS3.3 C.11.2.1.2 and C.11.2.1.3 define it, with output 0 to 1.

    Args:
        values: Any shape.
        centre: Window Center.
        width: Window Width; at least 1 for LINEAR, above 0 for the others.
        function: VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        AnomapError: E109 for a width or function that the standard doesn't know.
    """
    if not (math.isfinite(centre) and math.isfinite(width)) or width < (1.0 if function == "LINEAR" else 1e-9):
        raise AnomapError("E109", "the window is invalid")
    grey: Float64
    if function == "SIGMOID":
        grey = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    elif function == "LINEAR_EXACT":
        grey = np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    elif function != "LINEAR":
        raise AnomapError("E109", "the VOI LUT Function is unknown")
    elif width == 1.0:
        grey = (values > centre - 0.5).astype(np.float64)
    else:
        grey = np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    return grey


def apply_lut(values: Float64, item: Dataset, little_endian: bool = True) -> tuple[Float64, float]:
    """Look values up in a modality or VOI LUT (PS3.3 C.11.1.1.1).

    Args:
        values: Any shape; rounded to whole numbers.
        item: Sequence item with LUT Descriptor and LUT Data.
        little_endian: Byte order of LUT Data stored as words.

    Returns:
        The values found and the highest possible one.

    Raises:
        AnomapError: E109 when descriptor and data don't fit.
    """
    try:
        entries, first, bits = (int(v) for v in item.LUTDescriptor)
        table = _table(item.LUTData, entries or 2**16, little_endian)
    except (AttributeError, TypeError, ValueError):
        raise AnomapError("E109", "a look-up table is damaged") from None
    if not 8 <= bits <= 16 or len(table) != (entries or 2**16) or table.max() >= 2**bits:
        raise AnomapError("E109", "a look-up table does not fit its descriptor")
    if values.min() < 0 and first >= 2**15:  # a signed first value that was written as unsigned
        first -= 2**16
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[index].astype(np.float64), float(2**bits - 1)


def _unmarked_padding(values: Float64) -> Bool:
    """What lies below `NO_TISSUE_HU` and reaches the edge: a round field of view whose corners nobody declared."""
    low = values < NO_TISSUE_HU
    edge = low.copy()
    edge[1:-1, 1:-1] = False
    corners: Bool = ndimage.binary_propagation(edge, mask=low)
    return corners


def _table(data: Any, entries: int, little_endian: bool) -> npt.NDArray[np.integer]:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.array(data, np.int64)) % 2**16
    if len(data) in (entries, entries + 1) and entries > 1:  # bytes packed, with a pad byte when odd
        return np.frombuffer(data, np.uint8)[:entries]
    return np.frombuffer(data, "<u2" if little_endian else ">u2")


def _as_stored(value: float, header: Dataset) -> int:
    """A padding value as the decoded pixels hold it, whatever sign it was written with."""
    bits = int(header.BitsStored)
    wrapped = int(value) % (1 << bits)
    signed = int(header.PixelRepresentation) == 1 and wrapped >= 1 << (bits - 1)
    return wrapped - (1 << bits if signed else 0)


def _rescale(header: Dataset) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where absent, refused where no number."""
    stated = [header.get(keyword) not in (None, "") for keyword in ("RescaleSlope", "RescaleIntercept")]
    slope = number(header, "RescaleSlope", math.nan if stated[0] else 1.0) or 0.0
    intercept = number(header, "RescaleIntercept", math.nan if stated[1] else 0.0) or 0.0
    if not math.isfinite(slope * intercept) or slope == 0.0:
        raise AnomapError("E109", f"RescaleSlope {slope} with RescaleIntercept {intercept} is no scale")
    return slope, intercept


def _modality(stored: npt.NDArray[np.integer], header: Dataset) -> tuple[Float64, float, float]:
    """After the modality LUT or rescale: values, and the lowest and highest possible one."""
    if header.get("ModalityLUTSequence"):
        values, high = apply_lut(stored.astype(np.float64), header.ModalityLUTSequence[0], _little_endian(header))
        return values, 0.0, high
    slope, intercept = _rescale(header)
    lowest = -(1 << (int(header.BitsStored) - 1)) if int(header.PixelRepresentation) == 1 else 0
    highest = lowest + (1 << int(header.BitsStored)) - 1
    low, high = sorted(end * slope + intercept for end in (lowest, highest))
    return stored.astype(np.float64) * slope + intercept, low, high


def _values_of_interest(
    values: Float64, limits: tuple[float, float], header: Dataset, valid: Bool
) -> tuple[Float64, tuple[str, ...]]:
    """After the VOI LUT or window, 0 to 1."""
    plain = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
    if header.get("VOILUTSequence"):
        found, high = apply_lut(values, header.VOILUTSequence[0], _little_endian(header))
        grey = found / high
    else:
        centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
        if centre is None or width is None:
            return plain, ()
        function = str(header.get("VOILUTFunction", "") or "LINEAR").strip().upper()
        try:
            grey = apply_window(values, centre, width, function)
        except AnomapError:
            return plain, ("the window in the header is invalid; the full range of values was used",)
    inside = grey[valid]
    if inside.min() == inside.max():
        return plain, ("the window in the header shows a single grey; the full range of values was used",)
    return grey, ()


def _little_endian(header: Dataset) -> bool:
    return header.original_encoding[1] is not False
