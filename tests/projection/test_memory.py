"""The batch that the memory holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anomap.networks.fast import FastSynthesis
from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
from anomap.projection import memory
from anomap.projection.losses import discriminator_features, distance, pyramid_features
from anomap.projection.memory import batch_size, bytes_per_image, free_memory
from anomap.projection.schedule import FAST, PAPER, ProjectionConfig

SMALL = NetworkConfig(resolution=64, z_dim=32, w_dim=32, mapping_layers=2, channel_base=1024, channel_max=128)
LARGE = NetworkConfig()


def kept_bytes(network: NetworkConfig, config: ProjectionConfig, images: int) -> int:
    """What torch keeps for the backward pass, every piece of memory once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    generator = Generator(network).requires_grad_(False)
    features = pyramid_features
    if config.loss == "discriminator":
        features = discriminator_features(Discriminator(network).requires_grad_(False))
    w = torch.randn(images, network.w_dim).requires_grad_(True)
    target = torch.zeros(images, 1, network.resolution, network.resolution)
    alive = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (alive.append(t), note(t))[1], lambda t: t):
        distance(features, FastSynthesis(generator.synthesis)(w), target, target == 0)
    return sum(kept.values())


@pytest.mark.parametrize("config", [FAST, PAPER])
def test_the_estimate_holds_what_a_step_keeps_and_not_much_more(config: ProjectionConfig) -> None:
    one_more = (kept_bytes(SMALL, config, 6) - kept_bytes(SMALL, config, 2)) / 4
    assert one_more < bytes_per_image(SMALL, config) < 4 * one_more


# 64.3 million activations at 512 px, five values of four bytes each: 1.29 GB an image, in half of what is free.
@pytest.mark.parametrize(("free", "expected"), [(0, 1), (1e9, 1), (40e9, 15), (float("inf"), 32)])
def test_a_large_model_gets_the_batch_that_fits(free: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    assert batch_size(LARGE, FAST, "cpu") == expected
    assert batch_size(LARGE, PAPER, "cpu") <= expected


def test_a_batch_size_that_was_asked_for_counts() -> None:
    assert batch_size(SMALL, replace(FAST, batch_size=77), "cpu") == 77


def test_this_machine_has_memory() -> None:
    assert 2**28 < free_memory("cpu") < 2**50
