"""Generators of bad and odd input: rows 1 to 17, 19, 21 and 30 of the fault matrix.

Each writes files into a folder and is registered with what must come of it, on the command line and at the node.
Every patient is called ZZPHI, so that a leak shows. pydicom's own test files are copied where they fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.clinic.wire import part10

Make = Callable[[Path, int], None]
IGNORED, CONTEXT, UNREADABLE, NOT_SENDABLE = "taken, not analysed", "context refused", "0xC000", "no data set to send"


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        row, name, expected: Of the matrix.
        make: Writes the input: folder, and a number that makes it unlike all others.
        status: Exit status of the command line.
        codes: One of these must be said; empty for a good result.
        node: What the node makes of it: a code (job refused with it), "done", or one of the words above.
    """

    row: int
    name: str
    expected: str
    make: Make
    status: int
    codes: frozenset[str]
    node: str


CASES: list[Case] = []


def case(row: int, name: str, expected: str, status: int, codes: str, node: str) -> Callable[[Make], Make]:
    """Register a generator."""

    def register(make: Make) -> Make:
        CASES.append(Case(row, name, expected, make, status, frozenset(codes.split()), node))
        return make

    return register


def ct(folder: Path, seed: int, slices: int = 4, **options: Any) -> list[Path]:
    """A small CT, each with UIDs of its own."""
    size = {"rows": 64, "columns": 64, **options}
    return write_ct_phantom(
        folder, slices=slices, seed=seed, patient_name=f"ZZPHI^CASE{seed}", patient_id="ZZPHI", **size
    )


def radiograph(folder: Path, seed: int, **options: Any) -> list[Path]:
    """A small radiograph."""
    return write_radiograph_phantom(
        folder, rows=96, columns=80, seed=seed, patient_name=f"ZZPHI^CASE{seed}", patient_id="ZZPHI", **options
    )


def edit(paths: list[Path], change: Callable[[pydicom.Dataset], None]) -> list[Path]:
    """Change files in place."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
    return paths


def put(**values: Any) -> Callable[[pydicom.Dataset], None]:
    """Set elements by keyword."""

    def change(dataset: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def raw(tag: int, vr: str, value: str | bytes) -> Callable[[pydicom.Dataset], None]:
    """Set the bytes of an element, whatever they are."""

    def change(dataset: pydicom.Dataset) -> None:
        data = value.encode() if isinstance(value, str) else value
        data += b" " * (len(data) % 2)
        dataset[tag] = RawDataElement(BaseTag(tag), vr, len(data), data, 0, False, True)

    return change


def shipped(*names: str) -> Make:
    """Copies of pydicom's test files; nothing is fetched."""

    def make(folder: Path, seed: int) -> None:
        folder.mkdir()
        for name in names:
            found = get_testdata_file(name, download=False)
            assert found, f"pydicom doesn't ship {name}"
            shutil.copy(str(found), folder / f"ZZPHI-{name}")

    return make


def _cut(size: int, *numbers: int) -> Make:
    def make(folder: Path, seed: int) -> None:
        paths = ct(folder, seed, 5)
        for number in numbers or range(5):
            paths[number].write_bytes(paths[number].read_bytes()[:-size])

    return make


case(1, "pixel data of every slice cut short", "refused, E102", 3, "E102", "E102")(_cut(4000))
case(1, "pixel data of the last slice cut short", "partial, the rest is analysed", 5, "E102", "done")(_cut(4000, 4))
case(1, "pixel data of a middle slice cut short", "refused: a gap", 3, "E103 E102", "E103")(_cut(4000, 2))
for _name, _codes in (("MR_truncated.dcm", "E111"), ("rtplan_truncated.dcm", "E105 E102")):
    case(1, _name, "refused: no image for us", 3, _codes, IGNORED)(shipped(_name))
for _name in ("no_meta.dcm", "ExplVR_LitEndNoMeta.dcm"):
    case(2, _name, "not DICOM, counted", 3, "E101", NOT_SENDABLE)(shipped(_name))


@case(2, "random bytes, an empty file and a text", "not DICOM, counted", 3, "E101", NOT_SENDABLE)
def _(folder: Path, seed: int) -> None:
    folder.mkdir()
    (folder / "ZZPHI-random").write_bytes(np.random.default_rng(seed).bytes(5000))
    (folder / "ZZPHI-empty.dcm").touch()
    (folder / "ZZPHI.txt").write_text("Dear ZZPHI^CANARY, this is no image.\n" * 20)


@case(2, "random bytes beside a good series", "ignored with count, the series is analysed", 0, "", "done")
def _(folder: Path, seed: int) -> None:
    ct(folder / "good", seed)
    (folder / "ZZPHI-random").write_bytes(np.random.default_rng(seed).bytes(5000))


case(3, "meta_missing_tsyntax.dcm", "refused, E102", 3, "E102", NOT_SENDABLE)(shipped("meta_missing_tsyntax.dcm"))


def _nested(depth: int) -> Make:
    def make(folder: Path, seed: int) -> None:
        (path,) = ct(folder, seed, 1)
        content = path.read_bytes()
        # Items of undefined length within each other, in a private element before the pixels.
        start = b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        tag = b"\x99\x70\x01\x10"
        block = b"\x99\x70\x10\x00LO\x04\x00TEST" + (tag + start) * depth + end * depth
        at = content.index(b"\xe0\x7f\x10\x00OW")
        path.write_bytes(content[:at] + block + content[at:])

    return make


case(4, "sequences nested 200 deep", "refused, E102", 3, "E102", UNREADABLE)(_nested(200))
case(4, "sequences nested 20000 deep", "refused, E102; no crash", 3, "E102", UNREADABLE)(_nested(20000))

case(5, "image_dfl.dcm (deflated)", "transfer syntax refused", 3, "E107", CONTEXT)(shipped("image_dfl.dcm"))


@case(5, "deflate bomb: 0.6 MB that unpack to 600 MB", "transfer syntax refused, memory flat", 3, "E107", CONTEXT)
def _(folder: Path, seed: int) -> None:
    import zlib

    (path,) = ct(folder, seed, 1)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    del dataset.PixelData
    dataset.save_as(path)
    content = path.read_bytes()
    start = len(content) - len(part10(path).data)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(zlib.decompress(content[start:], -15))
    packed += packer.compress(b"\xe0\x7f\x10\x00OW\0\0" + (600 * 2**20).to_bytes(4, "little"))
    packed += b"".join(packer.compress(bytes(2**20)) for _ in range(600)) + packer.flush()
    assert len(packed) < 2**20
    path.write_bytes(content[:start] + packed)


def _large(**values: Any) -> Make:
    return lambda folder, seed: edit(ct(folder, seed), put(**values)) and None


case(6, "Rows and Columns 65535", "refused before anything is allocated", 3, "E117", "E117")(
    _large(Rows=65535, Columns=65535)
)
case(6, "NumberOfFrames 2000000000", "refused before anything is allocated", 3, "E111", "E111")(
    _large(NumberOfFrames=2_000_000_000)
)
case(6, "Rows and Columns 16000 with 8 KB of pixels", "refused before anything is allocated", 3, "E117 E102", "E117")(
    _large(Rows=16000, Columns=16000)
)


@case(7, "JPEG 2000 stream of 512 x 512 in a header of 64 x 64", "refused by the stream's own size", 3, "E117", "E117")
def _(folder: Path, seed: int) -> None:
    for path in ct(folder, seed, 1, rows=512, columns=512, spacing_mm=(5.0, 0.7, 0.7)):
        dataset = pydicom.dcmread(path)
        dataset.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 64
        dataset.save_as(path)


case(7, "J2K_pixelrep_mismatch.dcm", "decoded, or refused with a code", 0, "", "done")(
    shipped("J2K_pixelrep_mismatch.dcm")
)


def _syntax(uid: str) -> Make:
    def make(folder: Path, seed: int) -> None:
        for path in radiograph(folder, seed):
            dataset = pydicom.dcmread(path)
            dataset.PixelData = pydicom.encaps.encapsulate(
                [b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x60\0\x50\1\1\x11\0\xff\xd9"]
            )
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = uid
            dataset.save_as(path)

    return make


case(8, "12-bit JPEG (extended)", "unsupported transfer syntax", 3, "E107", CONTEXT)(_syntax("1.2.840.10008.1.2.4.51"))
case(8, "video (MPEG-4) as a radiograph", "unsupported transfer syntax", 3, "E107", CONTEXT)(
    _syntax("1.2.840.10008.1.2.4.102")
)
case(8, "a transfer syntax nobody knows", "unsupported transfer syntax", 3, "E107", CONTEXT)(_syntax("1.2.3.4.5"))
case(8, "JPGExtended.dcm", "refused: no image for us", 3, "E111 E107", CONTEXT)(shipped("JPGExtended.dcm"))
for _name in ("MR_small_bigendian.dcm", "MR_small_implicit.dcm"):
    case(9, _name, "read as far as needed to refuse it", 3, "E111", IGNORED)(shipped(_name))
for _name in ("rtplan.dcm", "test-SR.dcm", "reportsi.dcm", "waveform_ecg.dcm", "rtdose.dcm", "rtstruct.dcm"):
    _node = NOT_SENDABLE if _name == "rtstruct.dcm" else IGNORED  # it has no preamble
    case(10, _name, "left out with a reason", 3, "E105 E111 E101", _node)(shipped(_name))


@case(10, "a PDF", "left out with a reason", 3, "E105 E111", IGNORED)
def _(folder: Path, seed: int) -> None:
    (path,) = ct(folder, seed, 1)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    dataset.EncapsulatedDocument = b"%PDF-1.4 ZZPHI " * 20
    del dataset.PixelData, dataset.Rows, dataset.Columns
    dataset.save_as(path)


def _slope(value: str | None) -> Make:
    def make(folder: Path, seed: int) -> None:
        def change(dataset: pydicom.Dataset) -> None:
            if value is None:
                del dataset.RescaleSlope
            else:
                raw(0x00281053, "DS", value)(dataset)

        edit(ct(folder, seed), change)

    return make


for _value in ("0", "NaN", "abc", None):
    case(11, f"RescaleSlope {_value or 'absent'}", "CT refused: HU unknown", 3, "E109 E108", "E109")(_slope(_value))


def _spacing(value: str | None) -> Make:
    def make(folder: Path, seed: int) -> None:
        def change(dataset: pydicom.Dataset) -> None:
            if value is None:
                del dataset.PixelSpacing
            else:
                raw(0x00280030, "DS", value)(dataset)

        edit(ct(folder, seed), change)

    return make


for _value in (r"0\0", r"-1\-1", None):
    case(12, f"PixelSpacing {_value or 'absent'}", "CT refused", 3, "E112", "E112")(_spacing(_value))


@case(12, "a radiograph without spacing", "documented fallback: lengths in pixels, with a warning", 0, "", "done")
def _(folder: Path, seed: int) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        del dataset.PixelSpacing, dataset.ImagerPixelSpacing, dataset.PixelSpacingCalibrationType
        del dataset.PixelSpacingCalibrationDescription

    edit(radiograph(folder, seed), change)
