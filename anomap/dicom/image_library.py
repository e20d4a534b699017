"""Image Library entries (TID 1600) of radiographs that say less of themselves than highdicom wants to know.

highdicom 0.28.2 fails when a radiograph has no Imager Pixel Spacing (optional in CR) or no Patient Orientation, which
the template doesn't ask for. So it gets stand-ins, and what it makes of them is taken out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from anomap.dicom import codes

# What highdicom wants to know of a radiograph for the Image Library (TID 1603), and the concepts it makes of that.
_LIBRARY: dict[str, tuple[list[Any], tuple[str, str]]] = {
    "PatientOrientation": (["L", "F"], (codes.ROW_ORIENTATION.value, codes.COLUMN_ORIENTATION.value)),
    "ImagerPixelSpacing": ([1.0, 1.0], (codes.HORIZONTAL_SPACING.value, codes.VERTICAL_SPACING.value)),
}


def described(header: Dataset) -> Dataset:
    """The header with stand-ins for what a radiograph doesn't say; `forget` takes them out of the report again."""
    if _is_cross_sectional(header):
        return header
    copy = Dataset()
    copy.update(header)
    for keyword in _unknown(header):
        copy.pop(keyword, None)  # setting it would change the element that both share
        setattr(copy, keyword, _LIBRARY[keyword][0])
    return copy


def forget(items: Iterable[Dataset], header: Dataset) -> None:
    """Remove the content items of stand-ins from the Image Library entry of an image, in place.

    Args:
        items: Content items of a report.
        header: The image's own header.
    """
    made_up = {concept for keyword in _unknown(header) for concept in _LIBRARY[keyword][1]}
    for item in items if made_up else ():
        references = item.get("ReferencedSOPSequence", [])
        if any(reference.ReferencedSOPInstanceUID == header.SOPInstanceUID for reference in references):
            kept = [i for i in item.get("ContentSequence", []) if i.ConceptNameCodeSequence[0].CodeValue not in made_up]
            if "ContentSequence" in item:
                item.ContentSequence = kept
        forget(item.get("ContentSequence", []), header)


def _unknown(header: Dataset) -> list[str]:
    if _is_cross_sectional(header):
        return []
    return [keyword for keyword in _LIBRARY if len(header.get(keyword) or []) != 2]


def _is_cross_sectional(header: Dataset) -> bool:
    return bool(header.SOPClassUID == CTImageStorage)
