"""CT from NIfTI files: the slices and places of the DICOM files, and a refusal of what is in no Hounsfield units."""

from __future__ import annotations

import gzip
import json
import math
import struct
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anomap.cli import main
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import ReadConfig, read_study
from anomap.errors import AnomapError
from anomap.nifti import HEAD_BYTES, header_of, read_nifti, read_nifti_header
from anomap.source import read_source
from tests.made_nifti import nifti_of

WAYS = [(order, flips) for order in permutations(range(3)) for flips in product((1, -1), repeat=3)]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_ct_phantom(folder, slices=5, rows=40, columns=44, spacing_mm=(5, 4, 4), needle_lps_mm=(20, -30, 210))
    (found,) = read_study(folder).series
    return found


@pytest.mark.parametrize(("order", "flips"), WAYS)
def test_a_volume_stored_any_way_is_the_series_of_its_dicom_files(series, tmp_path, order, flips) -> None:
    image = nifti_of(series)
    stored = image.as_reoriented(np.stack([order, flips], axis=1))  # nibabel's own turn is the oracle
    path = tmp_path / "case_0000.nii.gz"
    nibabel.save(stored, path)
    found = read_nifti(path)
    np.testing.assert_array_equal(found.pixels, np.where(series.valid, series.pixels, -1000))
    np.testing.assert_allclose(found.affine, series.affine, atol=1e-4)
    assert (found.modality, found.unit, found.headers) == ("CT", "HU", ())


def test_right_front_and_head_of_the_file_are_right_front_and_head_of_the_patient(series, tmp_path) -> None:
    image = nifti_of(series)
    nibabel.save(image, tmp_path / "a.nii")
    brightest = np.unravel_index(image.get_fdata().argmax(), image.shape)
    right, front, head = nibabel.affines.apply_affine(image.affine, brightest)
    found = read_nifti(tmp_path / "a.nii")
    index = np.unravel_index(found.pixels.argmax(), found.pixels.shape)
    np.testing.assert_allclose(found.affine @ [*index, 1], [-right, -front, head, 1], atol=1e-3)


def test_slope_and_intercept_count(series, tmp_path) -> None:
    stored = np.rint((series.pixels - 100) / 2).astype(np.int16).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(stored, nifti_of(series).affine), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = struct.pack("<2f", 2.0, 100.0)  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(data)
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").pixels, series.pixels, atol=1.0 + 1e-3)


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda hu: np.clip((hu + 200) / 2, 0, 255), "E109", "between 0 and 255"),
        (lambda hu: hu + 1024, "E109", "no voxel is below -500"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "E109", "no voxel is below -500"),
        (lambda hu: np.clip(hu, -125, 275), "E109", "no voxel is below -500"),
        (lambda hu: (hu > 0).astype(np.int16), "E109", "between 0 and 255"),
        (lambda hu: hu * np.float32("nan"), "E108", "no voxel"),
        (lambda hu: np.stack([hu, hu], axis=-1), "E112", "one volume"),
    ],
    ids=["8 bit", "shifted", "normalised", "windowed", "labels", "not a number", "two volumes"],
)
def test_what_cannot_be_hounsfield_units_is_refused(series, tmp_path, change, code, word) -> None:
    image = nifti_of(series)
    values = change(image.get_fdata(dtype=np.float32))
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), image.affine), tmp_path / "a.nii")
    with pytest.raises(AnomapError, match=f"{code} .*{word}"):
        read_nifti(tmp_path / "a.nii")


def test_lengths_and_axes_must_be_stated_and_sound(series, tmp_path) -> None:
    def saved(affine, unit="mm", code=1) -> Path:
        image = nibabel.Nifti1Image(nifti_of(series).get_fdata(dtype=np.float32), affine)
        image.header.set_xyzt_units(unit)
        image.set_sform(affine, code)
        image.set_qform(None, 0)
        nibabel.save(image, tmp_path / "a.nii")
        return tmp_path / "a.nii"

    affine = nifti_of(series).affine
    assert len(read_nifti(saved(affine)).pixels) == len(series.pixels)
    sheared = affine.copy()
    sheared[0, 2] += 3
    for words in ((affine, "meter"), (affine, "mm", 0), (sheared,)):
        with pytest.raises(AnomapError, match="E112"):
            read_nifti(saved(*words))
    flat = bytearray(saved(affine).read_bytes())
    flat[312:328] = bytes(16)  # srow_z: all slices at the same height
    (tmp_path / "flat.nii").write_bytes(flat)
    with pytest.raises(AnomapError, match="E112"):
        read_nifti(tmp_path / "flat.nii")


def test_a_damaged_file_is_told_in_one_line_without_its_path(series, tmp_path, capfd) -> None:
    whole = tmp_path / "DOE^JOHN.nii.gz"
    nibabel.save(nifti_of(series), whole)
    data = whole.read_bytes()
    plain = bytearray(gzip.decompress(data))
    plain[70:72] = b"\x0f\x27"  # no known kind of voxel
    for number, content in enumerate((b"", data[:10], data[: len(data) // 2], b"hello" * 300, gzip.compress(plain))):
        path = tmp_path / f"DOE^JOHN{number}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(AnomapError, match="E102") as caught:
            read_nifti(path)
        assert "DOE" not in str(caught.value)
    with pytest.raises(AnomapError, match="E100"):
        read_nifti(tmp_path / "DOE.nii")
    assert "DOE" not in "".join(capfd.readouterr())


def test_what_a_file_is_its_bytes_say(series, tmp_path) -> None:
    image = nifti_of(series)
    nibabel.save(image, tmp_path / "a.nii")
    nibabel.save(image, tmp_path / "b.nii.gz")
    nibabel.save(nibabel.Nifti2Image.from_image(image), tmp_path / "c.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    with (tmp_path / "d.nii").open("wb") as file:  # big-endian
        swapped = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine, image.header.as_byteswapped(">"))
        swapped.to_stream(file)
    (tmp_path / "e.nii").write_bytes((tmp_path / "b.nii.gz").read_bytes())
    (tmp_path / "f.nii.gz").write_bytes(plain)
    (tmp_path / "g.nii").write_bytes(plain[:4] + b"ni1\0" + plain[8:])  # an unused field that could be taken for a mark
    expected = read_nifti(tmp_path / "a.nii")
    for path in sorted(tmp_path.iterdir()):
        assert header_of(path.read_bytes()[:HEAD_BYTES])
        np.testing.assert_array_equal(read_nifti(path).pixels, expected.pixels, err_msg=path.name)


def test_a_header_that_says_what_cannot_be_is_refused(series, tmp_path) -> None:
    def saved(place: int, kind: str, *values: float | bytes) -> Path:
        nibabel.save(nifti_of(series), tmp_path / "a.nii")
        data = bytearray((tmp_path / "a.nii").read_bytes())
        struct.pack_into(kind, data, place, *values)
        (tmp_path / "a.nii").write_bytes(data)
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
        return tmp_path / "a.nii"

    for changes, code in (
        ((42, "<3h", 4000, 400, 400), "E102"),  # 2.4 GB
        ((42, "<3h", 32767, 32767, 9), "E117"),
        ((42, "<3h", 44, 0, 5), "E112"),
        ((344, "4s", b"ni1\0"), "E111"),
        ((344, "4s", b"n+3\0"), "E102"),
        ((108, "<f", math.nan), "E102"),  # where the voxels begin
        ((108, "<f", math.inf), "E102"),
        ((108, "<f", 1e9), "E102"),
        ((123, "B", 7), "E102"),  # a unit of length that is none
        ((252, "<2hf", 1, 0, 2.0), "E102"),  # a quaternion that is no rotation
        ((252, "<2h", 0, -1), "E112"),
    ):
        path = saved(*changes)
        for each in (path, path.with_suffix(".nii.gz")):
            with pytest.raises(AnomapError, match=code):
                read_nifti_header(each)


@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers that are no numbers
def test_a_header_of_any_bytes_is_read_or_refused(series, tmp_path, version) -> None:
    path = tmp_path / "a.nii"
    nibabel.save(version.from_image(nifti_of(series)), path)
    whole, rng, seen = path.read_bytes(), np.random.default_rng(0), set()
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(4, 540 if version is nibabel.Nifti2Image else 344, rng.integers(1, 12)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            read_nifti(path)
            seen.add("read")
        except AnomapError as error:
            seen.add(error.code)
    assert {"read", "E102", "E112"} <= seen <= {"read", "E102", "E108", "E109", "E112", "E117"}


def test_a_gzip_file_whose_check_sum_is_wrong_or_cut_off_is_damaged(series, tmp_path) -> None:
    nibabel.save(nifti_of(series), tmp_path / "a.nii.gz")
    data = (tmp_path / "a.nii.gz").read_bytes()
    for content in (data[:-8] + bytes(4) + data[-4:], data[:-6]):
        (tmp_path / "a.nii.gz").write_bytes(content)
        assert read_nifti_header(tmp_path / "a.nii.gz").axial_shape == series.pixels.shape
        with pytest.raises(AnomapError, match="E102"):
            read_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(("order", "flips"), WAYS[::7])
def test_the_header_tells_the_size_of_the_axial_slices(series, tmp_path, order, flips) -> None:
    stored = nifti_of(series).as_reoriented(np.stack([order, flips], axis=1))
    nibabel.save(stored, tmp_path / "a.nii.gz")
    header = read_nifti_header(tmp_path / "a.nii.gz")
    assert header.axial_shape == series.pixels.shape
    assert header.row_mm == pytest.approx(series.spacing_mm[1])


def test_a_folder_of_nothing_but_nifti_is_one_study_and_what_is_lost_is_told(series, tmp_path) -> None:
    nibabel.save(nifti_of(series), tmp_path / "a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text("{}")
    assert len(read_source(tmp_path, ReadConfig()).series) == 1
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "b.nii")
    study = read_source(tmp_path, ReadConfig())
    assert [(item.name, item.code) for item in study.skipped] == [("b.nii", "E109")]
    (tmp_path / "a_0000.nii.gz").unlink()
    with pytest.raises(AnomapError, match="E109"):
        read_source(tmp_path, ReadConfig())
    write_ct_phantom(tmp_path, slices=5, rows=40, columns=44)  # DICOM beside it: a folder of DICOM
    assert [item.code for item in read_source(tmp_path, ReadConfig()).skipped] == ["E101"] * 2


def test_analyze_writes_scores_and_a_preview_and_no_dicom(series, toy_models, tmp_path, capsys) -> None:
    nibabel.save(nifti_of(series), tmp_path / "case_0000.nii.gz")
    words = [str(tmp_path / "case_0000.nii.gz"), str(tmp_path / "out"), "--models", str(toy_models), "--steps", "1"]
    assert main(["analyze", *words]) == 0
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert sorted(path.name for path in folder.iterdir()) == ["preview.png", "result.json"]
    result = json.loads((folder / "result.json").read_text())
    assert len(result["images"]) == len(series.pixels)
    assert any("taken for Hounsfield units" in text for text in result["warnings"])
    assert main(["analyze", *words, "--dry-run"]) == 0
    assert "CT, 5 image(s)" in capsys.readouterr().out
