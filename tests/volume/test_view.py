"""What a viewer gets back lies where the lesion lies in its own volume, whatever way that is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from anomap.dicom.phantom import write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.evaluation.store import rows_of
from anomap.regions import Layer, find_regions
from anomap.volume.view import write_view
from tests.made import made_analysis
from tests.volume.jobs import AXIAL, affine_of, placed, scrambled

ALL = [(order, flip) for order in permutations(range(3)) for flip in product((False, True), repeat=3)]
SHAPE = (6, 40, 48)
SPACING = (5.0, 3.0, 2.5)
AFFINE = affine_of(AXIAL, SPACING, (-60.0, -80.0, 400.0))
LESION = np.array([-20.7, -31.2, 409.1])  # LPS mm
SECOND = np.array([35.1, 15.3, 419.4])
THRESHOLD = 50.0


def volume() -> np.ndarray:
    values = np.full(SHAPE, -1000, np.int16)
    values[:, 8:-8, 8:-8] = np.random.default_rng(0).normal(40, 60, (6, 24, 32))
    return values


def lps(affine: np.ndarray, index) -> np.ndarray:
    return (affine @ [*index, 1.0])[:3]


def lesions(series, points, heights, sigma_mm: float = 6.0) -> np.ndarray:
    """A map with a bell around each point, by distances in mm, and NaN where nothing is scored."""
    index = np.stack([*np.indices(series.pixels.shape), np.ones(series.pixels.shape)])
    where = np.einsum("ij,jkrc->ikrc", series.affine, index)[:3]
    wd = np.zeros(series.pixels.shape, np.float32)
    for point, height in zip(points, heights, strict=True):
        distance = np.linalg.norm(where - np.reshape(point, (3, 1, 1, 1)), axis=0)
        wd += (height * np.exp(-0.5 * (distance / sigma_mm) ** 2)).astype(np.float32)
    wd[:, :3] = np.nan
    return wd


def analysed(found, points=(LESION, SECOND), heights=(100.0, 80.0)):
    """A made-up result for what was placed, with regions found around the points (LPS mm of the series)."""
    series = found.series
    frames, rows, columns = series.pixels.shape
    made = made_analysis(modality=series.modality, frames=frames, rows=rows, columns=columns)
    wd = lesions(series, points, heights)
    scores = replace(made.score_map, maps={"wd": wd, "residual": wd, "mse": wd**2})
    labels, regions = find_regions(
        [Layer(score="wd_patch", values=wd, threshold=THRESHOLD, spread=10.0)], wd, series.affine,
        is_volume=series.modality == "CT", min_area_px=1,
    )  # fmt: skip
    regions = tuple(replace(region, p_value=0.1) for region in regions)
    result = replace(made.result, labels=labels, regions=regions, region_thresholds={"wd_patch": THRESHOLD})
    return replace(made, series=series, score_map=scores, result=result)


def written(folder, found, job, analysis, dicom=()):
    """All that a viewer reads."""
    folder.mkdir()
    write_view(analysis, found, job, folder, list(dicom))
    view = json.loads((folder / "view.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    with np.load(folder / "regions.npz", allow_pickle=False) as archive:
        masks = {name: archive[name] for name in archive.files}
    return view, np.load(folder / "wd.npy"), np.load(folder / "reconstruction.npy"), masks


def rebuilt(view, masks, shape) -> np.ndarray:
    """Labels of the viewer's volume from the cut masks."""
    labels = np.zeros(shape, np.uint16)
    for region in view["regions"]:
        mask = masks[str(region["label"])]
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}
        box = tuple(slice(start, start + size) for start, size in zip(region["start"], mask.shape, strict=True))
        assert labels[box].shape == mask.shape, "the mask leaves the volume"
        labels[box][mask > 0] = region["label"]
    return labels


@pytest.mark.parametrize(("order", "flip"), ALL)
def test_map_masks_and_places_meet_at_the_lesion(tmp_path, order, flip) -> None:
    voxels, affine = scrambled(volume(), AFFINE, order, flip)
    found, job = placed(tmp_path / "job", voxels, affine)
    analysis = analysed(found)
    view, wd, reconstruction, masks = written(tmp_path / "result", found, job, analysis)
    assert (wd.shape, wd.dtype) == (voxels.shape, np.float32)
    assert (reconstruction.shape, reconstruction.dtype) == (voxels.shape, np.int16)
    assert np.isfinite(wd).all()
    voxel = np.sort(SPACING)[-1] / 2 + 1e-6  # the lesions lie between voxel centres
    peak = lps(affine, np.unravel_index(wd.argmax(), wd.shape))
    assert (np.abs(peak - LESION) <= [1.25 + 1e-6, 1.5 + 1e-6, 2.5 + 1e-6]).all()
    labels = rebuilt(view, masks, voxels.shape)
    np.testing.assert_array_equal(labels > 0, wd > THRESHOLD)
    assert [region["label"] for region in view["regions"]] == [1, 2]
    for region, point in zip(view["regions"], (LESION, SECOND), strict=True):
        centre = ndimage.center_of_mass(labels == region["label"])
        assert np.linalg.norm(lps(affine, centre) - point) < voxel
        assert np.linalg.norm(region["place_lps_mm"] - point) < voxel
        assert region["score"] == pytest.approx(wd[labels == region["label"]].max())
        assert region["volume_ml"] == pytest.approx((labels == region["label"]).sum() * np.prod(SPACING) / 1000)
    assert view["maximum"] == pytest.approx(wd.max())
    assert view["threshold"] == THRESHOLD


def test_of_every_way_to_store_a_volume_the_same_is_said(tmp_path) -> None:
    seen = []
    for number, (order, flip) in enumerate(ALL[::7]):
        voxels, affine = scrambled(volume(), AFFINE, order, flip)
        found, job = placed(tmp_path / f"job{number}", voxels, affine)
        view, *_ = written(tmp_path / f"result{number}", found, job, analysed(found))
        for region in view["regions"]:
            del region["start"]
        seen.append(json.loads(json.dumps(view), parse_float=lambda text: round(float(text), 6)))
    assert all(view == seen[0] for view in seen)


def test_places_are_those_of_the_volume_itself_not_of_where_a_transform_puts_it(tmp_path) -> None:
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("zx", [12, -9], degrees=True).as_matrix()
    world[:3, 3] = 40.0, -30.0, 20.0
    voxels, affine = scrambled(volume(), AFFINE, (0, 1, 2), (False, True, True))
    found, job = placed(tmp_path / "job", voxels, affine, to_world=world)
    moved = [lps(world, point) for point in (LESION, SECOND)]
    view, wd, _, _ = written(tmp_path / "result", found, job, analysed(found, moved))
    for region, point in zip(view["regions"], (LESION, SECOND), strict=True):
        assert np.linalg.norm(region["place_lps_mm"] - point) < 2.5
    peak = lps(affine, np.unravel_index(wd.argmax(), wd.shape))
    assert (np.abs(peak - LESION) <= [1.25 + 1e-6, 1.5 + 1e-6, 2.5 + 1e-6]).all()


@pytest.mark.parametrize(("order", "flip"), [ALL[0], ALL[13], ALL[30], ALL[47]])
def test_slices_that_were_not_analysed_are_empty(tmp_path, order, flip) -> None:
    voxels, affine = scrambled(volume(), AFFINE, order, flip)
    through = [lps(AFFINE, (k, 20, 20)) for k in (1, 3)]
    found, job = placed(tmp_path / "job", voxels, affine, through=through)
    view, wd, reconstruction, masks = written(tmp_path / "result", found, job, analysed(found))
    back = [
        np.flip(array, [a for a in range(3) if flip[a]]).transpose(np.argsort(order)) for array in (wd, reconstruction)
    ]
    for array, fill in zip(back, (0, -1000), strict=True):
        assert (array[[0, 4, 5]] == fill).all()
        assert not (array[1:4] == fill).all(axis=(1, 2)).any()
    assert np.linalg.norm(view["regions"][0]["place_lps_mm"] - LESION) < 2.5
    assert rebuilt(view, masks, voxels.shape).any()
    assert len(view["slices"]) == 3


def test_the_reconstruction_is_the_models_picture_in_hounsfield_units_and_air_elsewhere(tmp_path) -> None:
    """Bilinear between model pixels, written with scipy."""
    voxels, affine = scrambled(volume(), AFFINE, (2, 1, 0), (True, False, False))
    found, job = placed(tmp_path / "job", voxels, affine)
    analysis = analysed(found)
    prepared = analysis.prepared
    valid = prepared.valid.copy()
    valid[:, :, :, 40:] = False  # the model saw the left part only
    analysis = replace(analysis, prepared=replace(prepared, valid=valid, body=valid))
    _, _, reconstruction, _ = written(tmp_path / "result", found, job, analysis)
    back = np.flip(reconstruction, 0).transpose(2, 1, 0)
    to_model = np.linalg.inv(prepared.to_source[0])
    hu = 50.0 + 175.0 * analysis.reconstruction.images[0, 0].astype(float)
    row, column = np.mgrid[4:36, 2:26]
    at = np.einsum("ij,jrc->irc", to_model, np.stack([row, column, np.ones_like(row)]).astype(float))[:2]
    assert at[1].max() < 38
    expected = ndimage.map_coordinates(hu, at, order=1)
    assert np.abs(back[2, 4:36, 2:26] - expected).max() <= 0.51
    assert (back[:, :, 40:] == -1000).all()


def test_each_slice_names_the_middle_of_its_worst_window(tmp_path) -> None:
    voxels, affine = scrambled(volume(), AFFINE, (1, 0, 2), (False, True, False))
    found, job = placed(tmp_path / "job", voxels, affine)
    analysis = analysed(found)
    windows = np.array([[20 + n, 30 - n, 24 + n, 34 - n] for n in range(6)])
    analysis = replace(analysis, score_map=replace(analysis.score_map, top_window=windows))
    view, *_ = written(tmp_path / "result", found, job, analysis)
    for n, entry in enumerate(view["slices"]):
        row0, col0, row1, col1 = windows[n]
        pixels = [(row, col, 1.0) for row in range(row0, row1) for col in range(col0, col1)]
        row, col, _ = np.mean([analysis.prepared.to_source[n] @ pixel for pixel in pixels], axis=0)
        np.testing.assert_allclose(entry["place_lps_mm"], lps(AFFINE, (n, row, col)), atol=1e-9)
        assert entry["score"] == analysis.score_map.per_image["wd_patch"][n]
        assert entry["p_value"] == analysis.result.p_by_score["wd_patch"][n]


def test_the_oddest_places_come_first_with_their_unit_and_are_found_in_the_volume(tmp_path) -> None:
    found, job = placed(tmp_path / "job", volume(), AFFINE)
    analysis = analysed(found)
    view, *_ = written(tmp_path / "result", found, job, analysis)
    scores = analysis.score_map.per_image["neighbour_patch"]
    assert [entry["score"] for entry in view["places"]] == sorted(scores, reverse=True)
    assert {entry["unit"] for entry in view["places"]} == {"sd"}
    worst = int(scores.argmax())
    row0, col0, row1, col1 = analysis.score_map.top_change[worst]
    middle = ((row0 + row1 - 1) / 2, (col0 + col1 - 1) / 2, 1.0)
    row, col, _ = analysis.prepared.to_source[worst] @ middle
    np.testing.assert_allclose(view["places"][0]["place_lps_mm"], lps(AFFINE, (worst, row, col)), atol=1e-9)
    without = replace(analysis, score_map=replace(analysis.score_map, top_change=None, top_place=None))
    assert written(tmp_path / "other", found, job, without)[0]["places"] == []


def test_frames_without_a_body_have_no_slice_and_the_others_keep_their_place(tmp_path) -> None:
    """The model saw the frames 2 and 4 only."""
    found, job = placed(tmp_path / "job", volume(), AFFINE)
    analysis = analysed(found)
    some = np.array([2, 4])
    prepared = replace(
        analysis.prepared,
        **{name: getattr(analysis.prepared, name)[some]
           for name in ("images", "valid", "body", "frame", "to_source", "gain", "offset")},
        frame_ids=tuple(found.series.frame_ids[k] for k in some),
    )  # fmt: skip
    fit = rows_of(analysis.reconstruction, some)
    scores = replace(
        analysis.score_map, frame=some, top_window=analysis.score_map.top_window[some],
        top_place=analysis.score_map.top_place[some], top_change=analysis.score_map.top_change[some],
        per_image={name: values[some] for name, values in analysis.score_map.per_image.items()},
    )  # fmt: skip
    ranked = {name: p[some] for name, p in analysis.result.p_by_score.items()}
    result = replace(analysis.result, p_by_score=ranked)
    analysis = replace(analysis, prepared=prepared, reconstruction=fit, score_map=scores, result=result)
    view, _, reconstruction, _ = written(tmp_path / "result", found, job, analysis)
    assert [round((entry["place_lps_mm"][2] - 400.0) / 5.0, 6) for entry in view["slices"]] == [2.0, 4.0]
    assert [bool((frame != -1000).any()) for frame in reconstruction] == [k in some for k in range(6)]


def test_without_a_cohort_there_are_no_p_values_and_no_numbers_that_json_lacks(tmp_path) -> None:
    found, job = placed(tmp_path / "job", volume(), AFFINE)
    analysis = analysed(found)
    result = replace(
        analysis.result,
        cohort_size=0,
        cohort_description="",
        p_value=1.0,
        p_by_score={},
        region_thresholds={"wd_patch": np.inf},
    )
    view, wd, _, _ = written(tmp_path / "result", found, job, replace(analysis, result=result))
    assert view["p_value"] is None
    assert {entry["p_value"] for entry in [*view["regions"], *view["slices"]]} == {None}
    assert view["threshold"] == view["maximum"] == pytest.approx(wd.max())


def test_without_regions_there_are_no_masks(tmp_path) -> None:
    found, job = placed(tmp_path / "job", volume(), AFFINE)
    analysis = analysed(found, points=(LESION,), heights=(THRESHOLD - 1,))
    view, wd, _, masks = written(tmp_path / "result", found, job, analysis)
    assert (view["regions"], masks) == ([], {})
    assert 0 < wd.max() < THRESHOLD


def test_what_is_said_of_the_result_is_said_to_the_viewer(tmp_path) -> None:
    found, job = placed(tmp_path / "job", volume(), AFFINE)
    analysis = analysed(found)
    view, *_ = written(tmp_path / "result", found, job, analysis, dicom=["sr.dcm"])
    assert view["format"] == "anomap.view/1"
    assert (view["verdict"], view["p_value"]) == ("REVIEW", analysis.result.p_value)
    assert view["reasons"] == ["The scores were made up."]
    assert view["cohort"] == {"description": "Made-up adults, frontal, 2020", "images": 120}
    assert (view["model"], view["choice"], view["device"], view["unit"]) == ("made-up 0.0.1", "made up", "cpu", "HU")
    assert view["warnings"] == list(found.series.warnings) != []
    assert view["grey_window"] == [-125.0, 225.0]
    assert view["dicom"] == ["sr.dcm"]


def test_a_picture_without_a_spacing_is_measured_in_pixels(tmp_path) -> None:
    picture = np.random.default_rng(0).random((1, 40, 48)).astype(np.float32)
    affine = affine_of(AXIAL, (1.0, 0.5, 0.5), (-12.0, -10.0, 0.0))
    voxels, stored = scrambled(picture, affine, (0, 2, 1), (False, True, False))
    found, job = placed(tmp_path / "job", voxels, stored)
    point = lps(affine, (0, 20, 30))
    # One pixel is one unit of area here, not 0.25 mm2: nobody says that the affine is in millimetres.
    analysis = analysed(found, (lps(found.series.affine, (0, 20, 30)),), (100.0,))
    view, wd, reconstruction, masks = written(tmp_path / "result", found, job, analysis)
    (region,) = view["regions"]
    np.testing.assert_allclose(region["place_lps_mm"], point, atol=0.25)
    np.testing.assert_allclose(lps(stored, np.unravel_index(wd.argmax(), wd.shape)), point, atol=1e-6)
    assert "area_mm2" not in region
    assert region["volume_ml"] is None
    assert region["area_px"] == (rebuilt(view, masks, voxels.shape) > 0).sum()
    assert (reconstruction.shape, reconstruction.dtype) == (voxels.shape, np.float32)
    assert np.isfinite(reconstruction).all()
    assert reconstruction.min() >= 0.0


def test_a_radiograph_from_a_file_is_measured_in_square_millimetres(tmp_path) -> None:
    (path,) = write_radiograph_phantom(tmp_path / "dx", rows=90, columns=80)
    (series,) = read_study(path).series
    affine = affine_of(AXIAL, (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))  # a viewer may place it as it likes
    found, job = placed(tmp_path / "job", series.pixels, affine, files=[path])
    point = lps(series.affine, (0, 40, 50))
    view, wd, _, masks = written(
        tmp_path / "result",
        found,
        job,
        analysed(
            found,
            (point,),
            (100.0,),
        ),
    )
    (region,) = view["regions"]
    np.testing.assert_allclose(region["place_lps_mm"], lps(affine, (0, 40, 50)), atol=0.5)
    np.testing.assert_array_equal(np.unravel_index(wd.argmax(), wd.shape), (0, 40, 50))
    pixels = int((rebuilt(view, masks, wd.shape) > 0).sum())
    assert region["area_mm2"] == pytest.approx(pixels * 4.0**2)  # 360 mm in 90 rows
