"""What the index keeps of a header: codes and sizes as they are, identifiers hashed, no free text."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomap.curation.formats import check_format, picture_size, read_head
from anomap.curation.formats import format_of as kind_of
from anomap.curation.schema import TAGS, Row
from anomap.dicom.header import check_eligible, numbers, read_header
from anomap.errors import AnomapError
from anomap.nifti import read_nifti_header
from anomap.report import hashed

_CODE = re.compile(r"[A-Z0-9 _]{1,16}")  # a Code String (PS3.5 6.2); other values are not kept
_MAKER = re.compile(r"[\w .,&()/+-]{1,64}")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the index says of a file.

    Attributes:
        kind: Format, "" for what is no image.
        tags: The columns `anomap.curation.schema.TAGS`.
        group: Of the files that must stay in one shard: their CT series; "" for everything else.
        error: Why the file can't be used, None when it seems to be usable.
        images: In the file: the axial slices of a NIfTI volume, else 1.
    """

    kind: str
    tags: Row
    group: str = ""
    error: AnomapError | None = None
    images: int = 1


def describe(path: Path, key: bytes) -> Described:
    """Look at a file's first bytes and header.

    Args:
        path: The file.
        key: Of the patients' labels: with another key the same patient has another label.
    """
    kind, tags, group = "", {field.name: "" for field in TAGS} | _size(None, None), ""
    try:
        kind = kind_of(read_head(path))
        check_format(kind)
        if kind == "nifti":
            volume = read_nifti_header(path)
            slices, rows, columns = volume.axial_shape
            return Described(kind=kind, tags=tags | _size(rows, columns, volume.row_mm), images=slices)
        if kind != "dicom":
            return Described(kind=kind, tags=tags | _size(*picture_size(path)))
        header, _ = read_header(path)
        tags = _tags(header, key)
        check_eligible(header)
        group = tags["series"] if header.Modality == "CT" else ""
    except AnomapError as error:
        return Described(kind=kind, tags=tags, error=error)
    return Described(kind=kind, tags=tags, group=group)


def patient_label(identifier: str, key: bytes) -> str:
    """16 hexadecimal digits for a patient: identifiers are short, so that a hash without a key could be looked up."""
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:16] if identifier else ""


def _size(rows: int | None, columns: int | None, spacing_mm: float | None = None) -> Row:
    return {"rows": rows, "columns": columns, "pixel_spacing_mm": spacing_mm}


def _tags(header: Any, key: bytes) -> Row:
    def code(keyword: str) -> str:
        value = str(header.get(keyword, "") or "").strip().upper()
        return value if _CODE.fullmatch(value) else ""

    def uid(keyword: str) -> str:
        value = str(header.get(keyword, "") or "")
        return hashed(value) if value else ""

    def whole(keyword: str) -> int | None:
        value = header.get(keyword)
        return value if isinstance(value, int) and 0 <= value < 2**31 else None

    maker = str(header.get("Manufacturer", "") or "").strip()
    spacing = next((values[0] for name in _SPACINGS if len(values := numbers(header, name)) == 2), math.nan)
    return {
        "patient": patient_label(str(header.get("PatientID", "") or "").strip(), key),
        "study": uid("StudyInstanceUID"),
        "series": uid("SeriesInstanceUID"),
        "image": uid("SOPInstanceUID"),
        "modality": code("Modality"),
        "body_part": code("BodyPartExamined"),
        "view_position": code("ViewPosition"),
        "laterality": code("ImageLaterality") or code("Laterality"),
        "photometric": code("PhotometricInterpretation"),
        "manufacturer": maker if _MAKER.fullmatch(maker) else "",
        "rows": whole("Rows"),
        "columns": whole("Columns"),
        "pixel_spacing_mm": spacing if math.isfinite(spacing) else None,
    }
