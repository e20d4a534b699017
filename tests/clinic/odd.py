"""Generators, second part: rows 13 to 17, 19, 21 and 30. Imported for what it registers in `tests.clinic.faults`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from tests.clinic.faults import CASES, CONTEXT, IGNORED, UNREADABLE, Make, case, ct, edit, put, radiograph, raw, shipped

__all__ = ["CASES"]


def _changed(slices: int = 4, **values: Any) -> Make:
    return lambda folder, seed: edit(ct(folder, seed, slices), put(**values)) and None


case(13, "examples_palette.dcm", "refused: colour", 3, "E106 E111", IGNORED)(shipped("examples_palette.dcm"))


@case(13, "MONOCHROME1, 16 bit, padding", "analysed", 0, "", "done")
def _(folder: Path, seed: int) -> None:
    edit(radiograph(folder, seed, photometric="MONOCHROME1", bits=16), raw(0x00280120, "US", b"\xff\xff"))


for _name in ("examples_rgb_color.dcm", "SC_rgb_rle.dcm", "SC_rgb_jpeg_dcmtk.dcm"):
    _node = "context refused" if "jpeg" in _name else IGNORED
    case(14, _name, "refused: colour (no verdict, instead of NOT_APPLICABLE)", 3, "E106 E111", _node)(shipped(_name))


@case(14, "a secondary capture with modality CT", "refused: not analysed", 3, "E111", IGNORED)
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    edit(ct(folder, seed), change)


@case(14, "a CT in colour", "refused, E106", 3, "E106", "E106")
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = bytes(64 * 64 * 3)

    edit(ct(folder, seed), change)


@case(14, "ultrasound", "refused: not analysed", 3, "E111", IGNORED)
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
        dataset.Modality = "US"

    edit(ct(folder, seed, 1), change)


for _kind in ("LOCALIZER", "DOSE_INFO", "SCREEN SAVE"):
    case(15, f"Image Type {_kind}", "refused, E110", 3, "E110", "E110")(
        _changed(1, ImageType=["ORIGINAL", "PRIMARY", _kind])
    )
for _plane, _directions in (("coronal", (1, 0, 0, 0, 0, -1)), ("oblique", (0.8, 0, 0.6, 0, 1, 0))):
    case(15, f"a {_plane} series", "NOT_APPLICABLE", 3, "E113", "E113")(
        lambda folder, seed, directions=_directions: ct(folder, seed, orientation=directions) and None
    )


@case(15, "a radiograph of a hand", "NOT_APPLICABLE", 3, "E113", "E113")
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.BodyPartExamined = "HAND"
        region = dataset.AnatomicRegionSequence[0]
        region.CodeValue, region.CodeMeaning = "85562004", "Hand"

    edit(radiograph(folder, seed), change)


@case(16, "enhanced CT", "clean refusal, E111", 3, "E111", IGNORED)
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        dataset.NumberOfFrames = 3
        dataset.PixelData = dataset.PixelData * 3

    edit(ct(folder, seed, 1), change)


@case(16, "three frames in a CT image", "clean refusal, E111", 3, "E111", "E111")
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.NumberOfFrames = 3
        dataset.PixelData = dataset.PixelData * 3

    edit(ct(folder, seed, 1), change)


def _moved(shifts: dict[int, tuple[float, float, float]]) -> Make:
    """Slices shifted by mm."""

    def make(folder: Path, seed: int) -> None:
        for number, path in enumerate(ct(folder, seed, 8)):
            dataset = pydicom.dcmread(path)
            there = np.array(dataset.ImagePositionPatient, float) + shifts.get(number, (0, 0, 0))
            dataset.ImagePositionPatient = [f"{value:.6g}" for value in there]
            dataset.save_as(path)

    return make


@case(17, "a missing slice", "refused, E103 (--allow-gaps: analysed with a warning)", 3, "E103", "E103")
def _(folder: Path, seed: int) -> None:
    ct(folder, seed, 8)[3].unlink()


case(17, "two slices at one place", "refused, E103", 3, "E103", "E103")(_moved({3: (0, 0, 5)}))
case(17, "uneven spacing", "refused, E103", 3, "E103", "E103")(_moved({n: (0, 0, n * n / 4) for n in range(8)}))
case(17, "a tilted gantry of 20 degrees", "analysed, the tilt is stated", 0, "", "done")(
    _moved({n: (0, n * 5 * 0.364, 0) for n in range(8)})
)


@case(19, "two patients in one study", "refused, no result", 3, "E104", "done, each on its own")
def _(folder: Path, seed: int) -> None:
    ct(folder / "a", seed)
    edit(ct(folder / "b", seed + 1000), put(PatientID="ZZPHI-2"))


@case(19, "two patients in one series", "refused, no result", 3, "E104", "E104")
def _(folder: Path, seed: int) -> None:
    edit(ct(folder, seed)[2:], put(PatientID="ZZPHI-2", PatientName="ZZPHI^OTHER"))


for _name, _node in (
    ("priv_SQ.dcm", UNREADABLE),  # without UIDs
    ("nested_priv_SQ.dcm", CONTEXT),  # a SOP class that nobody knows
    ("UN_sequence.dcm", UNREADABLE),
    ("badVR.dcm", IGNORED),
):
    case(21, _name, "read as far as needed to refuse it", 3, "E111 E105 E102", _node)(shipped(_name))


@case(21, "private tags, a sequence as UN, bad IS and VR", "ignored, not copied to results", 0, "", "done")
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        block = dataset.private_block(0x0099, "ZZPHI MAKER", create=True)
        block.add_new(0x01, "LO", "ZZPHI^PRIVATE")
        block.add_new(0x02, "UN", b"\xfe\xff\x00\xe0\xff\xff\xff\xffZZPHI ")
        raw(0x00201002, "IS", "ZZPHI")(dataset)  # Images in Acquisition
        raw(0x00101010, "AS", "ZZPHI, NO AGE AT ALL")(dataset)
        raw(0x00400275, "UN", b"ZZPHI no sequence ")(dataset)  # Request Attributes Sequence

    edit(ct(folder, seed), change)


@case(30, "constant pixels", "error, no verdict", 3, "E108", "E108")
def _(folder: Path, seed: int) -> None:
    edit(ct(folder, seed), lambda dataset: setattr(dataset, "PixelData", bytes(len(dataset.PixelData))))


@case(30, "a constant radiograph", "error, no verdict", 3, "E108", "E108")
def _(folder: Path, seed: int) -> None:
    edit(radiograph(folder, seed), lambda dataset: setattr(dataset, "PixelData", bytes(len(dataset.PixelData))))


@case(30, "RescaleIntercept infinite", "error, no verdict", 3, "E109 E108", "E109")
def _(folder: Path, seed: int) -> None:
    edit(ct(folder, seed), raw(0x00281052, "DS", "1e999"))


@case(30, "nothing but padding", "error, no verdict", 3, "E108 E114", "E108")
def _(folder: Path, seed: int) -> None:
    def change(dataset: Dataset) -> None:
        raw(0x00280120, "US", bytes(2))(dataset)
        dataset.PixelData = bytes(len(dataset.PixelData))

    edit(ct(folder, seed), change)
