"""Read a study: every image we analyse becomes part of an `ImageSeries`, everything else a `Skipped` with its reason.

Headers are read first and judged, then pixels file by file. Nothing here trusts a file name, a file's order or
what a header promises about sizes, and no message holds a patient's data. `Skipped.name` is the path inside the
input, which may name a patient: whoever publishes it hashes it (`anomap.report.skipped_entry`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from anomap.dicom.files import opened
from anomap.dicom.grayscale import to_hounsfield, to_p_values
from anomap.dicom.header import RADIOGRAPHS, check_eligible, number, numbers, quiet, read_header
from anomap.dicom.sorting import Plane, Stack, largest_group, plane_of, stack_slices
from anomap.dicom.stored import stored_values
from anomap.errors import AnomapError
from anomap.types import Float64, ImageSeries, Skipped

MAX_VOXELS = 2**31  # of one series; 8 GiB of float32

# When nothing is left to analyse, the reason that came closest to an analysis is told.
_TELLING = (
    "E103", "E112", "E108", "E109", "E115", "E102", "E107", "E117", "E110", "E106", "E116", "E111", "E105", "E101",
)  # fmt: skip
# Spacings of a radiograph by preference: in the patient, at the detector, on the scanned film (PS3.3 10.7).
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConfig:
    """How to read.

    Attributes:
        allow_gaps: Accept CT series with missing or repeated slices, with a warning.
    """

    allow_gaps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What an input holds.

    Attributes:
        series: What can be analysed, at least one. A CT series is one `ImageSeries`; so is each single radiograph,
            also when several share a DICOM series.
        skipped: Everything else.
    """

    series: tuple[ImageSeries, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An eligible file."""

    name: str
    path: Path
    header: Dataset
    warnings: tuple[str, ...]

    @property
    def uid(self) -> str:
        return str(self.header.SOPInstanceUID)


def read_study(path: Path, config: ReadConfig | None = None) -> Study:
    """Read a folder (with everything below it), a zip or a single file.

    Args:
        path: The input; it is never written to.
        config: How to read.

    Raises:
        AnomapError: E100 when there is nothing to read; E104 for several patients; when nothing can be analysed,
            the code of the reason that came closest to it.
    """
    config = config or ReadConfig()
    with quiet(), opened(path) as files:
        if not files:
            raise AnomapError("E100", "the input holds no files")
        entries, skipped = _read_headers(files)
        entries, repeated = _without_repeats(entries)
        skipped += repeated
        series: list[ImageSeries] = []
        for members in _grouped(entries):
            if members[0].header.Modality in RADIOGRAPHS:
                found, left = _radiographs(members)
            else:
                found, left = _volume(members, config)
            series += found
            skipped += left
    if not series:
        raise _refusal(skipped)
    return Study(series=tuple(series), skipped=tuple(sorted(skipped, key=lambda item: item.name)))


def read_image(path: Path) -> ImageSeries:
    """Read one file by itself: a radiograph, or a CT slice without its neighbours.

    Args:
        path: A DICOM file.

    Returns:
        A series of one frame. A slice has the place, the direction and the values that it has in its volume.

    Raises:
        AnomapError: The reason why `read_study` would leave the file out.
    """
    with quiet():
        entry = _entry(path.name, path)
        check_eligible(entry.header)
        if entry.header.Modality in RADIOGRAPHS:
            return _radiograph(entry)
        stack = stack_slices([plane_of(entry.header)])
        pixels, valid = to_hounsfield(stored_values(path), entry.header)
        return _series([entry], pixels[None], valid[None], stack)


def _entry(name: str, path: Path) -> _Entry:
    """A file with its header, not yet judged."""
    header, dropped = read_header(path)
    notes = (f"{dropped} unreadable header elements were ignored",) if dropped else ()
    return _Entry(name, path, header, notes)


def _read_headers(files: Sequence[tuple[str, Path]]) -> tuple[list[_Entry], list[Skipped]]:
    entries: list[_Entry] = []
    skipped: list[Skipped] = []
    patients: list[tuple[str, str, str]] = []
    for name, path in files:
        try:
            entry = _entry(name, path)
            if any(keyword in entry.header for keyword in ("PatientID", "PatientName", "Rows")):  # not a DICOMDIR
                patients.append(_patient(entry.header))
            check_eligible(entry.header)
        except AnomapError as error:
            skipped.append(_skip(name, error))
            continue
        entries.append(entry)
    _require_one_patient(patients)
    return entries, skipped


def _patient(header: Dataset) -> tuple[str, str, str]:
    """Identifier (the name where there is none), its issuer, and date of birth."""
    identifier, issuer, birth = (
        str(header.get(keyword, "") or "").strip() for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
    )
    return identifier or f"name {header.get('PatientName', '')}", issuer, birth


def _require_one_patient(patients: Iterable[tuple[str, str, str]]) -> None:
    """Identifiers must agree; issuers and dates of birth too, where both are given."""
    identifiers, issuers, births = (set(values) for values in zip(*patients, strict=True)) if patients else ([],) * 3
    count = max(len(set(identifiers)), len(set(issuers) - {""}), len(set(births) - {""}))
    if count > 1:
        raise AnomapError("E104", f"the input holds images of {count} patients")


def _without_repeats(entries: list[_Entry]) -> tuple[list[_Entry], list[Skipped]]:
    """Keep the first file of each SOP Instance UID; a different second one is an alarm (E115)."""
    kept: dict[str, _Entry] = {}
    skipped: list[Skipped] = []
    for entry in entries:
        first = kept.setdefault(entry.uid, entry)
        if first is entry:
            continue
        if _same_content(first.path, entry.path):
            note = "the same image came in several files; one was used"
            if note not in first.warnings:
                kept[entry.uid] = _Entry(first.name, first.path, first.header, (*first.warnings, note))
        else:
            text = "another file has the same SOP Instance UID and other content"
            skipped.append(Skipped(name=entry.name, code="E115", reason=text))
    return list(kept.values()), skipped


def _same_content(first: Path, second: Path) -> bool:
    if _digest(first) == _digest(second):
        return True
    with quiet():
        try:
            return bool(dcmread(first) == dcmread(second))
        except Exception:
            return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _grouped(entries: Iterable[_Entry]) -> list[list[_Entry]]:
    """By series, in an order that doesn't depend on file names."""
    groups: dict[tuple[str, ...], list[_Entry]] = {}
    for entry in entries:
        header = entry.header
        key = (str(header.Modality), str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        group.sort(key=lambda entry: (number(entry.header, "InstanceNumber", 0.0) or 0.0, entry.uid))
    return [
        groups[key]
        for key in sorted(groups, key=lambda k: (k[:2], number(groups[k][0].header, "SeriesNumber", 0.0) or 0.0, k[2]))
    ]


def _radiographs(members: Sequence[_Entry]) -> tuple[list[ImageSeries], list[Skipped]]:
    found: list[ImageSeries] = []
    skipped: list[Skipped] = []
    for entry in members:
        try:
            found.append(_radiograph(entry))
        except AnomapError as error:
            skipped.append(_skip(entry.name, error))
    return found, skipped


def _radiograph(entry: _Entry) -> ImageSeries:
    header = entry.header
    pixels, valid, notes = to_p_values(stored_values(entry.path), header)
    affine, doubt = _radiograph_affine(header)
    return ImageSeries(
        pixels=pixels[None],
        unit="1",
        affine=affine,
        modality=str(header.Modality),
        frame_ids=(entry.uid,),
        valid=valid[None],
        headers=(header,),
        warnings=(*entry.warnings, *notes, *doubt),
    )


def _radiograph_affine(header: Dataset) -> tuple[Float64, tuple[str, ...]]:
    """Columns along the first axis, rows along the second; 1 mm a pixel where no spacing is stated."""
    stated = [values for keyword in _SPACINGS if len(values := numbers(header, keyword)) == 2]
    row, column = stated[0] if stated else (1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 1], affine[2, 0], affine[3, 3] = column, row, 1.0, 1.0
    return affine, () if stated else ("the image states no pixel spacing; lengths are in pixels",)


def _volume(members: Sequence[_Entry], config: ReadConfig) -> tuple[list[ImageSeries], list[Skipped]]:
    """One CT series; it is whole or, with reasons for each file, not there."""
    skipped: list[Skipped] = []
    placed: list[tuple[_Entry, Plane]] = []
    for entry in members:
        try:
            placed.append((entry, plane_of(entry.header)))
        except AnomapError as error:
            skipped.append(_skip(entry.name, error))
    if not placed:
        return [], skipped
    try:
        kept = largest_group([plane for _, plane in placed])
        odd = AnomapError("E112", "the slice differs from its series in size, spacing or direction")
        skipped += [_skip(entry.name, odd) for i, (entry, _) in enumerate(placed) if i not in set(kept)]
        placed = [placed[index] for index in kept]
        stack = stack_slices([plane for _, plane in placed], allow_gaps=config.allow_gaps)  # before decoding anything
        placed = [placed[index] for index in (*stack.order, *stack.repeated)]
        series, left = _decoded(placed, config)
    except AnomapError as error:
        return [], skipped + [_skip(entry.name, error) for entry, _ in placed]
    return series, skipped + left


def _decoded(placed: Sequence[tuple[_Entry, Plane]], config: ReadConfig) -> tuple[list[ImageSeries], list[Skipped]]:
    """Decode the slices; those that can't be are left out if the stack is regular without them."""
    rows, columns = placed[0][1].size
    if len(placed) * rows * columns > MAX_VOXELS:
        raise AnomapError("E117", f"a volume of {len(placed)} x {rows} x {columns} voxels is too large")
    pixels = np.empty((len(placed), rows, columns), np.float32)
    valid = np.empty(pixels.shape, bool)
    skipped: list[Skipped] = []
    good: list[int] = []
    for index, (entry, _) in enumerate(placed):
        try:
            pixels[index], valid[index] = to_hounsfield(stored_values(entry.path), entry.header)
            good.append(index)
        except AnomapError as error:
            skipped.append(_skip(entry.name, error))
    if not good:
        return [], skipped
    try:
        stack = stack_slices([placed[index][1] for index in good], allow_gaps=config.allow_gaps)
    except AnomapError as error:
        reason = AnomapError(error.code, f"{error.message} ({len(skipped)} damaged slices were left out)")
        return [], skipped + [_skip(placed[index][0].name, reason) for index in good]
    repeated = AnomapError("E103", "another slice lies at the same place")
    skipped += [_skip(placed[good[index]][0].name, repeated) for index in stack.repeated]
    order = [good[index] for index in stack.order]
    if order != list(range(len(placed))):
        pixels, valid = pixels[order], valid[order]
    return [_series([placed[index][0] for index in order], pixels, valid, stack)], skipped


def _series(entries: Sequence[_Entry], pixels: np.ndarray, valid: np.ndarray, stack: Stack) -> ImageSeries:
    frame_of_reference = str(entries[0].header.get("FrameOfReferenceUID", "") or "")
    notes = [note for entry in entries for note in entry.warnings]
    if not frame_of_reference:
        notes.append("the series has no Frame of Reference UID: no segmentation and no residual map can refer to it")
    return ImageSeries(
        pixels=pixels,
        unit="HU",
        affine=stack.affine,
        modality="CT",
        frame_ids=tuple(entry.uid for entry in entries),
        valid=valid,
        headers=tuple(entry.header for entry in entries),
        frame_of_reference=frame_of_reference,
        warnings=tuple(dict.fromkeys((*notes, *stack.warnings))),
    )


def _skip(name: str, error: AnomapError) -> Skipped:
    return Skipped(name=name, code=error.code, reason=error.message)


def _refusal(skipped: Sequence[Skipped]) -> AnomapError:
    """Why nothing is left, from the reasons of all files."""
    best = min(skipped, key=lambda item: _TELLING.index(item.code) if item.code in _TELLING else -1)
    others = len([item for item in skipped if (item.code, item.reason) != (best.code, best.reason)])
    more = f" (and {others} other files could not be used)" if others else ""
    return AnomapError(best.code, best.reason + more)
