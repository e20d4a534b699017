"""A viewer's voxels found again in their files, or turned by themselves; and the way back to the viewer's grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from anomap.dicom.phantom import nearest_voxel, write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.volume.place import CHANGED, MISSING
from tests.dicom.tools import ORIENTATIONS
from tests.volume.jobs import AXIAL, affine_of, infos_of, placed, scrambled

LEFT, BACK, HEAD = np.eye(3)
NEEDLE = (23.5, -46.0, 214.0)
SPACING = (5.0, 3.0, 2.5)
ORIGIN = (-60.0, -80.0, 400.0)
ALL = [(order, flip) for order in permutations(range(3)) for flip in product((False, True), repeat=3)]


def refusal(*words, **keys) -> AnomapError:
    with pytest.raises(AnomapError) as caught:
        placed(*words, **keys)
    assert "\n" not in str(caught.value)
    return caught.value


def lps(affine: np.ndarray, index) -> np.ndarray:
    return (affine @ [*index, 1.0])[:3]


def body(shape=(6, 40, 48), seed=0) -> np.ndarray:
    """HU of a box in air, with noise: no two voxels of the box are likely to be the same."""
    rng = np.random.default_rng(seed)
    values = np.full(shape, -1000.0)
    values[:, 8:-8, 8:-8] = rng.normal(40.0, 200.0, values[:, 8:-8, 8:-8].shape)
    return np.rint(values).astype(np.float32)


# --- from DICOM files


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A CT with a bead: its files, the series they hold, the bead's place."""
    folder = tmp_path_factory.mktemp("ct")
    paths = write_ct_phantom(folder, slices=5, rows=40, columns=44, spacing_mm=SPACING, needle_lps_mm=NEEDLE)
    (series,) = read_study(folder).series
    return paths, series, lps(series.affine, nearest_voxel(series.affine, NEEDLE))


@pytest.mark.parametrize(("order", "flip"), ALL)
def test_a_volume_is_found_in_its_files_whatever_way_the_viewer_stores_it(phantom, tmp_path, order, flip) -> None:
    paths, series, bead = phantom
    voxels, affine = scrambled(series.pixels.astype(np.int16), series.affine, order, flip)
    found, _ = placed(tmp_path, voxels, affine, files=paths[::-1])
    np.testing.assert_array_equal(found.series.pixels, series.pixels)
    np.testing.assert_array_equal(found.series.affine, series.affine)
    assert found.series.frame_ids == series.frame_ids
    assert [h.SOPInstanceUID for h in found.series.headers] == list(series.frame_ids)
    assert found.series.warnings == series.warnings
    np.testing.assert_array_equal(found.given_back(found.series.pixels, 0), voxels)
    # The bead is brightest; its place by the files' geometry and by the viewer's is one.
    index = np.argwhere(series.pixels == series.pixels.max()).mean(axis=0)
    np.testing.assert_allclose(lps(affine, found.index(index)), bead, atol=1e-6)


@pytest.mark.parametrize("name", list(ORIENTATIONS))
def test_a_volume_is_found_in_its_files_however_it_was_acquired(tmp_path, name) -> None:
    orientation = ORIENTATIONS[name]
    paths = write_ct_phantom(
        tmp_path / "ct", slices=4, rows=24, columns=28, spacing_mm=SPACING, orientation=orientation, reverse=True
    )
    (series,) = read_study(tmp_path / "ct").series
    voxels, affine = scrambled(series.pixels, series.affine, (1, 2, 0), (True, False, True))
    found, _ = placed(tmp_path / "job", voxels, affine, files=paths)
    assert found.series.frame_ids == series.frame_ids
    assert found.series.headers
    np.testing.assert_array_equal(found.given_back(series.pixels, 0), voxels)


@pytest.mark.parametrize(("by", "same"), [(0.5, True), (-0.5, True), (1.0, False), (-300.0, False), (np.nan, False)])
def test_a_voxel_that_was_changed_is_noticed_and_rounding_is_not(phantom, tmp_path, by, same) -> None:
    paths, series, _ = phantom
    voxels = series.pixels.copy()
    voxels[4, 39, 43] += by
    found, _ = placed(tmp_path, voxels, series.affine, files=paths)
    assert (CHANGED in found.series.warnings) is not same
    assert bool(found.series.headers) is same
    if not same:
        expected = np.where(np.isnan(voxels), -1000.0, voxels)
        np.testing.assert_array_equal(found.series.pixels, expected)
        assert not set(found.series.frame_ids) & set(series.frame_ids)
        assert found.series.frame_of_reference == ""


def test_padding_may_hold_what_the_reader_likes(tmp_path) -> None:
    paths = write_ct_phantom(tmp_path / "ct", slices=4, rows=24, columns=28)
    for path in paths:
        dataset = dcmread(path)
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(24, 28).copy()
        stored[:2] = 4000
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 4000)
        dataset.save_as(path)
    (series,) = read_study(tmp_path / "ct").series
    assert not series.valid[:, :2].any()
    for filled in (-2000.0, 3000.0):
        voxels = np.where(series.valid, series.pixels, filled).astype(np.float32)
        found, _ = placed(tmp_path / str(filled), voxels, series.affine, files=paths)
        assert found.series.frame_ids == series.frame_ids


def test_under_a_nonlinear_transform_the_files_count_if_nothing_was_changed(phantom, tmp_path) -> None:
    paths, series, _ = phantom
    found, _ = placed(tmp_path / "same", series.pixels, series.affine, files=paths, nonlinear=True)
    assert found.series.frame_ids == series.frame_ids
    error = refusal(tmp_path / "changed", series.pixels + 5, series.affine, files=paths, nonlinear=True)
    assert error.code == "E112"
    assert "differ" in error.message
    error = refusal(tmp_path / "voxels", series.pixels, series.affine, nonlinear=True)
    assert error.code == "E112"
    assert "transform" in error.remedy


@pytest.mark.parametrize("gone", [0, 2, 4])
def test_with_a_file_missing_the_voxels_are_analysed(phantom, tmp_path, gone) -> None:
    """Also at the ends, where the rest is still a regular series."""
    paths, series, _ = phantom
    files = [*paths[:gone], tmp_path / "gone.dcm", *paths[gone + 1 :]]
    found, _ = placed(tmp_path / "job", series.pixels, series.affine, files=files)
    assert found.series.warnings[0] == MISSING
    assert not found.series.headers
    np.testing.assert_array_equal(found.series.pixels, series.pixels)
    assert refusal(tmp_path / "bent", series.pixels, series.affine, files=files, nonlinear=True).code == "E112"


def test_some_files_of_a_series_are_another_volume(phantom, tmp_path) -> None:
    paths, series, _ = phantom
    found, _ = placed(tmp_path / "part", series.pixels[:4], series.affine, files=paths[:4])
    assert found.series.frame_ids == series.frame_ids[:4]
    found, _ = placed(tmp_path / "whole", series.pixels, series.affine, files=paths[:4])
    assert found.series.warnings[0] == CHANGED


def test_the_right_one_of_several_series_is_found(phantom, tmp_path) -> None:
    paths, _, _ = phantom
    others = write_ct_phantom(tmp_path / "other", slices=5, rows=40, columns=44, spacing_mm=SPACING, seed=5)
    (other,) = read_study(tmp_path / "other").series
    found, _ = placed(tmp_path / "job", other.pixels, other.affine, files=[*paths, *others])
    assert found.series.frame_ids == other.frame_ids


def test_files_that_are_no_images_are_refused_with_the_readers_reason(tmp_path) -> None:
    (tmp_path / "letter.dcm").write_text("not DICOM")
    assert refusal(tmp_path / "job", body(), affine_of(AXIAL, SPACING), files=[tmp_path / "letter.dcm"]).code == "E101"


def test_nothing_is_left_of_the_links_to_the_files_and_the_files_stay(phantom, tmp_path) -> None:
    paths, series, _ = phantom
    before = [path.read_bytes() for path in paths]
    placed(tmp_path, series.pixels, series.affine, files=paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "voxels.npy"]
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_radiograph_is_recognised_by_its_stored_values(tmp_path, photometric, bits) -> None:
    """Viewers show MONOCHROME1 as it is stored, or inverted: both count."""
    (path,) = write_radiograph_phantom(tmp_path / "dx", rows=64, columns=50, photometric=photometric, bits=bits)
    (series,) = read_study(path).series
    dataset = dcmread(path)
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(1, 64, 50).astype(np.int32)
    affine = affine_of(AXIAL, (1.0, 5.6, 5.6))
    for number, voxels in enumerate((stored, 2**bits - 1 - stored)):
        found, _ = placed(tmp_path / str(number), voxels, affine, files=[path])
        assert found.series.frame_ids == series.frame_ids
        np.testing.assert_array_equal(found.series.pixels, series.pixels)
        assert found.series.headers
        np.testing.assert_array_equal(found.given_back(stored, 0), stored)
    painted = stored.copy()
    painted[0, 20:24, 20:24] = int(np.median(stored))
    found, _ = placed(tmp_path / "painted", painted, affine, files=[path])
    assert found.series.warnings[0] == CHANGED
    assert (found.series.headers, found.series.modality) == ((), "CR")


def test_a_picture_flipped_or_of_another_size_is_another(tmp_path) -> None:
    (path,) = write_radiograph_phantom(tmp_path / "dx", rows=64, columns=50)
    (series,) = read_study(path).series
    affine = affine_of(AXIAL, (1.0, 5.6, 5.6))
    for number, voxels in enumerate((series.pixels[:, ::-1], series.pixels[:, :, ::-1], series.pixels[:, 1:])):
        found, _ = placed(tmp_path / str(number), voxels, affine, files=[path])
        assert found.series.warnings[0] == CHANGED


# --- from voxels alone


def test_hounsfield_units_need_something_below_zero(tmp_path) -> None:
    affine = affine_of(AXIAL, SPACING, ORIGIN)
    assert refusal(tmp_path / "a", body() + 1000, affine).code == "E109"
    assert refusal(tmp_path / "b", np.full((3, 4, 5), np.nan), affine).code == "E109"
    assert refusal(tmp_path / "c", np.full((3, 4, 5), -3000.0), affine).code == "E109"
    assert refusal(tmp_path / "d", np.ones((3, 4, 5), bool), affine).code == "E109"
    doubtful, _ = placed(tmp_path / "e", np.clip(body(), -150, 200), affine)
    assert any("-200 HU" in note for note in doubtful.series.warnings)
    sure, _ = placed(tmp_path / "f", body(), affine)
    assert not any("-200 HU" in note for note in sure.series.warnings)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_what_is_no_number_or_less_dense_than_air_is_padding(tmp_path, dtype) -> None:
    """Also of a float32 volume that lies as the models want it: the file is mapped read-only and stays as it is."""
    voxels = body().astype(dtype)
    odd = {(0, 0, 0): np.nan, (1, 20, 20): np.inf, (2, 20, 21): -np.inf, (3, 0, 5): -1501.0, (4, 1, 1): -3024.0}
    for index, value in odd.items():
        voxels[index] = value
    voxels[5, 0, 0] = -1499.0
    found, _ = placed(tmp_path, voxels, affine_of(AXIAL, SPACING, ORIGIN))
    invalid = {tuple(index) for index in np.argwhere(~found.series.valid).tolist()}
    assert invalid == set(odd)
    assert all(found.series.pixels[index] == -1000.0 for index in odd)
    kept = found.series.valid
    np.testing.assert_array_equal(found.series.pixels[kept], voxels[kept].astype(np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "voxels.npy"), voxels)


def test_a_nifti_volume_is_turned_so_that_rows_run_to_the_back_and_columns_to_the_left(tmp_path) -> None:
    """Stored (k, j, i) to the head, to the front, to the right: what was first is now last."""
    voxels = body()
    affine = affine_of(np.stack([HEAD, -BACK, -LEFT], axis=1), SPACING, ORIGIN)
    found, _ = placed(tmp_path, voxels, affine)
    np.testing.assert_array_equal(found.series.pixels, voxels[:, ::-1, ::-1])
    directions = found.series.affine[:3, :3] / np.array(SPACING)
    np.testing.assert_allclose(directions, np.stack([HEAD, BACK, LEFT], axis=1), atol=1e-12)
    assert not any("rotated" in note or "coarse" in note for note in found.series.warnings)


@pytest.mark.parametrize(
    "directions",
    [(LEFT, -HEAD, BACK), (BACK, -HEAD, LEFT), (-LEFT, HEAD, BACK), (HEAD, LEFT, -BACK)],
    ids=["sagittal", "coronal", "sagittal upwards", "turned"],
)
def test_other_planes_are_cut_anew_into_axial_slices(tmp_path, directions) -> None:
    voxels = body((30, 40, 48))
    affine = affine_of(np.stack(directions, axis=1), (2.0, 2.0, 2.0), ORIGIN)
    found, _ = placed(tmp_path, voxels, affine)
    after = found.series.affine
    np.testing.assert_allclose(after[:3, :3] / 2.0, AXIAL, atol=1e-12)
    rng = np.random.default_rng(0)
    for index in rng.integers(0, found.series.pixels.shape, (50, 3)):
        source = np.rint(np.linalg.solve(affine, after @ [*index, 1.0]))[:3].astype(int)
        assert found.series.pixels[tuple(index)] == voxels[tuple(source)]
        np.testing.assert_allclose(found.index(index), source, atol=1e-9)
    np.testing.assert_array_equal(found.given_back(found.series.pixels, 0), voxels)


@pytest.mark.parametrize(("spacing", "coarse"), [((5.0, 1.0, 1.9), False), ((1.0, 5.0, 1.0), True)])
def test_coarse_axial_pixels_are_told(tmp_path, spacing, coarse) -> None:
    found, _ = placed(tmp_path, body(), affine_of(AXIAL, spacing))
    notes = [note for note in found.series.warnings if "coarse" in note]
    assert bool(notes) is coarse
    assert not coarse or "5.0 x 1.0 mm" in notes[0]


@pytest.mark.parametrize(("degrees", "told"), [(15.0, False), (24.0, True)])
def test_a_rotation_is_told_and_one_of_the_viewer_counts(tmp_path, degrees, told) -> None:
    affine = affine_of(AXIAL, SPACING, ORIGIN)
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    rotation[:3, 3] = 7.0, -8.0, 9.0
    own, _ = placed(tmp_path / "own", body(), rotation @ affine)
    under, _ = placed(tmp_path / "under", body(), affine, to_world=rotation)
    for found in (own, under):
        assert any(f"rotated by {degrees:.0f} degrees" in note for note in found.series.warnings) is told
        np.testing.assert_allclose(found.series.affine, rotation @ affine, atol=1e-9)
    assert own.series.frame_ids == under.series.frame_ids


def test_a_viewers_quarter_turn_makes_other_slices(tmp_path) -> None:
    """Turned about the left-right axis, coronal slices have become axial ones."""
    quarter = np.eye(4)
    quarter[:3, :3] = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # what was at the back is at the head
    voxels = body((30, 40, 48))
    affine = affine_of(AXIAL, (2.0, 2.0, 2.0), ORIGIN)
    found, job = placed(tmp_path, voxels, affine, to_world=quarter)
    assert found.series.pixels.shape == (40, 30, 48)
    np.testing.assert_array_equal(found.series.pixels, voxels.transpose(1, 0, 2)[:, ::-1])
    world = lps(found.series.affine, (11, 12, 13))
    np.testing.assert_allclose(lps(quarter @ job.affine, found.index((11, 12, 13))), world, atol=1e-9)


@pytest.mark.parametrize(("degrees", "refused"), [(0.9, False), (5.0, True), (60.0, True)])
def test_axes_that_are_not_perpendicular_are_refused(tmp_path, degrees, refused) -> None:
    lean = np.radians(degrees)
    axes = np.stack([HEAD * np.cos(lean) + BACK * np.sin(lean), BACK, LEFT], axis=1)
    affine = affine_of(axes, SPACING)
    if refused:
        error = refusal(tmp_path, body(), affine)
        assert error.code == "E112"
        assert f"by {degrees:.0f} degrees" in error.message
    else:
        placed(tmp_path, body(), affine)


def test_a_shear_of_the_viewer_is_refused_too(tmp_path) -> None:
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    assert refusal(tmp_path, body(), affine_of(AXIAL, SPACING), to_world=sheared).code == "E112"


def test_frames_are_named_by_their_place_never_by_their_number(tmp_path) -> None:
    affine = affine_of(AXIAL, SPACING, ORIGIN)
    whole, _ = placed(tmp_path / "whole", body(), affine)
    assert len(set(whole.series.frame_ids)) == 6
    voxels, after = scrambled(body(), affine, (2, 0, 1), (True, True, False))
    other, _ = placed(tmp_path / "other", voxels, after)
    assert other.series.frame_ids == whole.series.frame_ids
    part, _ = placed(tmp_path / "part", body()[2:], affine_of(AXIAL, SPACING, (*ORIGIN[:2], ORIGIN[2] + 10.0)))
    assert part.series.frame_ids == whole.series.frame_ids[2:]


def test_the_model_that_is_asked_for_says_what_is_expected(toy_models, tmp_path) -> None:
    infos, affine = infos_of(toy_models), affine_of(AXIAL, SPACING)
    words = {"infos": infos, "config": {"model": "toy-radiograph"}}
    assert refusal(tmp_path / "several", body(), affine, **words).code == "E113"
    one, _ = placed(tmp_path / "one", body()[:1], affine, **words)
    assert (one.series.modality, one.series.unit) == ("CR", "1")
    ct, _ = placed(tmp_path / "ct", body()[:1], affine, infos=infos, config={"model": "toy-ct"})
    assert (ct.series.modality, ct.series.unit) == ("CT", "HU")


def test_a_picture_of_no_origin_runs_from_black_to_white(tmp_path) -> None:
    picture = np.arange(30 * 40, dtype=np.float32).reshape(1, 30, 40) - 500
    picture[0, 3, 4], picture[0, 5, 6] = np.nan, np.inf
    found, _ = placed(tmp_path, picture, affine_of(AXIAL, (1.0, 0.2, 0.2)))
    pixels, valid = found.series.pixels, found.series.valid
    assert {tuple(index) for index in np.argwhere(~valid).tolist()} == {(0, 3, 4), (0, 5, 6)}
    np.testing.assert_allclose(pixels[valid], (picture[valid] + 500) / (30 * 40 - 1), atol=1e-6)
    assert (found.series.modality, found.series.has_physical_spacing) == ("CR", False)
    assert refusal(tmp_path / "flat", np.full((1, 30, 40), 7), affine_of(AXIAL, (1, 1, 1))).code == "E108"
    assert refusal(tmp_path / "none", np.full((1, 30, 40), np.nan), affine_of(AXIAL, (1, 1, 1))).code == "E108"


@pytest.mark.parametrize("plane", [(HEAD, BACK, LEFT), (BACK, -HEAD, LEFT), (LEFT, -HEAD, BACK)], ids=str)
@pytest.mark.parametrize(("order", "flip"), ALL[::5])
def test_a_picture_in_any_plane_is_shown_upright(tmp_path, plane, order, flip) -> None:
    """Axial: front up, left on the right; coronal and sagittal: head up."""
    picture = np.random.default_rng(3).random((1, 30, 40)).astype(np.float32)
    affine = affine_of(np.stack(plane, axis=1), (1.0, 0.2, 0.3), ORIGIN)
    voxels, after = scrambled(picture, affine, order, flip)
    found, _ = placed(tmp_path, voxels, after)
    expected = (picture - picture.min()) / np.ptp(picture)
    np.testing.assert_allclose(found.series.pixels, expected, atol=1e-6)
    np.testing.assert_array_equal(found.given_back(picture, 0), voxels)


def test_an_oblique_picture_is_one_picture(tmp_path) -> None:
    """However it lies, its one slice stays across."""
    picture = np.random.default_rng(3).random((1, 30, 40)).astype(np.float32)
    for seed in range(60):
        directions = Rotation.random(random_state=seed).as_matrix()
        found, _ = placed(tmp_path, picture, affine_of(directions, (1, 1, 1)))
        assert len(found.series.pixels) == 1
        grey = (picture - picture.min()) / np.ptp(picture)
        np.testing.assert_allclose(found.given_back(found.series.pixels, 0), grey, atol=1e-6)


# --- chosen frames


@pytest.mark.parametrize("from_files", [True, False])
@pytest.mark.parametrize(
    ("order", "flip"), [((0, 1, 2), (False,) * 3), ((0, 1, 2), (True, False, True)), ((2, 0, 1), (False, True, True))]
)
def test_the_slices_shown_are_chosen_and_come_back_where_they_belong(
    phantom, tmp_path, order, flip, from_files
) -> None:
    paths, series, _ = phantom
    voxels, affine = scrambled(series.pixels, series.affine, order, flip)
    files = paths if from_files else []
    through = [lps(series.affine, (k, 3.2, 7.9)) for k in (3.3, 1.0, 1.6)]  # anywhere on the slices 3, 1, 2
    whole, _ = placed(tmp_path / "whole", voxels, affine, files=files)
    found, _ = placed(tmp_path / "some", voxels, affine, files=files, through=through)
    assert found.series.frame_ids == whole.series.frame_ids[1:4]
    assert bool(found.series.headers) is from_files
    assert [h.SOPInstanceUID for h in found.series.headers] == list(series.frame_ids[1:4] if from_files else ())
    np.testing.assert_array_equal(found.series.pixels, series.pixels[1:4])
    np.testing.assert_array_equal(found.series.valid, series.valid[1:4])
    for index in ((0, 0, 0), (2, 5, 6)):
        shifted = (index[0] + 1, *index[1:])
        np.testing.assert_allclose(lps(found.series.affine, index), lps(whole.series.affine, shifted), atol=1e-9)
        np.testing.assert_allclose(found.index(index), whole.index(shifted))
    back = found.given_back(found.series.pixels, -7.0)
    expected = np.full(series.pixels.shape, -7.0, np.float32)
    expected[1:4] = series.pixels[1:4]
    np.testing.assert_array_equal(back, scrambled(expected, series.affine, order, flip)[0])


@pytest.mark.parametrize("from_files", [True, False])
def test_under_a_transform_the_points_are_still_those_of_the_volume_itself(phantom, tmp_path, from_files) -> None:
    paths, series, _ = phantom
    world = np.eye(4)
    world[:3, 3] = 100.0, 50.0, -70.0
    point = lps(series.affine, (2, 0, 0))
    found, _ = placed(
        tmp_path, series.pixels, series.affine, files=paths if from_files else [], to_world=world, through=[point]
    )
    np.testing.assert_array_equal(found.series.pixels, series.pixels[2:3])
    assert found.first == 2


def test_points_outside_don_t_count_and_none_inside_is_refused(phantom, tmp_path) -> None:
    _, series, _ = phantom
    inside, above, below = (lps(series.affine, (k, 0, 0)) for k in (4.4, 4.6, -0.6))
    found, _ = placed(tmp_path / "one", series.pixels, series.affine, through=[above, inside, below])
    assert (found.first, len(found.series.pixels)) == (4, 1)
    assert refusal(tmp_path / "none", series.pixels, series.affine, through=[above, below]).code == "E200"


def test_every_index_agrees_with_what_is_given_back(phantom, tmp_path) -> None:
    """One voxel lit in the series is the voxel of the viewer's array that `index` names."""
    _, series, _ = phantom
    through = [lps(series.affine, (k, 0, 0)) for k in (1, 3)]
    for number, (order, flip) in enumerate(ALL[::3]):
        voxels, affine = scrambled(series.pixels, series.affine, order, flip)
        found, _ = placed(tmp_path / str(number), voxels, affine, through=through)
        lit = np.zeros(found.series.pixels.shape, np.uint8)
        lit[2, 10, 30] = 1
        (where,) = np.argwhere(found.given_back(lit, 0))
        np.testing.assert_array_equal(found.index((2, 10, 30)), where)
        assert voxels[tuple(where)] == series.pixels[3, 10, 30]
