"""Reading studies: geometry against highdicom, and everything that can be wrong with a folder of files."""

from __future__ import annotations

import itertools
import logging
import shutil
import warnings
import zipfile
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from anomap.dicom import read
from anomap.dicom.phantom import NEEDLE_HU, ct_affine, nearest_voxel, write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import ReadConfig, Study, read_image, read_study
from anomap.errors import CODES, AnomapError, ExitStatus

CANARY = "ZZPHI^CANARY"
SMALL = {"slices": 5, "rows": 40, "columns": 48}
GAPS = ReadConfig(allow_gaps=True)
PYDICOM_FILES = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
PLANES = [
    [*np.eye(3)[a] * s, *np.eye(3)[b] * t]
    for a, b in itertools.permutations(range(3), 2)
    for s, t in [(1, 1), (1, -1), (-1, 1), (-1, -1)]
]


def ct(folder: Path, **options: object) -> list[Path]:
    return write_ct_phantom(folder, **{**SMALL, "patient_name": CANARY, **options})


def edit(path: Path, **values: object) -> Path:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def refused(source: Path) -> AnomapError:
    with pytest.raises(AnomapError) as caught:
        read_study(source)
    assert "ZZPHI" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None  # what pydicom says may quote a header
    return caught.value


def outcome(source: Path) -> Study | AnomapError:
    try:
        return read_study(source)
    except AnomapError as error:
        return error


def codes(study: Study) -> list[str]:
    return sorted(item.code for item in study.skipped)


# -- geometry


@pytest.mark.parametrize("orientation", PLANES, ids=lambda o: "".join(f"{v:+.0f}" for v in o).replace("+0", "0"))
@pytest.mark.parametrize("reverse", [False, True])
def test_a_needle_is_found_where_it_was_put_in_every_orientation(tmp_path, orientation, reverse):
    size = {**SMALL, "spacing_mm": (4.0, 2.0, 3.0), "orientation": orientation}
    point = np.array([8.0, -30.0, 207.0])
    made = ct_affine(size["slices"], size["rows"], size["columns"], size["spacing_mm"], orientation)
    write_ct_phantom(tmp_path, needle_lps_mm=point, reverse=reverse, **size)
    (series,) = read_study(tmp_path).series
    np.testing.assert_allclose(series.affine, made, atol=1e-6)
    inside = np.argwhere(series.pixels == NEEDLE_HU).mean(axis=0)
    np.testing.assert_allclose(inside, nearest_voxel(made, point))
    place = (series.affine @ (*inside, 1))[:3]
    assert (np.abs(np.linalg.solve(made[:3, :3], place - point)) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.6, 0.8, 0, -0.48, 0.36, 0.8)])
@pytest.mark.parametrize("reverse", [False, True])
def test_pixels_and_affine_agree_with_highdicom(tmp_path, orientation, reverse):
    paths = ct(tmp_path, orientation=orientation, reverse=reverse)
    (series,) = read_study(tmp_path).series
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths], apply_modality_transform=True)
    order = volume.array, volume.affine
    if volume.affine[:3, 0] @ series.affine[:3, 0] < 0:  # highdicom starts at the other end
        flip = np.eye(4)
        flip[0, 0], flip[0, 3] = -1, len(series.pixels) - 1
        order = volume.array[::-1], volume.affine @ flip
    np.testing.assert_allclose(series.pixels, order[0], atol=1e-4)
    np.testing.assert_allclose(series.affine, order[1], atol=1e-4)
    assert series.frame_of_reference == volume.frame_of_reference_uid


def test_headers_and_frame_ids_follow_the_slices(tmp_path):
    paths = ct(tmp_path, reverse=True)
    (series,) = read_study(tmp_path).series
    expected = [pydicom.dcmread(path) for path in paths]
    assert series.frame_ids == tuple(str(d.SOPInstanceUID) for d in expected)
    for k, (head, dataset) in enumerate(zip(series.headers, expected, strict=True)):
        assert "PixelData" not in head
        assert head.SOPInstanceUID == dataset.SOPInstanceUID
        np.testing.assert_allclose((series.affine @ (k, 0, 0, 1))[:3], dataset.ImagePositionPatient, atol=1e-6)
    assert (series.unit, series.modality, series.warnings) == ("HU", "CT", ())
    assert series.valid.all()


def test_file_names_and_places_do_not_matter(tmp_path):
    paths = ct(tmp_path / "a")
    (series,) = read_study(tmp_path / "a").series
    for number, path in enumerate(paths):
        place = tmp_path / "b" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{(number * 7) % 5}")
    (again,) = read_study(tmp_path / "b").series
    np.testing.assert_array_equal(series.pixels, again.pixels)
    assert series.frame_ids == again.frame_ids


def test_slice_thickness_and_location_are_not_asked(tmp_path):
    for path in ct(tmp_path):
        edit(path, SliceThickness=None, SliceLocation=7)
    assert read_study(tmp_path).series[0].spacing_mm == (5.0, 3.0, 3.0)


def test_a_single_ct_image_is_a_series(tmp_path):
    (path,) = ct(tmp_path, slices=1)
    assert read_study(path).series[0].pixels.shape == (1, 40, 48)


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_ct_without_geometry_is_refused(tmp_path, keyword):
    (path,) = ct(tmp_path, slices=1)
    assert refused(edit(path, **{keyword: None})).code == "E112"


# -- several series, several images


def test_one_file_is_read_as_in_its_study(tmp_path):
    ct(tmp_path / "ct")
    write_radiograph_phantom(tmp_path / "dx", rows=40, columns=48)
    for folder in ("ct", "dx"):
        (series,) = read_study(tmp_path / folder).series
        for path in (tmp_path / folder).iterdir():
            image = read_image(path)
            k = series.frame_ids.index(image.frame_ids[0])
            np.testing.assert_array_equal(image.pixels[0], series.pixels[k])
            np.testing.assert_allclose(image.affine[:, 1:3], series.affine[:, 1:3])
            np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], series.affine @ [k, 0, 0, 1])
    with pytest.raises(AnomapError) as caught:
        read_image(Path(__file__))
    assert caught.value.code == "E101"


def test_images_that_share_a_series_are_read_one_by_one(tmp_path):
    paths = write_radiograph_phantom(tmp_path, rows=64, columns=50, images=2)
    study = read_study(tmp_path)
    assert [s.frame_ids for s in study.series] == [(str(pydicom.dcmread(p).SOPInstanceUID),) for p in paths]
    for series in study.series:
        assert series.pixels.shape == (1, 64, 50)
        assert (series.unit, series.frame_of_reference) == ("1", "")
        assert series.spacing_mm == pytest.approx((1.0, 360 / 64, 360 / 64))
    assert np.abs(study.series[0].pixels - study.series[1].pixels).mean() > 0.01


def test_monochrome1_and_16_bits_look_like_the_plain_picture(tmp_path):
    looks = []
    for number, (photometric, bits) in enumerate(itertools.product(["MONOCHROME1", "MONOCHROME2"], [12, 16])):
        folder = tmp_path / str(number)
        write_radiograph_phantom(folder, rows=64, columns=50, photometric=photometric, bits=bits)
        looks.append(read_study(folder).series[0].pixels)
    for look in looks[1:]:
        np.testing.assert_allclose(look, looks[0], atol=2e-4)


@pytest.mark.parametrize(
    ("given_", "expected", "warned"),
    [
        ({}, 360 / 64, 0),
        ({"PixelSpacing": None}, 360 / 64, 0),
        ({"PixelSpacing": [0, 0]}, 360 / 64, 0),
        ({"PixelSpacing": None, "ImagerPixelSpacing": None, "NominalScannedPixelSpacing": [0.3, 0.3]}, 0.3, 0),
        ({"PixelSpacing": None, "ImagerPixelSpacing": None}, 1.0, 1),
    ],
)
def test_the_spacing_of_a_radiograph_comes_from_the_best_source(tmp_path, given_, expected, warned):
    (path,) = write_radiograph_phantom(tmp_path, rows=64, columns=50)
    (series,) = read_study(edit(path, **given_)).series
    assert series.spacing_mm[1:] == pytest.approx((expected, expected))
    assert len(series.warnings) == warned


def test_a_study_of_ct_and_radiographs_comes_in_a_fixed_order(tmp_path):
    write_radiograph_phantom(tmp_path / "a", rows=40, columns=40)
    ct(tmp_path / "b", seed=1)
    ct(tmp_path / "c", seed=2)
    first = read_study(tmp_path)
    assert [s.modality for s in first.series] == ["CT", "CT", "DX"]
    (tmp_path / "b").rename(tmp_path / "z")
    assert [s.frame_ids for s in read_study(tmp_path).series] == [s.frame_ids for s in first.series]


def test_a_zip_equals_its_folder(tmp_path):
    paths = ct(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"../{CANARY}/{path.name}")
        archive.writestr("readme.txt", "hello")
    study, plain = read_study(tmp_path / "a.zip"), read_study(tmp_path / "in")
    np.testing.assert_array_equal(study.series[0].pixels, plain.series[0].pixels)
    assert [(item.name, item.code) for item in study.skipped] == [("readme.txt", "E101")]
    assert str(study.series[0].headers[0].PatientName) == CANARY


# -- patients and repeats


@pytest.mark.parametrize("change", [{"PatientID": "Q"}, {"PatientID": ""}, {"PatientBirthDate": "19700102"}])
def test_two_patients_are_refused(tmp_path, change):
    for path in ct(tmp_path / "a"):
        edit(path, PatientBirthDate="19700101")
    for path in ct(tmp_path / "b", seed=1):
        edit(path, **{"PatientBirthDate": "19700101", **change})
    error = refused(tmp_path)
    assert error.code == "E104"
    assert "2 patients" in str(error)


def test_a_second_patient_among_what_is_left_out_counts_too(tmp_path):
    ct(tmp_path)
    shutil.copy(PYDICOM_FILES / "rtplan.dcm", tmp_path)
    assert refused(tmp_path).code == "E104"


def test_a_directory_of_the_medium_has_no_patient(tmp_path):
    ct(tmp_path)
    shutil.copy(PYDICOM_FILES / "dicomdirtests" / "DICOMDIR", tmp_path)
    assert codes(read_study(tmp_path)) == ["E105"]


def test_patients_without_identifiers_are_told_apart_by_name(tmp_path):
    for number, name in enumerate(("A", "B")):
        for path in ct(tmp_path / name, seed=number):
            edit(path, PatientID="", PatientName=name)
    assert refused(tmp_path).code == "E104"


def test_a_second_copy_of_a_file_is_used_once(tmp_path):
    paths = ct(tmp_path)
    shutil.copy(paths[2], tmp_path / "zcopy")
    dataset = pydicom.dcmread(paths[3])
    dataset.preamble = b"x" * 128  # other bytes, same content
    dataset.save_as(tmp_path / "zcopy2")
    study = read_study(tmp_path)
    assert study.skipped == ()
    assert len(study.series[0].pixels) == 5
    assert study.series[0].warnings == ("the same image came in several files; one was used",)


def test_the_same_uid_with_other_content_is_an_alarm(tmp_path):
    paths = ct(tmp_path)
    shutil.copy(paths[2], tmp_path / "zcopy")
    edit(tmp_path / "zcopy", RescaleIntercept=-1000)
    study = read_study(tmp_path)
    assert codes(study) == ["E115"]
    assert study.series[0].headers[2].RescaleIntercept == -1024


# -- gaps and bad slices


def test_a_missing_slice_is_refused_unless_allowed(tmp_path):
    paths = ct(tmp_path)
    paths[2].unlink()
    assert refused(tmp_path).code == "E103"
    (series,) = read_study(tmp_path, GAPS).series
    assert len(series.pixels) == 4
    assert len(series.warnings) == 1


def test_two_slices_at_one_place_are_refused_unless_allowed(tmp_path):
    paths = ct(tmp_path)
    shutil.copy(paths[2], tmp_path / "z")
    edit(tmp_path / "z", SOPInstanceUID="1.2.3", InstanceNumber=99)
    assert refused(tmp_path).code == "E103"
    study = read_study(tmp_path, GAPS)
    assert len(study.series[0].pixels) == 5
    assert [(item.name, item.code) for item in study.skipped] == [("z", "E103")]
    assert study.series[0].headers[2].SOPInstanceUID != "1.2.3"


@pytest.mark.parametrize("bad", [0, 4])
def test_a_damaged_slice_at_an_end_is_left_out(tmp_path, bad):
    paths = ct(tmp_path)
    paths[bad].write_bytes(paths[bad].read_bytes()[:-500])
    study = read_study(tmp_path)
    assert [(item.name, item.code) for item in study.skipped] == [(paths[bad].name, "E102")]
    expected = [path for number, path in enumerate(paths) if number != bad]
    for k, path in enumerate(expected):
        dataset = pydicom.dcmread(path)
        np.testing.assert_array_equal(study.series[0].pixels[k], dataset.pixel_array - 1024.0)
        np.testing.assert_allclose((study.series[0].affine @ (k, 0, 0, 1))[:3], dataset.ImagePositionPatient)


def test_a_damaged_slice_within_leaves_a_gap(tmp_path):
    paths = ct(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-500])
    assert refused(tmp_path).code == "E103"
    study = read_study(tmp_path, GAPS)
    assert codes(study) == ["E102"]
    for k, path in enumerate([*paths[:2], *paths[3:]]):
        np.testing.assert_array_equal(study.series[0].pixels[k], pydicom.dcmread(path).pixel_array - 1024.0)


def test_every_file_of_a_refused_series_has_its_reason(tmp_path):
    ct(tmp_path / "good", seed=1)
    paths = ct(tmp_path / "gap")
    paths[2].unlink()
    paths[3].write_bytes(paths[3].read_bytes()[:-500])
    study = read_study(tmp_path)
    assert len(study.series) == 1
    assert sorted((i.name, i.code) for i in study.skipped) == [
        (f"gap/{path.name}", "E103") for path in [paths[0], paths[1], paths[3], paths[4]]
    ]


def test_an_odd_slice_is_left_out_and_a_mixture_refused(tmp_path):
    paths = ct(tmp_path)
    edit(paths[0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    study = read_study(tmp_path)
    assert codes(study) == ["E112"]
    assert len(study.series[0].pixels) == 4
    for path in paths[1:3]:
        edit(path, PixelSpacing=[2, 2])
    assert refused(tmp_path).code == "E112"


def test_a_volume_too_large_is_refused_before_its_pixels_are_read(tmp_path, monkeypatch):
    ct(tmp_path)
    monkeypatch.setattr(read, "MAX_VOXELS", 9000)
    monkeypatch.setattr(read, "stored_values", lambda _: pytest.fail("it was decoded"))
    assert refused(tmp_path).code == "E117"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"RescaleSlope": 0}, "E109"),
        ({"RescaleSlope": None}, "E109"),
        ({"PixelData": bytes(40 * 48 * 2)}, "E108"),
        ({"Rows": 65535, "Columns": 65535}, "E117"),
        ({"PixelData": None}, "E105"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "E110"),
        ({"Manufacturer": "anomap"}, "E116"),
        ({"SeriesInstanceUID": ""}, "E102"),
    ],
)
def test_a_series_that_is_bad_throughout_is_refused_with_its_code(tmp_path, change, code):
    for path in ct(tmp_path):
        edit(path, **change)
    error = refused(tmp_path)
    assert error.code == code
    assert error.status is ExitStatus.UNUSABLE_INPUT


def test_the_reason_closest_to_an_analysis_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert refused(tmp_path).code == "E101"
    (path,) = ct(tmp_path, slices=1)
    edit(path, Manufacturer="anomap")
    assert refused(tmp_path).code == "E116"
    edit(path, Manufacturer="", ImageType="LOCALIZER")
    assert refused(tmp_path).code == "E110"
    edit(path, ImageType="AXIAL", RescaleSlope=0)
    error = refused(tmp_path)
    assert error.code == "E109"
    assert "1 other file" in error.message


def test_an_empty_folder_is_refused(tmp_path):
    assert refused(tmp_path).code == "E100"


# -- pydicom's own collection


@pytest.mark.parametrize("path", sorted(p for p in PYDICOM_FILES.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_any_file_gives_a_study_or_a_code(path):
    found = outcome(path)
    if isinstance(found, Study):
        assert {series.modality for series in found.series} <= {"CT", "CR", "DX"}
    else:
        assert CODES[found.code].status is ExitStatus.UNUSABLE_INPUT


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("MR_truncated.dcm", "E111"), ("rtplan.dcm", "E105"), ("rtplan_truncated.dcm", "E105"), ("test-SR.dcm", "E105"),
        ("reportsi.dcm", "E105"), ("rtdose.dcm", "E111"), ("liver_1frame.dcm", "E111"), ("SC_rgb_rle.dcm", "E106"),
        ("examples_palette.dcm", "E106"), ("examples_rgb_color.dcm", "E106"), ("waveform_ecg.dcm", "E105"),
        ("no_meta.dcm", "E101"), ("rtplan.dump", "E101"), ("zipMR.gz", "E101"), ("image_dfl.dcm", "E107"),
        ("UN_sequence.dcm", "E105"), ("badVR.dcm", "E111"), ("nested_priv_SQ.dcm", "E105"),
    ],
)  # fmt: skip
def test_foreign_files_have_their_codes(name, code):
    assert refused(PYDICOM_FILES / name).code == code


@pytest.mark.parametrize(
    ("name", "size"), [("CT_small.dcm", 128), ("693_J2KI.dcm", 512), ("J2K_pixelrep_mismatch.dcm", 512)]
)
def test_real_ct_images_are_read(name, size):
    (series,) = read_study(PYDICOM_FILES / name).series
    assert series.pixels.shape == (1, size, size)
    dataset = pydicom.dcmread(PYDICOM_FILES / name)
    expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    np.testing.assert_allclose(series.pixels[series.valid], expected[series.valid[0]], atol=1e-3)
    assert series.valid.mean() > 0.7


# -- what must never happen


def test_nothing_says_a_patients_name(tmp_path, caplog, capfd):
    folder = tmp_path / CANARY
    for path in ct(folder / "a", patient_id="ZZPHI7"):
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            for keyword, vr in [("PatientBirthDate", "DA"), ("PatientAge", "AS"), ("StudyTime", "TM")]:
                dataset[keyword] = pydicom.DataElement(keyword, vr, CANARY, validation_mode=0)
            dataset.save_as(folder / "a" / f"{CANARY}-{path.name}")
        path.unlink()
    (folder / f"{CANARY}.txt").write_text(CANARY)
    with warnings.catch_warnings(record=True) as said, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        study = read_study(folder)
    printed = capfd.readouterr()
    texts = [caplog.text, printed.out, printed.err, *(str(w.message) for w in said), *study.series[0].warnings]
    texts += [item.reason for item in study.skipped]
    assert not any("ZZPHI" in text for text in texts)


def test_the_input_is_not_touched(tmp_path):
    ct(tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    read_study(tmp_path)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_radiograph_phantom(folder, rows=16, columns=16)
    return write_ct_phantom(folder, slices=1, rows=16, columns=16)[0]


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["CT0001.dcm", "DX0001.dcm"]),
    flips=st.lists(st.tuples(st.integers(132, 2200), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 2200)),
)
def test_damaged_bytes_give_a_study_or_a_code(good, kind, flips, cut):
    data = bytearray((good.parent / kind).read_bytes())
    for position, value in flips:
        data[position % len(data)] = value
    place = good.parent / "damaged"
    place.mkdir(exist_ok=True)
    (place / "file").write_bytes(data[:cut])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would quote what it complains about
        found = outcome(place)
    if isinstance(found, Study):
        assert np.isfinite(found.series[0].affine).all()
    else:
        assert CODES[found.code].status is ExitStatus.UNUSABLE_INPUT
