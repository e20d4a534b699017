"""What the views show, compared with stored pictures: overlay, outlines, threshold, opacity, flip.

The result is made up, so that the pictures don't change with a model. UPDATE_PICTURES=1 stores them anew; look at them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from AnomapLib.job import View
from AnomapLib.logic import AnomapLogic, Outcome
from AnomapLib.results import build
from PIL import Image
from scipy import ndimage
from vtk.util.numpy_support import numpy_to_vtk

from tests.slicer_extension.runs import WithinProcess, ijk_to_ras, rearranged, spl_affine, trunk
from tests.slicer_extension.scene import SliceView

PICTURES = Path(__file__).parent / "pictures"
BEAD = (7, 22, 46)
MEAN_DIFFERENCE = 1.5  # grey levels; another VTK draws edges a little differently
FAR, FEW = 40, 0.01  # at most this share of the pixels may differ by more


def made_up() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heat around the bead, a smooth reconstruction, the region's mask; all `(k, row, col)` of `trunk`."""
    k, row, col = np.mgrid[tuple(slice(0, n) for n in trunk().shape)]
    far = np.sqrt(((k - BEAD[0]) * 6) ** 2 + ((row - BEAD[1]) * 5) ** 2 + ((col - BEAD[2]) * 4.5) ** 2)
    heat = np.maximum(0.0, 160.0 - 2.2 * far).astype(np.float32)
    return heat, np.round(ndimage.gaussian_filter(trunk().astype(float), 2.5)).astype(np.int16), heat > 100


@pytest.fixture(params=["as stored by DICOM", "as stored by NIfTI"])
def shown(request, application):
    """A logic with a shown result, and the three views."""
    affine = spl_affine()
    arrays = [trunk(), *made_up()]
    if request.param == "as stored by NIfTI":
        flips = (False, True, True)
        arrays = [rearranged(array, affine, (0, 1, 2), flips)[0] for array in arrays]
        affine = rearranged(trunk(), affine, (0, 1, 2), flips)[1]
    voxels, heat, reconstruction, mask = arrays
    node = application.volume(voxels, ijk_to_ras(affine), "trunk")
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    centre = affine @ (*(index.mean() for index in np.nonzero(mask)), 1.0)
    region = {"label": 1, "score": 160.0, "p_value": 0.01, "volume_ml": 3.2, "area_mm2": 300.0}
    content = {
        "verdict": "UNCALIBRATED", "p_value": 0.01, "reasons": [], "warnings": [], "model": "made up", "unit": "HU",
        "cohort": {"description": "nobody", "images": 99}, "threshold": 100.0, "maximum": 160.0,
        "grey_window": [-160.0, 240.0], "slices": [],
        "regions": [{**region, "place_lps_mm": list(centre[:3]), "start": [side.start for side in box]}],
    }  # fmt: skip
    view = View(
        content=content,
        heat=numpy_to_vtk(heat.ravel(), deep=True),
        reconstruction=numpy_to_vtk(reconstruction.ravel(), deep=True),
        masks=[np.ascontiguousarray(mask[box]).astype(np.uint8)],
    )
    views = {name: SliceView(application, name, 256) for name in ("Axial", "Sagittal", "Coronal")}
    logic = AnomapLogic(application.scene, WithinProcess())
    outcome = Outcome(node)
    for _ in build(application.scene, node, affine, view, outcome):
        pass
    logic.show(outcome, opacity=0.6)
    for one in views.values():
        one.fit()
    logic.jumpTo(outcome.rows[0])
    return logic, outcome, views


def compare(picture: np.ndarray, name: str) -> None:
    path = PICTURES / f"{name}.png"
    if os.environ.get("UPDATE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path, optimize=True)
    stored = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert stored.shape == picture.shape
    difference = np.abs(stored - picture)
    assert difference.mean() < MEAN_DIFFERENCE, name
    assert (difference.max(axis=-1) > FAR).mean() < FEW, name


def coloured(picture: np.ndarray) -> np.ndarray:
    """Pixels that are not grey."""
    return np.ptp(picture.astype(int), axis=-1) > 25


@pytest.mark.parametrize("name", ["Axial", "Sagittal", "Coronal"])
def test_the_overlay_lies_over_the_bead_in_every_view(shown, name):
    """The same picture for both ways of storing: what a radiologist sees doesn't depend on the file format."""
    _, outcome, views = shown
    picture = views[name].picture()
    compare(picture, name.lower())
    hot = np.argwhere(coloured(picture))
    assert len(hot) > 0.005 * picture.shape[0] * picture.shape[1]
    assert np.abs(hot.mean(axis=0) - views[name].pixel_of(outcome.rows[0].ras)).max() < 4


def test_without_overlay_there_is_no_colour(shown):
    logic, outcome, views = shown
    logic.setOpacity(outcome, 0.0)
    outcome.segmentationNode.GetDisplayNode().SetVisibility(False)
    assert not coloured(views["Axial"].picture()).any()


def test_a_region_is_outlined_where_it_lies(shown):
    logic, outcome, views = shown
    logic.setOpacity(outcome, 0.0)
    picture = views["Axial"].picture()
    compare(picture, "outline")
    ring = np.argwhere(coloured(picture))
    assert np.abs(ring.mean(axis=0) - views["Axial"].pixel_of(outcome.rows[0].ras)).max() < 4
    row, column = views["Axial"].pixel_of(outcome.rows[0].ras)
    assert not coloured(picture)[row, column]  # an outline, not a filling


def test_a_higher_threshold_shows_less(shown):
    logic, outcome, views = shown
    outcome.segmentationNode.GetDisplayNode().SetVisibility(False)
    before = coloured(views["Axial"].picture()).sum()
    logic.setThreshold(outcome, 140.0)
    after = coloured(views["Axial"].picture()).sum()
    assert 0 < after < 0.5 * before
    compare(views["Axial"].picture(), "threshold")


def test_flipping_shows_the_reconstruction_and_the_input_again(shown):
    logic, outcome, views = shown
    logic.setOpacity(outcome, 0.0)
    outcome.segmentationNode.GetDisplayNode().SetVisibility(False)
    before = views["Axial"].picture()
    logic.showReconstruction(outcome, True)
    flipped = views["Axial"].picture()
    compare(flipped, "reconstruction")
    assert np.abs(flipped.astype(int) - before).mean() > 5
    logic.showReconstruction(outcome, False)
    assert np.array_equal(views["Axial"].picture(), before)
