"""Identity, equipment and mends that all written objects share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest

from anomap.dicom.derived import created, derived_uid, equipment, plain, series_number, sources
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.dicom.segmentation import build_segmentation
from anomap.errors import AnomapError
from tests.dicom.tools import complaints, made_of, saved
from tests.made import made_analysis


def edited(folder: Path, **elements: object) -> Path:
    """A CT phantom with changed elements; None deletes."""
    for path in write_ct_phantom(folder, slices=2, rows=64, columns=64):
        dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)
    return folder


def test_uids_depend_on_images_weights_and_purpose_but_not_on_order_or_time():
    analysis = made_analysis()
    series, result = analysis.series, analysis.result
    uid = derived_uid(series, result, "sr")
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert derived_uid(replace(series, frame_ids=series.frame_ids[::-1]), result, "sr") == uid
    later = replace(result, provenance={**result.provenance, "created": "2030-01-01T00:00:00+00:00"})
    assert derived_uid(series, later, "sr") == uid
    assert derived_uid(series, result, "seg") != uid
    for key in ("bundle_sha256", "config_sha256", "software_version", "cohort_id"):
        other = replace(result, provenance={**result.provenance, key: "something else"})
        assert derived_uid(series, other, "sr") != uid


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientSex": "X?", "PatientBirthDate": "1.1.1970", "StudyDate": "20259999", "StudyTime": "noon"},
        {"PatientName": None, "PatientID": "", "AccessionNumber": None, "SliceThickness": None},
        {"SpacingBetweenSlices": "-5"},
        {"PatientIdentityRemoved": "YES"},
        {"PatientWeight": "0", "PatientAge": "", "Laterality": ""},
        {"BodyPartExamined": "ARM?", "SeriesNumber": "2147483647", "TimezoneOffsetFromUTC": "+0530"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Ä"},
    ],
    ids=["invalid", "missing", "descending", "anonymous", "empty", "odd", "latin-1"],
)
def test_objects_of_poor_sources_are_valid(elements, tmp_path):
    (series,) = read_study(edited(tmp_path / "ct", **elements)).series
    analysis = made_of(series, (0, 5, 5, 0, 9, 9))
    path = saved(build_segmentation(series, analysis.result), tmp_path / "seg.dcm")
    assert complaints(path) == []
    if "SpecificCharacterSet" in elements:
        assert "Müller^Ä".encode("latin-1") in path.read_bytes()


def test_private_elements_stay_behind(tmp_path):
    paths = write_ct_phantom(tmp_path / "ct", slices=2, rows=64, columns=64)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0011, "SECRET", create=True).add_new(1, "LO", "ZZPRIVATE")
        dataset.save_as(path)
    (series,) = read_study(tmp_path / "ct").series
    before = [header.to_json() for header in series.headers]
    analysis = made_of(series, (0, 5, 5, 0, 9, 9))
    path = saved(build_segmentation(series, analysis.result), tmp_path / "seg.dcm")
    assert b"ZZPRIVATE" not in path.read_bytes()
    assert [header.to_json() for header in series.headers] == before


def test_headers_of_radiographs_lose_a_frame_of_reference_without_positions(tmp_path):
    (path,) = write_radiograph_phantom(tmp_path / "dx", rows=64, columns=64)
    dataset = pydicom.dcmread(path)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.3", ""
    dataset.save_as(path)
    (series,) = read_study(tmp_path / "dx").series
    analysis = made_of(series, (0, 5, 5, 0, 9, 9))
    assert complaints(saved(build_segmentation(series, analysis.result), tmp_path / "seg.dcm")) == []


def test_series_numbers_follow_the_source(tmp_path):
    (series,) = read_study(edited(tmp_path / "ct", SeriesNumber=7)).series
    assert [series_number(series, offset) for offset in (1, 4)] == [701, 704]


def test_equipment_fits_its_elements():
    named = equipment(made_analysis().result)
    assert named["manufacturer"] == "anomap"
    assert all(len(value) <= 64 for value in named.values())


def test_a_result_must_say_when_it_was_made():
    result = made_analysis().result
    assert created(result) == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(AnomapError, match="E501"):
        created(replace(result, provenance={}))


def test_volumes_that_never_were_dicom_have_no_sources():
    with pytest.raises(AnomapError, match="E501"):
        sources(made_analysis().series)


def test_plain_text_is_ascii():
    assert plain("Fréchet – 5² \\ 中\n") == "Frechet - 5^2 / ??"
    assert plain("abcdef", 3) == "abc"
