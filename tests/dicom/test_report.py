"""The SR: valid for dciodvfy, readable by dcmtk and dcmqi, complete, and careful with its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from anomap.dicom import codes
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.report import build_report, frame_of_segment
from anomap.dicom.segmentation import build_segmentation, tracking_uid
from anomap.pipeline import Analysis
from anomap.types import Verdict
from tests.dicom.tools import analysed, complaints, dsrdump, saved, tid1500

CT_BOXES = ((0, 10, 20, 1, 15, 30), (2, 40, 50, 2, 44, 52))  # one spans slices, one doesn't
DX_BOXES = ((0, 10, 20, 0, 30, 40),)


def report_of(analysis: Analysis) -> Dataset:
    seg = build_segmentation(analysis.series, analysis.result)
    return build_report(analysis.series, analysis.prepared, analysis.score_map, analysis.result, seg)


def items(dataset: Dataset) -> Iterator[Dataset]:
    """All content items, depth first."""
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from items(item)


def groups(dataset: Dataset) -> dict[str, Dataset]:
    """Measurement groups by tracking identifier."""
    found = {}
    for item in items(dataset):
        if item.ValueType == "CONTAINER" and concept(item) == "125007":
            name = next(i.TextValue for i in item.ContentSequence if concept(i) == "112039")
            found[name] = item
    return found


def concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if item.get("ConceptNameCodeSequence") else ""


def number(group: Dataset, code: str) -> float:
    (item,) = (i for i in group.ContentSequence if concept(i) == code)
    return float(item.MeasuredValueSequence[0].NumericValue)


def answers(dataset: Dataset, code: str) -> list[str]:
    return [i.ConceptCodeSequence[0].CodeValue for i in items(dataset) if concept(i) == code]


@pytest.mark.parametrize("kind", ["ct", "radiograph", "ct without regions", "radiograph without cohort"])
def test_a_report_is_valid_and_three_programs_read_it(kind, ct, radiograph, tmp_path):
    boxes = () if "without regions" in kind else CT_BOXES if kind.startswith("ct") else DX_BOXES
    analysis = analysed(ct if kind.startswith("ct") else radiograph, *boxes)
    if "without cohort" in kind:
        bare = {"p_by_score": {}, "percentile_by_score": {}, "cohort_size": 0, "cohort_description": "", "p_value": 1.0}
        analysis = replace(analysis, result=replace(analysis.result, verdict=Verdict.UNCALIBRATED, **bare))
    path = saved(report_of(analysis), tmp_path / "sr.dcm")
    assert complaints(path) == []
    text = dsrdump(path)
    assert not [line for line in text.splitlines() if line.startswith(("W:", "E:")) and "ISO_IR 192" not in line]
    assert "NOT A DIAGNOSIS" in text
    assert "UNVERIFIED" in text
    assert "PRELIMINARY" in text
    read = tid1500(path, tmp_path / "read")
    names = [group["TrackingIdentifier"] for group in read["Measurements"]]
    assert names[0] == "anomap series"
    assert [name for name in names if name.startswith("anomap-R")] == [f"anomap-R{n + 1}" for n in range(len(boxes))]


def test_the_numbers_are_those_of_the_result(ct):
    analysis = analysed(ct, *CT_BOXES)
    found = groups(report_of(analysis))
    worst = analysis.result.worst_image
    assert number(found["anomap series"], "C44185") == pytest.approx(analysis.result.p_value, rel=1e-9)
    scores = analysis.score_map.per_image
    assert number(found["anomap image 1"], "ANM-Q1") == pytest.approx(scores["mse_full"][worst], rel=1e-9)
    assert number(found["anomap window 1"], "ANM-Q2") == pytest.approx(scores["wd_patch"][worst], rel=1e-9)
    assert number(found["anomap place 1"], "ANM-Q8") == pytest.approx(scores["feature_patch"][worst], rel=1e-9)
    mean = number(found["anomap image 1"], "ANM-Q10")
    assert mean == pytest.approx(scores["neighbour_distance"][worst], rel=1e-9)
    assert number(found["anomap change 1"], "ANM-Q9") == pytest.approx(scores["neighbour_patch"][worst], rel=1e-9)
    first, second = analysis.result.regions
    assert number(found["anomap-R1"], "ANM-Q2") == first.peaks["wd_patch"]
    assert number(found["anomap-R1"], codes.VOLUME.value) == first.volume_ml
    assert number(found["anomap-R2"], codes.AREA.value) == second.area_mm2


def test_regions_refer_to_their_segments(ct):
    analysis = analysed(ct, *CT_BOXES)
    seg = build_segmentation(analysis.series, analysis.result)
    report = build_report(analysis.series, analysis.prepared, analysis.score_map, analysis.result, seg)
    found = groups(report)
    for region in analysis.result.regions:
        uids = [i.UID for i in items(found[f"anomap-R{region.label}"]) if i.ValueType == "UIDREF"]
        assert tracking_uid(analysis.series, analysis.result, region) in uids
    references = [i.ReferencedSOPSequence[0] for i in items(report) if i.ValueType == "IMAGE"]
    to_seg = [r for r in references if r.ReferencedSOPInstanceUID == seg.SOPInstanceUID]
    assert len(to_seg) == 2
    frames = [int(r.ReferencedFrameNumber) for r in to_seg if "ReferencedFrameNumber" in r]
    flat = analysis.result.regions[1]
    assert frames == [frame_of_segment(seg, flat.label, analysis.series.frame_ids[flat.frame])]
    assert not [r for r in to_seg if "ReferencedFrameNumber" in r and "ReferencedSegmentNumber" in r]


def test_outlines_enclose_regions_and_windows(radiograph):
    analysis = analysed(radiograph, *DX_BOXES)
    found = groups(report_of(analysis))
    box = next(i.GraphicData for i in items(found["anomap-P1"]) if i.ValueType == "SCOORD")
    assert list(box) == [20, 10, 41, 10, 41, 31, 20, 31, 20, 10]  # column, row; corners of pixels
    boxes = {
        name: np.reshape(next(i.GraphicData for i in items(found[name]) if i.ValueType == "SCOORD"), (-1, 2))
        for name in ("anomap window 1", "anomap place 1")
    }
    for corners in boxes.values():
        assert corners[:, 0].max() <= analysis.series.pixels.shape[2]
        assert corners.min() >= 0
        assert tuple(corners[0]) == tuple(corners[-1])
    assert not np.array_equal(*boxes.values())


def test_a_model_that_knows_no_places_has_no_group_for_one(ct):
    analysis = analysed(ct, *CT_BOXES)
    analysis = replace(analysis, score_map=replace(analysis.score_map, top_place=None, top_change=None))
    assert not [name for name in groups(report_of(analysis)) if name.startswith(("anomap place", "anomap change"))]


def test_the_method_is_projection_only_where_an_image_was_projected(ct):
    found = groups(report_of(analysed(ct, *CT_BOXES)))

    def methods(group):
        return [
            i.ConceptCodeSequence[0].CodeValue
            for i in group.get("ContentSequence", [])
            if i.ConceptNameCodeSequence[0].CodeValue == codes.MEASUREMENT_METHOD.value
        ]

    for name in ("anomap image 1", "anomap window 1", "anomap-R1"):
        assert methods(found[name]) == ["ANM-M1"]
    for name in ("anomap place 1", "anomap change 1"):
        assert methods(found[name]) == ["ANM-M2"]
    by_score = {
        i.ConceptNameCodeSequence[0].CodeValue: methods(i)
        for i in found["anomap image 1"].ContentSequence
        if i.ValueType == "NUM"
    }
    assert by_score["ANM-Q1"] == []
    assert by_score["ANM-Q7"] == ["ANM-M2"]


@pytest.mark.parametrize(
    ("verdict", "gate", "quality"),
    [
        (Verdict.PASS, "ANM-G2", ["111237"]),
        (Verdict.REVIEW, "ANM-G3", ["111236"]),
        (Verdict.REJECT, "ANM-G4", ["111235"]),
        (Verdict.UNCALIBRATED, "ANM-G3", []),
        (Verdict.NOT_APPLICABLE, "ANM-G3", []),
    ],
)
def test_the_gate_says_what_the_verdict_says(radiograph, verdict, gate, quality):
    analysis = analysed(radiograph)
    report = report_of(replace(analysis, result=replace(analysis.result, verdict=verdict)))
    assert answers(report, "ANM-G1") == [gate]
    assert answers(report, "111050") == quality
    if verdict is Verdict.PASS:
        assert "371879000" not in answers(report, "121402")  # Abnormally High
    if verdict is Verdict.UNCALIBRATED:
        assert set(answers(report, "121402")) == {codes.UNDETERMINED.value}


def test_the_patient_is_the_sources_and_the_name_keeps_its_bytes(tmp_path):
    write_ct_phantom(tmp_path / "ct", slices=2, rows=64, columns=64, patient_name="Żółć^Jürgen")
    analysis = analysed(tmp_path / "ct", (0, 5, 5, 0, 9, 9))
    path = saved(report_of(analysis), tmp_path / "sr.dcm")
    source = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    report = pydicom.dcmread(path)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert report[keyword].value == source[keyword].value, keyword
    assert "Żółć^Jürgen".encode() in path.read_bytes()
    assert report.SpecificCharacterSet == source.SpecificCharacterSet


def test_radiographs_that_say_little_of_themselves_get_a_report_that_makes_nothing_up(tmp_path):
    (source,) = write_radiograph_phantom(tmp_path / "dx", rows=96, columns=80)
    dataset = pydicom.dcmread(source)
    full = report_of(analysed(tmp_path / "dx"))
    assert {"111026", "111066", "111043", "111044"} <= {concept(i) for i in items(full)}
    del dataset.ImagerPixelSpacing
    dataset.PatientOrientation = ""
    dataset.save_as(source)
    poor = report_of(analysed(tmp_path / "dx", *DX_BOXES))
    assert not {"111026", "111066", "111043", "111044"} & {concept(i) for i in items(poor)}
    assert complaints(saved(poor, tmp_path / "sr.dcm")) == []
    assert number(groups(poor)["anomap-R1"], codes.AREA.value) == 41


def test_nothing_is_said_of_a_disease(ct):
    """The only words from SNOMED CT are those listed here: none is a disorder or a morphology."""
    allowed = {code.value for code in codes.STANDARD if code.scheme_designator == "SCT"}
    allowed |= {"260753009", "363698007"}  # Source, Finding Site: concept names of the templates
    analysis = analysed(ct, *CT_BOXES)
    seg = build_segmentation(analysis.series, analysis.result)
    met = set()

    def note(dataset: Dataset, element: pydicom.DataElement) -> None:
        if element.keyword == "CodeValue" and dataset.CodingSchemeDesignator == "SCT":
            met.add(element.value)

    for dataset in (seg, report_of(analysis)):
        dataset.walk(note)
    assert met
    assert met <= allowed


def test_observer_algorithm_and_equipment_are_one(ct):
    """IHE AIR 6.5.3.1: the same name, version and device UID in all three places."""
    report = report_of(analysed(ct))
    own = report.ContributingEquipmentSequence[0]
    texts = {concept(i): i.TextValue for i in items(report) if i.ValueType == "TEXT"}
    assert texts["111001"] == texts["121015"] == own.ManufacturerModelName == report.ManufacturerModelName
    assert texts["111003"] == own.SoftwareVersions == report.SoftwareVersions
    assert [i.UID for i in items(report) if concept(i) == "121012"] == [own.DeviceUID]
    assert own.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_measurement_method_modifies_its_group(ct):
    methods = [i for i in items(report_of(analysed(ct))) if concept(i) == codes.MEASUREMENT_METHOD.value]
    assert methods
    assert {i.RelationshipType for i in methods} == {"HAS CONCEPT MOD"}


def test_the_same_result_gives_the_same_bytes(ct, tmp_path):
    analysis = analysed(ct, *CT_BOXES)
    one, two = (saved(report_of(analysis), tmp_path / f"{n}.dcm").read_bytes() for n in (1, 2))
    assert one == two


def test_long_series_get_groups_for_the_worst_images_only(tmp_path):
    write_ct_phantom(tmp_path / "ct", slices=12, rows=64, columns=64)
    found = groups(report_of(analysed(tmp_path / "ct")))
    assert [name for name in found if name.startswith("anomap image")] == [f"anomap image {n}" for n in (1, 2, 3)]
