"""Real files of many makes: two CT series as published, and single files of every encoding, some of them damaged."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from anomap.config import AnalyzeConfig
from anomap.dicom.read import Study, read_study
from anomap.errors import CODES, AnomapError, ExitStatus
from anomap.study import analyze
from tests.dicom.tools import complaints

pytestmark = pytest.mark.data

EXPECTED = {  # file -> code, or size
    "1-1.dcm": "E110",
    "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm": (1, 1024, 1024),
    "693_J2KI.dcm": (1, 512, 512),
    "CT1_J2KR": (1, 512, 512),
    "CT1_JLSL": (1, 512, 512),
    "CT1_JLSN": (1, 512, 512),
    "CT1_JPLL": (1, 512, 512),
    "CT1_RLE": (1, 512, 512),
    "CT_small.dcm": (1, 128, 128),
    "ExplVR_BigEnd.dcm": "E106",
    "J2K_pixelrep_mismatch.dcm": (1, 512, 512),
    "JPEGLSNearLossless_16.dcm": "E111",
    "JPEGLossless_1s_1f_i_16_16_bad.dcm": "E109",  # decodes to noise without an error
    "MR_small.dcm": "E111",
    "MR_small_padded.dcm": "E111",
    "MR_truncated.dcm": "E111",
    "RG1_J2KI.dcm": (1, 1955, 1841),
    "RG2_JPLY_fixed.dcm": "E107",  # 12-bit JPEG
    "RG3_J2KI.dcm": (1, 1760, 1760),
    "SC_rgb_small_odd.dcm": "E106",
    "TOSHIBA_J2K_SIZ0_PixRep1.dcm": (1, 512, 512),
    "badVR.dcm": "E111",
    "bad_sequence.dcm": "E102",
    "chrJapMulti.dcm": "E105",
    "dicom_00000001_000.dcm": (1, 1024, 1024),
    "eCT_Supplemental.dcm": "E111",
    "explicit_VR-UN.dcm": (1, 512, 512),
    "image_dfl.dcm": "E107",
    "liver_1frame.dcm": "E111",
    "meta_missing_tsyntax.dcm": "E102",
    "no_meta.dcm": "E101",
    "reportsi.dcm": "E105",
    "rtstruct.dcm": "E101",
}


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "dicom"


def outcome(source: Path) -> Study | AnomapError:
    try:
        return read_study(source)
    except AnomapError as error:
        return error


@pytest.mark.parametrize("name", EXPECTED)
def test_a_conformance_file_is_read_or_refused_with_its_code(folder, name):
    found = outcome(folder / "conformance" / name)
    if isinstance(found, Study):
        (series,) = found.series
        assert series.pixels.shape == EXPECTED[name]
        assert series.valid.mean() > 0.5
        assert series.pixels[series.valid].std() > (10 if series.unit == "HU" else 0.05)
    else:
        assert found.code == EXPECTED[name]


def test_every_conformance_file_gives_a_study_or_a_code(folder):
    paths = sorted((folder / "conformance").iterdir())
    assert len(paths) >= 33
    for path in paths:
        found = outcome(path)
        assert isinstance(found, Study) or CODES[found.code].status is ExitStatus.UNUSABLE_INPUT


def test_the_whole_folder_is_refused_for_its_many_patients(folder):
    found = outcome(folder / "conformance")
    assert isinstance(found, AnomapError)
    assert found.code == "E104"


def test_one_slice_is_the_same_in_every_lossless_encoding(folder):
    names = ["CT1_RLE", "CT1_JPLL", "CT1_JLSL", "CT1_J2KR"]
    first, *others = (read_study(folder / "conformance" / name).series[0] for name in names)
    for other in others:
        np.testing.assert_array_equal(first.pixels, other.pixels)
        np.testing.assert_array_equal(first.valid, other.valid)
    near = read_study(folder / "conformance" / "CT1_JLSN").series[0]
    np.testing.assert_array_equal(first.valid, near.valid)
    assert np.abs(first.pixels - near.pixels)[first.valid].max() <= 10


@pytest.mark.parametrize(("name", "spacing"), [("abdomen_c3l00189", 5.0), ("chest_ricord_001012", 1.25)])
def test_a_real_series_is_read_whole_and_lies_where_highdicom_says(folder, name, spacing):
    study = read_study(folder / name)
    assert study.skipped == ()
    (series,) = study.series
    with (folder / "manifest.csv").open(newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["group"] == name]
    assert len(series.pixels) == len(listed)
    assert series.spacing_mm[0] == pytest.approx(spacing, rel=1e-3)
    assert series.warnings == ()
    assert 0.7 < series.valid.mean() < 0.8  # a round field of view
    datasets = [pydicom.dcmread(path) for path in sorted((folder / name).iterdir())]
    volume = highdicom.get_volume_from_series(datasets, apply_modality_transform=True)
    turned = volume.affine[:3, 0] @ series.affine[:3, 0] < 0
    pixels = volume.array[::-1] if turned else volume.array
    np.testing.assert_array_equal(series.pixels[series.valid], pixels[series.valid])
    start = volume.affine @ (len(pixels) - 1 if turned else 0, 0, 0, 1)
    np.testing.assert_allclose(series.affine[:3, 3], start[:3], atol=1e-3)
    np.testing.assert_allclose(series.affine[:3, 1:3], volume.affine[:3, 1:3], atol=1e-6)


REFUSED = {name: code for name, code in EXPECTED.items() if isinstance(code, str)}
ODD = ("RG3_J2KI.dcm", "TOSHIBA_J2K_SIZ0_PixRep1.dcm")  # a hand; a coronal CT: there is no model for them
COMPLETE = [
    *(name for name in EXPECTED if name not in (*REFUSED, *ODD)),
    "../abdomen_c3l00189",
    "../chest_ricord_001012",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_published_with_its_code(folder, name, toy_models, tmp_path):
    with pytest.raises(AnomapError, match=REFUSED[name]):
        analyze(folder / "conformance" / name, tmp_path / "out", toy_models, AnalyzeConfig(steps=1))
    (written,) = (tmp_path / "out").iterdir()
    assert json.loads(written.read_text())["error"]["code"] == REFUSED[name]


@pytest.mark.parametrize("name", ODD)
def test_an_image_without_a_model_is_not_applicable(folder, name, toy_models, tmp_path):
    outcome = analyze(folder / "conformance" / name, tmp_path / "out", toy_models, AnalyzeConfig(steps=1))
    assert outcome.status is ExitStatus.UNUSABLE_INPUT
    (entry,) = outcome.content["series"]
    assert (entry["status"], entry["verdict"], entry["error"]["code"]) == ("not_applicable", "NOT_APPLICABLE", "E113")
    assert list((tmp_path / "out").rglob("*.dcm")) == []


@pytest.mark.parametrize("name", COMPLETE)
def test_everything_else_ends_in_a_complete_result_of_valid_objects(folder, name, toy_models, tmp_path):
    outcome = analyze(folder / "conformance" / name, tmp_path / "out", toy_models, AnalyzeConfig(steps=1))
    assert outcome.status is ExitStatus.OK
    assert [entry["status"] for entry in outcome.content["series"]] == ["complete"]
    written = sorted((tmp_path / "out").rglob("*.dcm"))
    assert "sr.dcm" in [path.name for path in written]
    for path in written:
        assert complaints(path) == [], path.name
