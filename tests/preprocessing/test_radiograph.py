"""Radiograph preprocessing: grey values as in training, shutters, padding."""

import numpy as np
import pytest

from anomap.errors import AnomapError
from anomap.preprocessing import prepare
from anomap.preprocessing.radiograph import find_exposed
from anomap.types import ImageSeries, PreprocessSpec

SPEC = PreprocessSpec(kind="radiograph", size=64)


def picture(rows: int = 256, columns: int = 256) -> np.ndarray:
    """Smooth grey with noise in [0.1, 0.9]."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[0:rows, 0:columns]
    wave = 0.5 + 0.3 * np.sin(row / 40) * np.cos(column / 30)
    return np.clip(wave + rng.normal(0, 0.02, (rows, columns)), 0.1, 0.9).astype(np.float32)


def series(pixels: np.ndarray, valid: np.ndarray | None = None, spacing: tuple[float, float] = (1, 1)) -> ImageSeries:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1.0, *spacing, 1.0
    return ImageSeries(
        pixels=pixels[None],
        unit="1",
        affine=affine,
        modality="DX",
        frame_ids=("one",),
        valid=np.ones((1, *pixels.shape), bool) if valid is None else valid[None],
    )


def test_grey_values_are_block_means_between_two_percentiles() -> None:
    pixels = picture()
    blocks = pixels.astype(float).reshape(64, 4, 64, 4).mean((1, 3))
    low, high = np.percentile(blocks, [0.5, 99.5])
    expected = np.clip((blocks - low) / (high - low) * 2 - 1, -1, 1)
    prepared = prepare(series(pixels), SPEC)
    np.testing.assert_allclose(prepared.images[0, 0], expected, atol=1e-5)
    inside = np.abs(expected) < 1
    np.testing.assert_allclose((prepared.offset[0] + prepared.gain[0] * expected)[inside], blocks[inside], atol=1e-6)


def test_brightness_and_contrast_of_the_presentation_do_not_matter() -> None:
    one, other = prepare(series(picture()), SPEC), prepare(series(picture() * 0.5 + 0.2), SPEC)
    np.testing.assert_allclose(one.images, other.images, atol=1e-4)


def test_the_aspect_is_kept_and_the_rest_is_not_valid() -> None:
    prepared = prepare(series(picture(256, 128)), SPEC)
    valid = prepared.valid[0, 0]
    assert valid[:, 16:48].all()
    assert not valid[:, :16].any()
    assert (prepared.images[0, 0][~valid] == -1).all()
    assert not (prepared.body & ~prepared.valid).any()


def test_squeezing_leaves_nothing_out() -> None:
    prepared = prepare(series(picture(256, 128)), PreprocessSpec(kind="radiograph", size=64, fit="squeeze"))
    assert prepared.valid.all()


def test_padding_does_not_change_the_grey_values() -> None:
    pixels = picture()
    padded = np.full((256, 320), 7.0, np.float32)
    valid = np.zeros(padded.shape, bool)
    padded[:, 32:288], valid[:, 32:288] = pixels, True
    one, other = prepare(series(pixels), SPEC), prepare(series(np.where(valid, padded, 0), valid), SPEC)
    assert other.gain[0] == pytest.approx(one.gain[0], rel=0.05)
    assert not other.valid[0, 0, :, 0].any()


def test_black_and_white_shutters_are_no_body() -> None:
    image = np.full((64, 64), 0.5)
    image[:, :10], image[54:], image[20:30, 20:30] = 0.0, 1.0, 0.01  # the last: dark lung, not at the border
    body = find_exposed(image, np.ones((64, 64), bool))
    assert not body[:, :10].any()
    assert not body[54:].any()
    assert body[:54, 10:].all()


def test_a_letter_in_the_corner_does_not_hide_the_rest() -> None:
    image = np.full((64, 64), 0.5)
    image[:4, :4] = 1.0
    assert find_exposed(image, np.ones((64, 64), bool)).all()


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_picture_of_one_grey_is_all_body(grey: float) -> None:
    assert find_exposed(np.full((64, 64), grey), np.ones((64, 64), bool)).all()


def test_no_contrast_is_refused() -> None:
    with pytest.raises(AnomapError, match="E108"):
        prepare(series(np.full((64, 64), 0.5, np.float32)), SPEC)


def test_padding_only_is_refused() -> None:
    with pytest.raises(AnomapError, match="E108"):
        prepare(series(picture(64, 64), np.zeros((64, 64), bool)), SPEC)


def test_a_model_for_ct_refuses_radiographs() -> None:
    with pytest.raises(AnomapError, match="E113"):
        prepare(series(picture()), PreprocessSpec(kind="ct", size=64))


def test_a_grid_of_body_millimetres_is_refused() -> None:
    with pytest.raises(AnomapError, match="E302"):
        prepare(series(picture()), PreprocessSpec(kind="radiograph", size=64, fit="body"))
