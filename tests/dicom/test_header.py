"""Headers that lie, break or belong to something else."""

from __future__ import annotations

import logging
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
    MRImageStorage,
    RTPlanStorage,
    SecondaryCaptureImageStorage,
)

from anomap.dicom import header as module
from anomap.dicom.header import check_eligible, number, numbers, read_header
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError

PIXELS = b"\xe0\x7f\x10\x00OW"  # where Pixel Data starts in explicit VR little endian


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ct_phantom(tmp_path, slices=1, rows=32, columns=32, patient_name="ZZPHI^CANARY")[0]


@pytest.fixture
def head(image: Path) -> Dataset:
    return read_header(image)[0]


def code_of(head: Dataset) -> str:
    with pytest.raises(AnomapError) as caught:
        check_eligible(head)
    assert "ZZPHI" not in str(caught.value)
    return caught.value.code


def element(group: int, number_: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    start = group.to_bytes(2, "little") + number_.to_bytes(2, "little") + vr
    return start + len(value).to_bytes(2, "little") + value


def test_a_header_comes_without_pixels_and_with_its_file_meta(image):
    head, dropped = read_header(image)
    check_eligible(head)
    assert dropped == 0
    assert "PixelData" not in head
    assert head.file_meta.MediaStorageSOPInstanceUID == head.SOPInstanceUID
    assert str(head.PatientName) == "ZZPHI^CANARY"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "E101"), (b"Dear ZZPHI^CANARY, no image.\n" * 40, "E101"), (bytes(5000), "E101"),
     (bytes(range(256)) * 9, "E101"),
     (bytes(128) + b"DICM", "E102"), (bytes(128) + b"DICM" + bytes(range(1, 200)), "E102")],
)  # fmt: skip
def test_other_files_are_not_taken_for_dicom(tmp_path, content, code):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(AnomapError, match=code) as caught:
        read_header(tmp_path / "f")
    assert "ZZPHI" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [("no_meta.dcm", "E101"), ("ExplVR_LitEndNoMeta.dcm", "E101"), ("ExplVR_BigEndNoMeta.dcm", "E101"),
     ("meta_missing_tsyntax.dcm", "E102"), ("image_dfl.dcm", "E107")],
)  # fmt: skip
def test_files_without_the_needed_meta_information_are_refused(name, code):
    with pytest.raises(AnomapError, match=code):
        read_header(Path(str(get_testdata_file(name, download=False))))


def test_a_deflate_bomb_is_not_unpacked(image, monkeypatch):
    dataset = pydicom.dcmread(image)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(2**24)
    dataset.save_as(image)
    assert image.stat().st_size < 2**16
    monkeypatch.setattr(zlib, "decompress", lambda *a, **k: pytest.fail("it was unpacked"))
    monkeypatch.setattr(zlib, "decompressobj", lambda *a, **k: pytest.fail("it was unpacked"))
    with pytest.raises(AnomapError, match="E107"):
        read_header(image)


def test_a_huge_file_is_not_read(image):
    with image.open("r+b") as file:
        file.truncate(module.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(AnomapError, match="E117"):
        read_header(image)


@pytest.mark.parametrize("depth", [40, 300, 3000])
def test_deeply_nested_sequences_are_refused(image, depth):
    start = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = image.read_bytes()
    at = data.index(PIXELS)
    image.write_bytes(data[:at] + start * depth + end * depth + data[at:])
    with pytest.raises(AnomapError, match="E102"):
        read_header(image)


def test_unreadable_elements_are_dropped_and_counted_silently(image, caplog, capfd):
    data = image.read_bytes()
    at = data.index(PIXELS)
    odd = element(0x0029, 0x0010, b"LO", b"ZZPHI CREATOR") + element(0x0029, 0x1010, b"DS", b"ZZPHI^CANARY")
    odd += element(0x0029, 0x1011, b"IS", b"ZZPHI^CANARY") + element(0x0029, 0x1012, b"FD", b"ZZP")
    image.write_bytes(data[:at] + odd + data[at:])
    with warnings.catch_warnings(record=True) as said, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        head, dropped = read_header(image)
        for item in head.iterall():
            str(item.value)
    check_eligible(head)
    assert dropped == 1  # FD of three bytes; the others stay as text
    printed = capfd.readouterr()
    assert "ZZPHI" not in caplog.text + printed.out + printed.err + "".join(str(w.message) for w in said)


def test_invalid_values_are_not_repeated_in_warnings(image, caplog):
    dataset = pydicom.dcmread(image)
    with pydicom.config.disable_value_validation():
        for keyword in ("PatientBirthDate", "StudyTime", "PatientAge", "PatientSex", "AccessionNumber"):
            dataset[keyword] = pydicom.DataElement(
                keyword,
                dataset.get_item(keyword).VR if keyword in dataset else "AS",
                "ZZPHI^CANARY" * 3,
                validation_mode=0,
            )
        dataset.save_as(image)
    with warnings.catch_warnings(record=True) as said, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        head, _ = read_header(image)
        for item in head.iterall():
            str(item.value)
    assert "ZZPHI" not in caplog.text + "".join(str(w.message) for w in said)
    logging.getLogger("pydicom").warning("heard again")
    assert "heard again" in caplog.text


@pytest.mark.parametrize("path", get_charset_files("*.dcm"), ids=lambda path: Path(path).stem)
def test_every_character_set_is_read(path):
    head, _ = read_header(Path(path))
    names = [item for item in head.iterall() if item.VR == "PN" and item.value]
    assert names
    for name in names:
        assert str(name.value)
        assert "\N{REPLACEMENT CHARACTER}" not in str(name.value)


@pytest.mark.parametrize("charset", ["ISO_IR 999", "", "ISO_IR 192", "GB18030", "ISO 2022 IR 87"])
def test_names_that_do_not_fit_their_character_set_do_no_harm(image, charset):
    data = image.read_bytes()
    value = f"{charset:16}".encode()
    data = data.replace(b"CS\x0a\0ISO_IR 192", b"CS\x10\0" + value)
    image.write_bytes(data.replace(b"ZZPHI^CANARY", b"M\xfcll\xe9r^\xff\xfeXX\xf0"))
    head, _ = read_header(image)
    check_eligible(head)
    assert str(head.PatientName).startswith("M")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Manufacturer": "anomap"}, "E116"),
        ({"Manufacturer": " Anomap "}, "E116"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "E106"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "E106"),
        ({"PhotometricInterpretation": "ZZPHI"}, "E106"),
        ({"PhotometricInterpretation": ""}, "E102"),
        ({"SOPClassUID": MRImageStorage, "Modality": "MR"}, "E111"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "E111"),
        ({"SOPClassUID": "1.2.3.4.5", "Modality": "ZZPHI"}, "E111"),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing, "Modality": "DX"}, "E111"),
        ({"SOPClassUID": RTPlanStorage, "Modality": "RTPLAN", "Rows": None}, "E105"),
        ({"Modality": "PT"}, "E111"),
        ({"NumberOfFrames": 2}, "E111"),
        ({"NumberOfFrames": 2000000000}, "E111"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "E110"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "E110"),
        ({"Rows": 0}, "E102"),
        ({"Rows": 65535, "Columns": 65535}, "E117"),
        ({"Rows": 65535, "Columns": 1}, "E117"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "E102"),
        ({"BitsStored": 17}, "E102"),
        ({"PixelRepresentation": None}, "E102"),
        ({"Rows": [32, 32]}, "E102"),
        ({"SOPInstanceUID": ""}, "E102"),
        ({"SeriesInstanceUID": "1." + "2" * 64}, "E102"),
        ({"StudyInstanceUID": None}, "E102"),
    ],
)
def test_what_is_not_analysed_is_refused_with_its_code(head, changes, code):
    for keyword, value in changes.items():
        if value is None:
            del head[keyword]
        else:
            setattr(head, keyword, value)
    assert code_of(head) == code


def test_a_uid_that_climbs_folders_is_refused(head):
    head["SOPInstanceUID"] = pydicom.DataElement("SOPInstanceUID", "UI", "../../x", validation_mode=0)
    assert code_of(head) == "E102"


def test_a_transfer_syntax_without_codec_is_named(head, monkeypatch):
    head.file_meta.TransferSyntaxUID = MPEG4HP41
    assert code_of(head) == "E107"
    head.file_meta.TransferSyntaxUID = "1.2.3.4"
    assert code_of(head) == "E107"
    head.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    check_eligible(head)
    monkeypatch.setattr(module, "get_decoder", lambda _: type("None", (), {"is_available": False}))
    assert code_of(head) == "E107"


@pytest.mark.parametrize("modality", ["CR", "DX", " dx"])
def test_films_kept_as_secondary_capture_are_radiographs(tmp_path, modality):
    head, _ = read_header(write_radiograph_phantom(tmp_path, rows=32, columns=32)[0])
    head.SOPClassUID, head.Modality = SecondaryCaptureImageStorage, modality
    check_eligible(head)
    assert head.Modality == modality.strip().upper()


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1], [1, 1000]])
def test_an_impossible_spacing_is_none(image, spacing):
    dataset = pydicom.dcmread(image)
    dataset.PixelSpacing = spacing
    dataset.save_as(image)
    assert "PixelSpacing" not in read_header(image)[0]


def test_an_element_of_another_kind_than_its_tag_is_dropped(image):
    """A Modality of integers or a LUT sequence of text would stumble whoever uses it."""
    data = image.read_bytes()
    image.write_bytes(data.replace(b"\x08\0\x60\0CS\x02\0CT", b"\x08\0\x60\0IS\x02\x0012"))
    head, dropped = read_header(image)
    assert dropped == 1
    assert code_of(head) == "E111"
    image.write_bytes(data.replace(b"\x28\0\x10\0US\x02\0", b"\x28\0\x10\0LO\x02\0"))
    head, dropped = read_header(image)
    assert dropped == 1
    assert code_of(head) == "E105"


def test_numbers_are_read_or_refused():
    dataset = Dataset()
    dataset.WindowCenter, dataset.PixelSpacing, dataset.Manufacturer = [40, 400], [1, 2], "ZZPHI"
    assert number(dataset, "WindowCenter") == 40
    assert numbers(dataset, "PixelSpacing") == (1, 2)
    assert number(dataset, "Manufacturer", 3.0) == 3
    assert numbers(dataset, "Manufacturer") == ()
    assert number(dataset, "RescaleSlope") is None
    assert numbers(dataset, "RescaleSlope") == ()
