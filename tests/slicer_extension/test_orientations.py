"""A volume may be stored in any order, lie askew and be under a transform: the result lies where the patient is."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import slicer
import vtk
from AnomapLib.geometry import affineOf, ownLps, toMatrix, toWorldOf, voxelsOf, worldRas
from AnomapLib.logic import AnomapLogic, Settings, State
from pydicom import dcmread

from anomap.dicom.phantom import write_ct_phantom
from tests.slicer_extension.runs import (
    RAS_LPS,
    WithinProcess,
    analysed,
    finish,
    ijk_to_ras,
    rearranged,
    spl_affine,
    trunk,
    value_at,
)

BEAD = (7, 22, 46)
ARRANGEMENTS = {  # how files of other worlds store the same patient: order of (S, P, L) axes, which run backwards
    "DICOM axial": ((0, 1, 2), (False, False, False)),
    "head first, listed downwards": ((0, 1, 2), (True, False, False)),  # left-handed
    "NIfTI, turned by 180 degrees": ((0, 1, 2), (False, True, True)),
    "mirrored rows": ((0, 1, 2), (False, True, False)),  # left-handed
    "sagittal": ((2, 0, 1), (False, True, False)),
    "sagittal from the right": ((2, 0, 1), (True, True, False)),
    "coronal": ((1, 0, 2), (False, True, False)),
    "coronal from behind": ((1, 0, 2), (True, True, True)),
    "transposed": ((0, 2, 1), (False, False, True)),
}


def point_ras(affine: np.ndarray, index: tuple[int, int, int]) -> np.ndarray:
    return (RAS_LPS @ affine @ (*index, 1.0))[:3]


@pytest.fixture(scope="module")
def reference(toy_models) -> np.ndarray:
    """The heat of `trunk` as it is, `(k, row, col)`."""
    from tests.slicer_extension.scene import Application

    application = Application()
    _, outcome = analysed(application, application.volume(trunk(), ijk_to_ras(spl_affine())), toy_models)
    return voxelsOf(outcome.overlayNode).copy()


def test_the_bead_is_what_the_heat_shows(reference, application, toy_models):
    clean = trunk()
    clean[BEAD[0] - 2 : BEAD[0] + 3, BEAD[1] - 2 : BEAD[1] + 3, BEAD[2] - 2 : BEAD[2] + 3] = 40
    _, outcome = analysed(application, application.volume(clean, ijk_to_ras(spl_affine())), toy_models)
    added = reference - voxelsOf(outcome.overlayNode)
    peak = np.unravel_index(added.argmax(), added.shape)
    assert np.abs(np.subtract(peak, BEAD)).max() <= 6  # a window reaches half its width beyond the bead


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_every_arrangement_gives_the_same_heat_at_the_same_place(name, application, toy_models, reference):
    voxels, affine = rearranged(trunk(), spl_affine(), *ARRANGEMENTS[name])
    node = application.volume(voxels, ijk_to_ras(affine))
    _, outcome = analysed(application, node, toy_models)
    back, _ = rearranged(reference, spl_affine(), *ARRANGEMENTS[name])
    np.testing.assert_allclose(voxelsOf(outcome.overlayNode), back, atol=1e-3)
    np.testing.assert_allclose(affineOf(outcome.overlayNode), affine, atol=1e-9)
    # ... and once more by VTK's own arithmetic, at a known point of the patient
    peak = np.unravel_index(reference.argmax(), reference.shape)
    assert value_at(outcome.overlayNode, point_ras(spl_affine(), peak)) == pytest.approx(reference.max(), abs=1e-3)
    first = min((row for row in outcome.rows if row.kind == "slice"), key=lambda row: -row.score)
    assert np.abs(first.ras - point_ras(spl_affine(), peak)).max() <= 16  # mm; the middle of the worst window


def test_all_48_arrangements_turn_into_one(reference, toy_models, application):
    from anomap.preprocessing.orientation import AXIAL, turn_towards

    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        voxels, affine = rearranged(trunk(), spl_affine(), order, flips)
        turn = turn_towards(affineOf(application.volume(voxels, ijk_to_ras(affine))), AXIAL)
        assert np.array_equal(turn.turned(voxels), trunk()), (order, flips)


def rotated(affine: np.ndarray, degrees: float, axis: str) -> np.ndarray:
    transform = vtk.vtkTransform()
    {"S": transform.RotateZ, "R": transform.RotateX}[axis](degrees)
    matrix = np.array([[transform.GetMatrix().GetElement(r, c) for c in range(4)] for r in range(4)])
    return matrix @ affine


@pytest.mark.parametrize(("degrees", "axis"), [(12.0, "S"), (-14.0, "R")])
def test_oblique_slices_are_scored_as_they_are(degrees, axis, application, toy_models, reference):
    affine = rotated(spl_affine(), degrees, axis)
    _, outcome = analysed(application, application.volume(trunk(), ijk_to_ras(affine)), toy_models)
    np.testing.assert_allclose(voxelsOf(outcome.overlayNode), reference, atol=1e-3)
    peak = np.unravel_index(reference.argmax(), reference.shape)
    assert value_at(outcome.overlayNode, point_ras(affine, peak)) == pytest.approx(reference.max(), abs=1e-3)
    assert not any("rotated" in text for text in outcome.warnings)


def test_a_strongly_turned_volume_is_scored_with_a_warning(application, toy_models):
    node = application.volume(trunk(), ijk_to_ras(rotated(spl_affine(), 35.0, "S")))
    _, outcome = analysed(application, node, toy_models)
    assert "the slices are rotated by 35 degrees against the patient's axes" in outcome.warnings


def test_a_strongly_tilted_volume_is_refused(application, toy_models):
    logic = refused(application, trunk(), rotated(spl_affine(), 40.0, "R"), toy_models)
    assert logic.message.startswith("E113 the slices are tilted by 40 degrees")


def test_thick_sagittal_slices_are_cut_axially_with_a_warning(application, toy_models):
    affine = spl_affine((6.0, 5.0, 13.5))
    voxels, affine = rearranged(trunk()[:, :, 1::3], affine, (2, 0, 1), (False, True, False))
    _, outcome = analysed(application, application.volume(voxels, ijk_to_ras(affine)), toy_models)
    assert "pixels of axial slices are 5.0 x 13.5 mm: scores are coarse" in outcome.warnings
    assert outcome.overlayNode.GetImageData().GetDimensions() == voxels.shape[::-1]
    rows = [row for row in outcome.rows if row.kind == "slice"]
    assert len(rows) == 12  # axial slices, not the 24 sagittal ones it was stored in


def put_under(application, node, matrix: np.ndarray):
    transform = application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(toMatrix(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_a_linear_transform_is_followed(application, toy_models, reference):
    """The stored volume lies on its side; the user has turned it upright. What counts is how it lies now."""
    upright = np.array([[0, 1, 0, 10.0], [-1, 0, 0, -20.0], [0, 0, 1, 5.0], [0, 0, 0, 1]])
    lying = np.linalg.inv(upright) @ ijk_to_ras(spl_affine())
    node = application.volume(trunk(), lying)
    transform = put_under(application, node, upright)
    _, outcome = analysed(application, node, toy_models)
    np.testing.assert_allclose(voxelsOf(outcome.overlayNode), reference, atol=1e-3)
    for made in outcome.nodes[:3]:
        if hasattr(made, "GetParentTransformNode"):
            assert made.GetParentTransformNode() is transform
    peak = np.unravel_index(reference.argmax(), reference.shape)
    first = min((row for row in outcome.rows if row.kind == "slice"), key=lambda row: -row.score)
    assert np.abs(first.ras - point_ras(spl_affine(), peak)).max() <= 16  # world RAS, not the lying volume's own


def test_places_go_to_the_world_and_back(application):
    node = application.volume(trunk(), ijk_to_ras(spl_affine()))
    put_under(application, node, np.array([[0, -1, 0, 3.0], [1, 0, 0, 4.0], [0, 0, 1, 5.0], [0, 0, 0, 1]]))
    lps = (12.0, -7.0, 70.0)  # RAS -12, 7, 70: under the transform -7 + 3, -12 + 4, 70 + 5
    assert worldRas(node, lps) == pytest.approx((-4.0, -8.0, 75.0))
    assert ownLps(node, worldRas(node, lps)) == pytest.approx(lps)
    to_world, nonlinear = toWorldOf(node)
    assert not nonlinear
    assert RAS_LPS @ to_world @ (*lps, 1.0) == pytest.approx((-4.0, -8.0, 75.0, 1.0))


def refused(application, voxels, affine, toy_models, under=None) -> AnomapLogic:
    node = application.volume(voxels, ijk_to_ras(affine))
    if under is not None:
        node.SetAndObserveTransformNodeID(under.GetID())
    logic = AnomapLogic(application.scene, WithinProcess())
    logic.start(node, Settings(modelFolder=str(toy_models)))
    assert finish(logic) is State.FAILED
    assert logic.outcome is None
    return logic


def test_a_shearing_transform_is_refused(application, toy_models):
    node = application.volume(trunk(), ijk_to_ras(spl_affine()))
    shearing = put_under(application, node, np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    logic = refused(application, trunk(), spl_affine(), toy_models, shearing)
    assert logic.message.startswith("E112 the volume's axes are not perpendicular")
    assert "Transforms module" in logic.message


def grid_transform(application, shift_mm: float = 20.0):
    """A bend as Slicer's DICOM reader makes for tilted gantries: a displacement that grows from slice to slice."""
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.SetOrigin(-300, -300, 0)
    image.SetSpacing(600, 600, 400)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for k, j, i in product(range(2), repeat=3):
        for component, shift in enumerate((0.0, shift_mm * k + 0.01 * i, 0.0)):
            image.SetScalarComponentFromDouble(i, j, k, component, shift)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    node = application.scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformToParent(grid)
    return node


def test_a_bending_transform_without_dicom_is_refused(application, toy_models):
    logic = refused(application, trunk(), spl_affine(), toy_models, grid_transform(application))
    assert logic.message.startswith("E112 the volume is under a non-linear transform")


def test_a_bending_transform_with_dicom_is_handled(application, toy_models, tmp_path):
    """The files say where a tilted slice lies; the overlay goes under the same transform as the volume."""
    paths = write_ct_phantom(tmp_path, slices=6, rows=64, columns=64)
    headers = [dcmread(path) for path in paths]
    for k, header in enumerate(headers):  # a gantry tilted by 15 degrees moves each slice along the bed
        header.ImagePositionPatient = [header.ImagePositionPatient[0], -100 + 1.34 * k, header.ImagePositionPatient[2]]
        header.save_as(paths[k])
    voxels = np.stack([header.pixel_array.astype(np.int16) + int(header.RescaleIntercept) for header in headers])
    affine = spl_affine((5.0, 3.0, 3.0))  # as Slicer loads it: upright
    node = application.volume(voxels, ijk_to_ras(affine))
    node.SetAttribute("DICOM.instanceUIDs", " ".join(header.SOPInstanceUID for header in headers))
    bend = grid_transform(application)
    node.SetAndObserveTransformNodeID(bend.GetID())
    files = {str(header.SOPInstanceUID): str(path) for header, path in zip(headers, paths, strict=True)}
    _, outcome = analysed(application, node, toy_models, files=files)
    assert outcome.dicomFiles
    assert outcome.overlayNode.GetParentTransformNode() is bend
    np.testing.assert_allclose(affineOf(outcome.overlayNode), affine)
    row = outcome.rows[0]
    own = [0.0, 0.0, 0.0]
    node.TransformPointFromWorld(row.ras, own)
    assert abs(row.ras[1] - own[1]) > 1.0  # the place was bent along
    assert value_at(outcome.overlayNode, tuple(own)) > 0
