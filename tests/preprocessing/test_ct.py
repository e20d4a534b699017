"""CT preprocessing on drawn trunks with a known body."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.preprocessing import prepare
from anomap.preprocessing.ct import find_body, shrunk
from anomap.types import ImageSeries, PreprocessSpec

SPEC = PreprocessSpec(kind="ct", size=64, fit="body", mask_outside_body=True)
MM = 3.0


def trunk(rows: int = 150, columns: int = 160, centre: tuple[float, float] = (75.0, 80.0)) -> np.ndarray:
    """An ellipse of soft tissue, 264 x 360 mm on 3 mm pixels, with two lungs of air."""
    row, column = np.mgrid[0:rows, 0:columns]
    hu = np.full((rows, columns), -1000.0, np.float32)
    hu[np.hypot((row - centre[0]) / 44, (column - centre[1]) / 60) < 1] = 40.0
    for side in (-28, 28):
        hu[np.hypot((row - centre[0]) / 26, (column - centre[1] - side) / 18) < 1] = -850.0
    return hu


def filled(hu: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_fill_holes(hu > -300))


def series(*frames: np.ndarray, valid: np.ndarray | None = None) -> ImageSeries:
    pixels = np.stack(frames)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 5.0, MM, MM, 1.0
    return ImageSeries(
        pixels=pixels,
        unit="HU",
        affine=affine,
        modality="CT",
        frame_ids=tuple(f"f{k}" for k in range(len(pixels))),
        valid=np.ones(pixels.shape, bool) if valid is None else valid,
    )


def body_of(hu: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    return find_body(hu, np.ones(hu.shape, bool) if valid is None else valid, (MM, MM))


@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    spacing_mm=st.tuples(*[st.sampled_from([0.1, 0.3, 0.7, 0.9765625, 1.5, 4.0])] * 2),
    radius_mm=st.sampled_from([0.05, 0.3, 0.9, 3.0, 3.9765625, 6.0]),
    share=st.sampled_from([0.0, 0.02, 0.2, 0.8, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_shrinking_is_a_threshold_on_the_distance(shape, spacing_mm, radius_mm, share, seed) -> None:
    mask = np.random.default_rng(seed).random(shape) >= share
    distance = np.full(shape, np.inf)  # brute force, over all pixels outside
    row, col = np.indices(shape)
    for r, c in np.argwhere(~mask):
        apart = np.sqrt(((row - r) * spacing_mm[0]) ** 2 + ((col - c) * spacing_mm[1]) ** 2)
        distance = np.minimum(distance, apart)
    assert np.array_equal(shrunk(mask, radius_mm, spacing_mm), distance > radius_mm)


def test_the_body_includes_the_lungs() -> None:
    hu = trunk()
    np.testing.assert_array_equal(body_of(hu), filled(hu))


def test_a_table_below_and_a_line_on_the_skin_are_no_body() -> None:
    hu = trunk()
    truth = filled(hu)
    hu[124:125, 20:140] = 200.0  # the shell of a table, one pixel thick
    hu[30:33, 78] = 500.0  # a wire that stands on the skin
    body = body_of(hu)
    assert not body[124].any()
    assert (body ^ truth).sum() <= 3  # at most where the wire meets the skin


@pytest.mark.parametrize("centre", [(20.0, 80.0), (75.0, 20.0), (75.0, 140.0), (135.0, 80.0)])
def test_a_body_cut_by_the_border_keeps_its_lungs(centre: tuple[float, float]) -> None:
    """The left and right cuts run through a lung: it opens to the border between two pieces of chest wall."""
    whole = trunk(rows=400, columns=400, centre=(centre[0] + 100, centre[1] + 100))
    cut = slice(100, 250), slice(100, 260)
    np.testing.assert_array_equal(body_of(whole[cut]), filled(whole)[cut])


def test_a_body_that_fills_the_picture_is_all_body() -> None:
    assert body_of(np.full((100, 100), 40.0, np.float32)).all()


def test_two_legs_are_one_body_and_a_coin_is_none() -> None:
    row, column = np.mgrid[0:150, 0:160]
    legs = np.full((150, 160), -1000.0, np.float32)
    for at in (50, 110):
        legs[np.hypot(row - 75, column - at) < 20] = 40.0
    assert ndimage.label(body_of(legs))[1] == 2
    coin = np.where(np.hypot(row - 75, column - 80) < 5, 40.0, -1000.0).astype(np.float32)
    assert not body_of(coin).any()


def test_padding_is_no_body_whatever_it_holds() -> None:
    hu = trunk()
    valid = np.ones(hu.shape, bool)
    valid[:, :10] = False
    hu[:, :10] = 3000.0
    assert not body_of(hu, valid)[:, :10].any()


def test_the_ends_of_the_window_are_minus_one_and_one() -> None:
    hu = trunk()
    hu[60:90, 75:85] = 225.0
    hu[95:110, 60:100] = -125.0
    prepared = prepare(series(hu), SPEC)
    assert prepared.images.min() == -1
    assert prepared.images.max() == pytest.approx(1.0, abs=1e-6)
    middle = prepared.images[0, 0, 32, 32]
    assert prepared.offset[0] + prepared.gain[0] * middle == pytest.approx(225.0, abs=0.1)


def test_outside_of_the_body_is_air_and_lungs_stay() -> None:
    hu = trunk()
    hu[140:146, 20:140] = 60.0  # a slab, thick enough to be tissue, far below
    prepared = prepare(series(hu), SPEC)
    image, body = prepared.images[0, 0], prepared.body[0, 0]
    assert (image[~body] < 0.2).all()  # partial pixels on the skin
    assert (image[~ndimage.binary_dilation(body)] == -1).all()
    kept = prepare(series(hu), PreprocessSpec(kind="ct", size=64, fit="body"))
    assert (kept.images[0, 0][~ndimage.binary_dilation(body)] > -1).any()


def test_the_body_is_centred_wherever_it_lies() -> None:
    """Away from its borders the picture is the same: a shift by whole source pixels moves the grid along."""
    one = prepare(series(trunk(centre=(70, 75))), SPEC)
    other = prepare(series(trunk(centre=(80, 84))), SPEC)
    np.testing.assert_allclose(one.images, other.images, atol=1e-6)
    np.testing.assert_allclose(other.to_source[0][:2, 2] - one.to_source[0][:2, 2], (10, 9))


def test_the_way_back_finds_the_source_pixel() -> None:
    hu = trunk()
    hu[60:63, 80:83] = 225.0
    prepared = prepare(series(hu), SPEC)
    row, column = np.unravel_index(prepared.images[0, 0].argmax(), (64, 64))
    found = prepared.to_source[0] @ [row, column, 1]
    assert np.abs(found[:2] - (61, 81)).max() <= 1.5  # a model pixel is 2.1 source pixels


def test_frames_without_a_body_are_left_out_by_name() -> None:
    air = np.full((150, 160), -1000.0, np.float32)
    air[0, 0] = -990
    prepared = prepare(series(air, trunk(), air, trunk()), SPEC)
    assert prepared.frame.tolist() == [1, 3]
    assert prepared.frame_ids == ("f1", "f3")


def test_no_body_at_all_is_refused() -> None:
    air = np.random.default_rng(0).normal(-1000, 5, (64, 64)).astype(np.float32)
    with pytest.raises(AnomapError, match="E114"):
        prepare(series(air), SPEC)


def test_a_constant_series_is_refused() -> None:
    with pytest.raises(AnomapError, match="E108"):
        prepare(series(np.full((64, 64), 40, np.float32)), SPEC)


def test_a_model_for_radiographs_refuses_ct() -> None:
    with pytest.raises(AnomapError, match="E113"):
        prepare(series(trunk()), PreprocessSpec(kind="radiograph", size=64))


def test_a_thin_needle_shows_as_dense_although_its_pixel_is_larger() -> None:
    hu = trunk()
    hu[50:100, 80] = 3000.0  # 3 mm in pixels of 6.25 mm: 3000 x 0.48 is above the window
    image = prepare(series(hu), SPEC).images[0, 0]
    assert (image[26:38].max(1) > 0.99).all()
