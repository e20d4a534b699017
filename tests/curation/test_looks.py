"""The check by the encoder: what each word undoes, and that the shipped model tells inverted from upright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomap.bundle import load_bundle
from anomap.curation.looks import _UNDO, looks
from anomap.curation.schema import LOOKS
from anomap.preprocessing import prepare
from anomap.projection import renderer
from anomap.training.data import series_from_picture

MODELS = Path(__file__).parents[2] / "models"


def made_by_its_own_generator(bundle, count=8):
    """Pictures that the model knows, as prepared images."""
    import torch

    z = torch.from_numpy(np.random.default_rng(3).normal(size=(count, bundle.generator.config.z_dim))).float()
    with torch.no_grad():
        mean = bundle.w_statistics.mean
        w = mean + 0.7 * (bundle.generator.mapping(z) - mean)
        pictures = renderer(bundle.generator, "cpu")(w, ()).clamp(-1, 1).numpy()
    one = prepare(series_from_picture(np.arange(64 * 64).reshape(64, 64) % 251, "x"), bundle.spec)
    return replace(
        one,
        images=pictures.astype(np.float32),
        valid=np.ones(pictures.shape, bool),
        body=np.ones(pictures.shape, bool),
        frame=np.arange(count),
        frame_ids=tuple(map(str, range(count))),
        to_source=np.repeat(one.to_source, count, 0),
        gain=np.repeat(one.gain, count),
        offset=np.repeat(one.offset, count),
    )


@pytest.mark.parametrize("word", LOOKS)
def test_a_turn_is_undone(word):
    image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3) / 9
    done = {
        "as tagged": lambda x: x,
        "inverted": lambda x: -x,
        "rotated90": lambda x: np.rot90(x, 1, (2, 3)),  # to the left
        "rotated180": lambda x: x[..., ::-1, ::-1],
        "rotated270": lambda x: np.rot90(x, -1, (2, 3)),
        "mirrored": lambda x: x[..., ::-1],
    }[word](image)
    np.testing.assert_array_equal(_UNDO[word](done), image)


@pytest.mark.parametrize("word", ["as tagged", "inverted", "rotated90", "rotated180", "rotated270"])
def test_the_radiograph_model_sees_how_a_picture_lies(word):
    bundle = load_bundle(MODELS / "cxr-64")
    prepared = made_by_its_own_generator(bundle)
    undo_the_undoing = {"rotated90": "rotated270", "rotated270": "rotated90"}.get(word, word)
    turned = np.ascontiguousarray(_UNDO[undo_the_undoing](prepared.images))
    seen = looks(replace(prepared, images=turned), bundle)
    assert seen.words.count(word) >= 6
    assert (seen.ratio > 0).all()


def test_without_an_encoder_nothing_is_said(toy_bundle):
    prepared = prepare(series_from_picture(np.arange(1024).reshape(32, 32) % 251, "x"), toy_bundle.spec)
    seen = looks(prepared, replace(toy_bundle, encoder=None))
    assert seen.words == ("",)
    assert np.isnan(seen.ratio).all()
