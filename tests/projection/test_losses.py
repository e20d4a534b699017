from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import Discriminator
from anomap.projection.losses import (
    discriminator_features,
    distance,
    noise_regulariser,
    pyramid_features,
    vgg_features,
)
from tests.toy import TOY

EVERYWHERE = torch.ones(1, dtype=torch.bool)


def test_pyramid_distance_of_a_constant_offset_is_its_square() -> None:
    images = torch.rand(3, 1, 32, 32)
    got = distance(pyramid_features, images, images + 0.5, EVERYWHERE)
    torch.testing.assert_close(got, torch.full((3,), 0.25), rtol=1e-4, atol=1e-6)


def test_pyramid_distance_equals_block_means_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 16, 16))
    expected, x, y = 0.0, a, b
    for _ in range(4):
        expected += ((x - y) ** 2).mean() / 4
        x, y = (m.reshape(len(m) // 2, 2, -1, 2).mean(axis=(1, 3)) for m in (x, y))
    got = distance(pyramid_features, torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None], EVERYWHERE)
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_invalid_pixels_pull_at_nothing() -> None:
    images = torch.zeros(1, 1, 32, 32, requires_grad=True)
    target, valid = torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    valid[..., :16] = True
    distance(pyramid_features, images, target, valid).sum().backward()
    assert images.grad is not None
    assert float(images.grad[..., 24:].abs().max()) == 0.0
    assert float(images.grad[..., :8].abs().min()) > 0.0


@pytest.mark.parametrize("images", [torch.rand(4, 1, 32, 32)])
def test_discriminator_distance_is_zero_for_equal_images_and_independent_of_the_batch(images: torch.Tensor) -> None:
    features = discriminator_features(Discriminator(TOY).requires_grad_(False))
    other = images.flip(2)
    assert float(distance(features, images, images, EVERYWHERE).max()) == 0.0
    together = distance(features, images, other, EVERYWHERE)
    alone = torch.cat([distance(features, images[i : i + 1], other[i : i + 1], EVERYWHERE) for i in range(4)])
    assert float(together.min()) > 0
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_noise_regulariser_equals_the_formula_by_hand() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((2, 1, r, r)) for r in (4, 8, 16)]
    expected = np.zeros(2)
    for m in maps:
        level = m
        while True:
            for axis in (2, 3):
                expected += (level * np.roll(level, 1, axis=axis)).mean(axis=(1, 2, 3)) ** 2
            if level.shape[2] <= 8:
                break
            half = level.shape[2] // 2
            level = level.reshape(2, 1, half, 2, half, 2).mean(axis=(3, 5))
    got = noise_regulariser([torch.from_numpy(m) for m in maps]).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


class Perceptual(nn.Module):
    """Stands for a user's file: the reference's calling convention, three channels in 0..255."""

    def forward(self, images: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        assert images.shape[1] == 3
        return (images / 255).flatten(1)


def test_a_users_own_perceptual_file_is_called_like_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.pt"
    torch.jit.script(Perceptual()).save(str(path))
    features = vgg_features(path, "cpu")
    images = torch.zeros(1, 1, 512, 512)
    assert features(images)[0].shape == (1, 3 * 256 * 256)  # shrunk to 256 as the reference does
    got = distance(features, images[..., :32, :32], images[..., :32, :32] + 1.0, EVERYWHERE)
    assert float(got) == pytest.approx(3 * 32 * 32 * 0.25, rel=1e-5)


def test_an_unreadable_perceptual_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.pt"
    path.write_text("not a network")
    with pytest.raises(AnomapError, match="E200 loss file"):
        vgg_features(path, "cpu")
