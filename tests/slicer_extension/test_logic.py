"""The logic on real MRML: what it refuses, what it makes, how it ends."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from AnomapLib.logic import AnomapLogic, Settings, State, gateText
from AnomapLib.results import HEAT, REGION_COLOURS, TERMINOLOGY
from pydicom import dcmread
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from anomap.dicom.codes import R1_REGION, SPATIAL_CONCEPT
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.preview import HEAT as PREVIEW_HEAT
from tests.dicom.tools import complaints
from tests.slicer_extension.runs import WithinProcess, analysed, finish, ijk_to_ras, spl_affine, trunk
from tests.slicer_extension.scene import SliceView


def from_dicom(application, folder: Path):
    """A volume node as a DICOM reader makes it, and the files by UID."""
    (series,) = read_study(folder).series
    node = application.volume(np.round(series.pixels).astype(np.int16), ijk_to_ras(series.affine), "CT")
    uids = [str(header.SOPInstanceUID) for header in series.headers]
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    return node, {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): str(path) for path in folder.iterdir()}


@pytest.fixture
def ct(application, tmp_path):
    """A CT phantom with a needle: node, files by UID, folder."""
    write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64, needle_lps_mm=(23.0, -46.0, 212.0))
    return *from_dicom(application, tmp_path / "ct"), tmp_path / "ct"


@pytest.fixture
def node(application):
    return application.volume(trunk(), ijk_to_ras(spl_affine()), "trunk")


def test_a_result_says_where_why_and_against_what(application, node, toy_models):
    _, outcome = analysed(application, node, toy_models)
    assert outcome.verdict == "UNCALIBRATED"
    assert 0 < outcome.pValue <= 1
    assert gateText(outcome).startswith(f"UNCALIBRATED · p = {outcome.pValue:.3g} · against 40 images: toy cohort")
    assert outcome.reasons
    assert outcome.model == "toy-ct 0.0.1"
    assert outcome.unit == "HU"
    slices = [row for row in outcome.rows if row.kind == "slice"]
    assert len(slices) == 12
    assert [row.score for row in slices] == sorted((row.score for row in slices), reverse=True)
    kinds = [row.kind for row in outcome.rows]
    assert kinds == sorted(kinds, key=["region", "place", "slice"].index)
    places = [row for row in outcome.rows if row.kind == "place"]
    assert [(row.number, row.unit) for row in places] == [(n, "sd") for n in range(1, 11)]
    assert [row.score for row in places] == sorted((row.score for row in places), reverse=True)


def test_the_overlay_begins_at_the_threshold_and_hides_what_is_below(application, node, toy_models):
    logic, outcome = analysed(application, node, toy_models)
    display = outcome.overlayNode.GetDisplayNode()
    heat = vtk_to_numpy(outcome.overlayNode.GetImageData().GetPointData().GetScalars())
    assert display.GetApplyThreshold()
    assert not display.GetInterpolate()
    assert display.GetLowerThreshold() == outcome.threshold
    assert display.GetUpperThreshold() > heat.max() == pytest.approx(outcome.maximum)
    assert display.GetColorNode().GetName() == "anomap heat"
    logic.setThreshold(outcome, 12.5)
    assert display.GetLowerThreshold() == 12.5
    view = SliceView(application)
    logic.show(outcome, opacity=0.4)
    assert view.composite.GetForegroundVolumeID() == outcome.overlayNode.GetID()
    assert view.composite.GetBackgroundVolumeID() == node.GetID()
    assert view.composite.GetForegroundOpacity() == 0.4
    logic.setOpacity(outcome, 0.9)
    assert view.composite.GetForegroundOpacity() == 0.9
    logic.showReconstruction(outcome, True)
    assert view.composite.GetBackgroundVolumeID() == outcome.reconstructionNode.GetID()
    logic.showReconstruction(outcome, False)
    assert view.composite.GetBackgroundVolumeID() == node.GetID()


def test_colours_are_those_of_the_previews(application, node, toy_models):
    _, outcome = analysed(application, node, toy_models)
    assert HEAT == PREVIEW_HEAT
    colour = [0.0] * 4
    outcome.colorNode.GetColor(outcome.colorNode.GetNumberOfColors() - 1, colour)
    assert colour == pytest.approx([value / 255 for value in HEAT[-1]] + [1.0])


def test_regions_become_segments_of_their_own_size_and_place(application, node, toy_models):
    _, outcome = analysed(application, node, toy_models)
    heat = vtk_to_numpy(outcome.overlayNode.GetImageData().GetPointData().GetScalars()).reshape(trunk().shape)
    segmentation = outcome.segmentationNode.GetSegmentation()
    regions = [row for row in outcome.rows if row.kind == "region"]
    assert segmentation.GetNumberOfSegments() == len(regions) > 0
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    union = np.zeros(heat.shape, bool)
    for number, row in enumerate(regions):
        segment = segmentation.GetNthSegment(number)
        image = segment.GetRepresentation(kind)
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        mask = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) > 0
        for axis in range(3):  # cut to its box: no empty border
            assert mask.any(axis=tuple({0, 1, 2} - {axis}))[[0, -1]].all()
        union[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] |= mask
        assert heat[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1][mask].max() == pytest.approx(row.score, rel=1e-5)
        assert tuple(segment.GetColor()) == pytest.approx(REGION_COLOURS[number % len(REGION_COLOURS)])
    assert (heat[union] > outcome.threshold - 1e-3).all()
    words = vtk.reference("")
    assert segmentation.GetNthSegment(0).GetTag("TerminologyEntry", words)
    for code in (SPATIAL_CONCEPT, R1_REGION):
        assert f"{code.scheme_designator}^{code.value}^{code.meaning}" in TERMINOLOGY == str(words)


def test_the_reconstruction_has_the_volumes_grid_and_the_models_window(application, node, toy_models):
    _, outcome = analysed(application, node, toy_models)
    made = vtk_to_numpy(outcome.reconstructionNode.GetImageData().GetPointData().GetScalars())
    assert made.dtype == np.int16
    assert made.size == trunk().size
    assert made.min() == -1000  # where the model saw nothing
    assert np.percentile(made, 60) > -130
    display = outcome.reconstructionNode.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-125.0, 225.0)


def test_the_table_has_a_line_for_every_row(application, node, toy_models):
    _, outcome = analysed(application, node, toy_models)
    table = outcome.tableNode.GetTable()
    assert table.GetNumberOfRows() == len(outcome.rows)
    names = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    assert names == ["where", "score", "unit", "p", "size", "R [mm]", "A [mm]", "S [mm]"]
    assert table.GetValue(0, 0).ToString() == f"{outcome.rows[0].kind} 1"
    assert {table.GetValue(n, 2).ToString() for n in range(len(outcome.rows))} == {"HU", "sd"}
    assert table.GetValue(0, 7).ToDouble() == pytest.approx(outcome.rows[0].ras[2], abs=0.01)


def test_a_row_brings_all_views_to_its_place(application, node, toy_models):
    logic, outcome = analysed(application, node, toy_models)
    views = {name: SliceView(application, name) for name in ("Axial", "Sagittal", "Coronal")}
    for row in outcome.rows[:4]:
        logic.jumpTo(row)
        for axis, name in enumerate(("Sagittal", "Coronal", "Axial")):
            assert views[name].node.GetSliceToRAS().GetElement(axis, 3) == pytest.approx(row.ras[axis], abs=1e-3)


def test_all_of_it_lies_in_one_folder_beside_the_input(application, node, toy_models):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(application.scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, node)
    _, outcome = analysed(application, node, toy_models)
    assert hierarchy.GetItemName(outcome.folderItem) == "anomap: trunk"
    assert hierarchy.GetItemParent(outcome.folderItem) == study
    assert {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(made)) for made in outcome.nodes} == {
        outcome.folderItem
    }


def kinds(application) -> Counter:
    """How many nodes of each kind there are."""
    return Counter(application.scene.GetNthNode(n).GetClassName() for n in range(application.scene.GetNumberOfNodes()))


def test_a_second_result_stands_beside_the_first_and_either_can_go(application, node, toy_models):
    before = kinds(application)
    logic, first = analysed(application, node, toy_models)
    logic.start(node, Settings(modelFolder=str(toy_models)))
    assert finish(logic) is State.DONE
    second = logic.outcome
    assert not {made.GetID() for made in first.nodes} & {made.GetID() for made in second.nodes}
    assert len({made.GetName() for made in (*first.nodes, *second.nodes)}) == 8
    logic.remove(first)
    assert logic.outcome is second
    assert all(made.GetScene() is application.scene for made in second.nodes)
    logic.remove(second)
    assert logic.outcome is None
    left = kinds(application) - before
    assert left <= Counter(vtkMRMLColorTableNode=1, vtkMRMLSubjectHierarchyNode=1), left


def test_only_the_slices_shown(application, node, toy_models):
    view = SliceView(application)
    SliceView(application, "Coronal")
    slicer.vtkMRMLSliceNode.JumpAllSlices(application.scene, 0.0, 0.0, 40.0 + 6.0 * 7)
    _, outcome = analysed(application, node, toy_models, onlyShown=True)
    rows = [row for row in outcome.rows if row.kind == "slice"]
    assert len(rows) == 1
    assert rows[0].ras[2] == pytest.approx(82.0)
    heat = vtk_to_numpy(outcome.overlayNode.GetImageData().GetPointData().GetScalars()).reshape(trunk().shape)
    assert [bool(plane.any()) for plane in heat] == [k == 7 for k in range(12)]
    view.node.SetOrientation("Sagittal")
    logic = AnomapLogic(application.scene, WithinProcess())
    with pytest.raises(ValueError, match="No axial slice view"):
        logic.start(node, Settings(onlyShown=True))


def test_slices_shown_outside_of_the_volume_are_refused(application, node, toy_models):
    SliceView(application)
    slicer.vtkMRMLSliceNode.JumpAllSlices(application.scene, 0.0, 0.0, 900.0)
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(node, Settings(modelFolder=str(toy_models), onlyShown=True))
    assert finish(logic) is State.FAILED
    assert "outside of the volume" in logic.message


def test_dicom_objects_come_with_a_volume_from_dicom_and_are_exported(application, ct, toy_models, tmp_path):
    node, files, _ = ct
    logic, outcome = analysed(application, node, toy_models, files=files)
    names = [Path(name).name for name in outcome.dicomFiles]
    assert names == ["sr.dcm", "seg.dcm", "pm.dcm"]
    assert outcome.warnings == []
    assert [complaints(Path(name)) for name in outcome.dicomFiles] == [[], [], []]
    database = tmp_path / "database"
    assert logic.exportDicom(outcome, lambda folder: shutil.copytree(folder, database)) == 3
    report = dcmread(database / "sr.dcm")
    source = dcmread(next(iter(files.values())))
    assert (report.StudyInstanceUID, report.PatientID) == (source.StudyInstanceUID, source.PatientID)
    logic.close()
    with pytest.raises(ValueError, match="gone"):
        logic.exportDicom(outcome, lambda folder: None)


def test_without_dicom_there_is_nothing_to_export(application, node, toy_models):
    logic, outcome = analysed(application, node, toy_models)
    assert any("no DICOM files" in text for text in outcome.warnings)
    with pytest.raises(ValueError, match="no DICOM report"):
        logic.exportDicom(outcome, lambda folder: pytest.fail("nothing to import"))


@pytest.mark.parametrize("harm", ["changed", "one file missing"])
def test_a_volume_that_is_no_longer_its_files_is_analysed_without_report(application, ct, toy_models, harm):
    node, files, _ = ct
    if harm == "changed":
        scalars = vtk_to_numpy(node.GetImageData().GetPointData().GetScalars())
        scalars[1000] += 40
    else:
        files.pop(next(iter(files)))
    _, outcome = analysed(application, node, toy_models, files=files)
    assert outcome.dicomFiles == []
    assert any("without report" in text or "no DICOM report" in text for text in outcome.warnings)


def test_a_radiograph_from_dicom(application, toy_models, tmp_path):
    """The node holds stored values, inverted ones here; the model sees the picture as it is meant to be seen."""
    (path,) = write_radiograph_phantom(tmp_path, rows=96, columns=80)
    header = dcmread(path)
    node = application.volume(header.pixel_array[None].astype(np.uint16), ijk_to_ras(np.eye(4)[[2, 1, 0, 3]]), "dx")
    node.SetAttribute("DICOM.instanceUIDs", header.SOPInstanceUID)
    _, outcome = analysed(application, node, toy_models, files={header.SOPInstanceUID: str(path)})
    assert outcome.unit == "grey level"
    assert "sr.dcm" in {Path(name).name for name in outcome.dicomFiles}
    assert outcome.overlayNode.GetImageData().GetDimensions() == (80, 96, 1)


def made(application, components: int) -> object:
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.GetPointData().SetScalars(numpy_to_vtk(np.zeros((64, components), np.uint8), deep=True))
    kind = "vtkMRMLScalarVolumeNode" if components == 1 else "vtkMRMLVectorVolumeNode"
    node = application.scene.AddNewNodeByClass(kind)
    node.SetAndObserveImageData(image)
    return node


def test_what_can_not_be_analysed_is_said_in_one_line(application, node):
    logic = AnomapLogic(application.scene, WithinProcess())
    empty = application.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    labels = application.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    labels.SetAndObserveImageData(node.GetImageData())
    gone = application.volume(trunk(), ijk_to_ras(spl_affine()))
    application.scene.RemoveNode(gone)
    cases = {
        "Choose a volume.": None,
        "no longer in the scene": gone,
        "no voxels": empty,
        "in colour": made(application, 3),
        "label map": labels,
    }
    for words, volume in cases.items():
        assert words in logic.reasonAgainst(volume)
        with pytest.raises(ValueError, match=words):
            logic.start(volume, Settings())
    assert logic.reasonAgainst(node) == ""
    assert logic.state is State.IDLE


def test_an_mr_like_volume_is_refused_with_code_and_way_out(application, toy_models):
    volume = application.volume(np.abs(trunk()), ijk_to_ras(spl_affine()))
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(volume, Settings(modelFolder=str(toy_models)))
    nodes = application.scene.GetNumberOfNodes()
    assert finish(logic) is State.FAILED
    assert logic.message == "E109 no voxel is below 0: these are no Hounsfield units. Give a CT volume in HU."
    assert application.scene.GetNumberOfNodes() == nodes


def test_only_one_analysis_at_a_time(application, node, toy_models):
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(node, Settings(modelFolder=str(toy_models)))
    with pytest.raises(ValueError, match="running"):
        logic.start(node, Settings())
    assert finish(logic) is State.DONE


@pytest.mark.parametrize("when", ["before the first node", "after the first node"])
def test_a_volume_that_leaves_the_scene_takes_the_result_along(application, node, toy_models, when):
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(node, Settings(modelFolder=str(toy_models)))
    if when == "after the first node":
        while logic._partial is None or not logic._partial.nodes:
            logic.update()
    application.scene.RemoveNode(node)
    assert finish(logic) is State.FAILED
    assert "no longer in the scene" in logic.message
    names = [application.scene.GetNthNode(n).GetName() for n in range(application.scene.GetNumberOfNodes())]
    assert not [name for name in names if name and ("unusual" in name or "reconstruction" in name)]


def test_cancel_while_nodes_are_made_removes_them(application, node, toy_models):
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(node, Settings(modelFolder=str(toy_models)))
    while logic._partial is None or len(logic._partial.nodes) < 2:
        logic.update()
    logic.cancel()
    assert logic.state is State.CANCELLED
    assert logic.outcome is None
    assert application.scene.GetFirstNodeByName("trunk reconstruction") is None


def test_events_move_the_bar_forward_and_fill_the_log(application, node):
    class Told(WithinProcess):
        def start(self, write, read) -> None:
            self._events = [
                {"event": "stage", "stage": "read", "done": 0, "total": 1},
                {"event": "model", "model": "m", "version": "1", "reason": "because"},
                {"event": "device", "device": "cuda", "torch": "2.13.0", "free_gb": 3.5},
                {"event": "stage", "stage": "project", "done": 15, "total": 30},
                {"event": "note", "text": "out of memory; again on the CPU, which takes longer"},
                {"event": "stage", "stage": "project", "done": 0, "total": 30},
                {"event": "unheard of"},
            ]

    logic = AnomapLogic(application.scene, Told())
    logic.start(node, Settings())
    seen = []
    for event in logic.runner.poll():
        logic._take(event)
        seen.append(logic.fraction)
    assert seen == sorted(seen)
    assert 0.4 < seen[-1] < 0.6
    assert logic.message == "project 0 %"
    assert logic.log == [
        "m 1: because",
        "device: cuda, torch 2.13.0, 3.5 GB free",
        "out of memory; again on the CPU, which takes longer",
    ]


def test_nothing_of_the_job_stays_when_the_application_ends(application, ct, toy_models):
    node, files, _ = ct
    logic, outcome = analysed(application, node, toy_models, files=files)
    folder = Path(outcome.dicomFiles[0]).parent.parent
    content = json.loads((folder / "job.json").read_text())
    assert content["config"]["outputs"] == ["sr", "seg", "pm"]
    logic.close()
    assert not folder.exists()
