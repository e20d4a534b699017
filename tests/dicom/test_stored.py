"""Pixel data of every encoding, and of damaged ones."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmwrite
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from anomap.dicom import stored
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.stored import codestream_size, stored_values
from anomap.errors import AnomapError
from tests.headers import edit


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ct_phantom(tmp_path, slices=1, rows=48, columns=64)[0]


SYNTAXES = [JPEG2000Lossless, JPEGLSLossless, RLELossless, JPEGLossless, JPEGLosslessSV1]


def compress(path: Path, syntax: str) -> pydicom.Dataset:
    """Compress a file in place; JPEG by dcmtk, JPEG 2000 by Pillow, the others by pydicom."""
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        assert shutil.which("dcmcjpeg"), "dcmcjpeg is missing: apt-get install dcmtk"
        option = "+el" if syntax == JPEGLossless else "+e1"
        subprocess.run(["dcmcjpeg", option, "+un", str(path), str(path)], check=True)
        return pydicom.dcmread(path)
    dataset = pydicom.dcmread(path)
    if syntax == JPEG2000Lossless:
        stream = io.BytesIO()
        Image.fromarray(dataset.pixel_array).save(stream, "JPEG2000", no_jp2=True)
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_lossless_compression_changes_nothing(image, syntax):
    plain = stored_values(image)
    compress(image, syntax)
    np.testing.assert_array_equal(stored_values(image), plain)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_byte_orders_change_nothing(image, syntax):
    plain = stored_values(image)
    dataset = pydicom.dcmread(image)
    words = np.frombuffer(dataset.PixelData, "<u2")
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = words.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dcmwrite(
        image, dataset, force_encoding=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    np.testing.assert_array_equal(stored_values(image), plain)


def test_what_lies_above_the_stored_bits_is_no_pixel(image):
    """Old scanners kept overlays there."""
    plain = stored_values(image)
    dataset = pydicom.dcmread(image)
    assert dataset.BitsStored == 12
    words = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
    np.testing.assert_array_equal(stored_values(edit(image, PixelData=words.tobytes())), plain)


def test_signed_values_stay_signed(image):
    values = np.arange(-1536, 1536, dtype="<i2").reshape(48, 64)
    edit(image, PixelData=values.tobytes(), PixelRepresentation=1, BitsStored=16, HighBit=15)
    np.testing.assert_array_equal(stored_values(image), values)


@pytest.mark.parametrize("left", [0, 10, 48 * 64 * 2 - 2])
def test_short_pixel_data_are_refused(image, left):
    dataset = pydicom.dcmread(image)
    edit(image, PixelData=dataset.PixelData[:left])
    with pytest.raises(AnomapError, match="E105" if left == 0 else "E102"):
        stored_values(image)


def test_a_file_cut_in_its_pixels_is_refused(image):
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises(AnomapError, match="E102"):
        stored_values(image)


def test_a_little_padding_is_fine_and_much_more_is_not(image):
    plain = stored_values(image)
    data = pydicom.dcmread(image).PixelData
    np.testing.assert_array_equal(stored_values(edit(image, PixelData=data + bytes(100))), plain)
    with pytest.raises(AnomapError, match="E102"):
        stored_values(edit(image, PixelData=data * 3))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize(("rows", "code"), [(16, "E117"), (400, "E102")])
def test_a_stream_of_another_size_is_refused_before_decoding(image, syntax, rows, code, monkeypatch):
    compress(image, syntax)
    edit(image, Rows=rows)
    monkeypatch.setattr(stored, "pixel_array", lambda *a, **k: pytest.fail("it was decoded"))
    with pytest.raises(AnomapError, match=code):
        stored_values(image)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("damage", ["cut", "overwritten", "no frame"])
def test_a_damaged_stream_is_refused_or_decoded_to_its_size(image, syntax, damage):
    """Decoders may conceal errors; what they give must still have the header's size."""
    dataset = compress(image, syntax)
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    if damage == "cut":
        frame = frame[: len(frame) // 3]
    elif damage == "overwritten":
        frame[len(frame) // 2 :] = b"\xab" * (len(frame) - len(frame) // 2)
    dataset.PixelData = encapsulate([bytes(frame)]) if damage != "no frame" else b"\xfe\xff\x00\xe0" + bytes(4)
    dataset.save_as(image)
    try:
        found: object = stored_values(image).shape
    except AnomapError as error:
        found = error.code
    assert found == "E102" or (found == (48, 64) and damage != "no frame")


def test_twelve_bit_jpeg_is_named_as_unsupported():
    path = Path(str(get_testdata_file("JPGExtended.dcm", download=False)))
    with pytest.raises(AnomapError, match="E107"):
        stored_values(path)


def test_a_jpeg_2000_stream_states_its_size():
    dataset = pydicom.dcmread(get_testdata_file("693_J2KI.dcm", download=False))
    assert codestream_size(next(generate_frames(dataset.PixelData, number_of_frames=1))) == (512, 512)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xff\xff", b"\xff\xd8" + b"\xff\xe0\x00" * 9]
)
def test_a_stream_without_a_size_states_none(frame):
    assert codestream_size(frame) is None
