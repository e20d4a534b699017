"""Losses and gradients against plain statements of the formulas."""

from dataclasses import replace

import pytest
import torch

from anomap.networks import stylegan2
from anomap.training import steps
from anomap.training.checkpoint import new_state
from anomap.training.config import TrainConfig
from anomap.training.parallel import Group
from anomap.training.steps import Batch, discriminator_step, path_length_step, r1_step, update_average
from tests.toy import TOY

CONFIG = TrainConfig(network=TOY, batch=8, path_length_weight=2.0)
ALONE = Group(rank=0, size=1, device="cpu")


def batch_of(real: torch.Tensor, size: int) -> Batch:
    parts = real.split(size)
    return Batch(real=parts, numbers=range(len(parts)), passes=len(parts))


def test_r1_penalty_is_the_squared_gradient_norm() -> None:
    state = new_state(CONFIG)
    real = torch.rand(8, 1, 32, 32)
    copy = real.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(state.discriminator(copy).sum(), copy)
    expected = float(gradient.square().sum(dim=(1, 2, 3)).mean())
    assert float(r1_step(state, batch_of(real, 8), CONFIG, ALONE)) == pytest.approx(expected, rel=1e-4)


def test_path_length_moves_the_generator_and_its_mean() -> None:
    state = new_state(CONFIG)
    before = [p.detach().clone() for p in state.generator.synthesis.parameters()]
    length = path_length_step(state, batch_of(torch.rand(8, 1, 32, 32), 4), CONFIG, ALONE)
    assert state.path_mean == pytest.approx(0.01 * float(length))
    assert any(not torch.equal(a, b) for a, b in zip(before, state.generator.synthesis.parameters(), strict=True))


def test_small_passes_add_up_to_the_gradient_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the minibatch statistics, which are of a pass, R1 of two passes is R1 of the batch."""
    plain = stylegan2.minibatch_stddev
    monkeypatch.setattr(stylegan2, "minibatch_stddev", lambda x: plain(x, group=1))
    real = torch.rand(8, 1, 32, 32)
    gradients = []
    for size in (8, 4, 1):
        state = new_state(CONFIG)
        r1_step(state, batch_of(real, size), CONFIG, ALONE)
        gradients.append([p.grad for p in state.discriminator.parameters() if p.grad is not None])
    for others in gradients[1:]:
        for whole, parts in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()) + 1e-12)


def test_discriminator_loss_is_the_non_saturating_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real_update = steps._update

    def spy(optimiser, batch, group, seeds, loss_of):
        state.discriminator.register_forward_hook(lambda module, given, out: seen.append(out.detach()))
        return real_update(optimiser, batch, group, seeds, loss_of)

    state = new_state(CONFIG)
    monkeypatch.setattr(steps, "_update", spy)
    loss, sign = discriminator_step(state, batch_of(torch.rand(8, 1, 32, 32), 8), CONFIG, ALONE).tolist()
    on_real, on_fake = (out.double() for out in seen)
    expected = -(torch.sigmoid(on_real).log() + (1 - torch.sigmoid(on_fake)).log()).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert sign == pytest.approx(float((on_real > 0).double().mul(2).sub(1).mean()))


def test_the_average_has_the_half_life_of_the_settings() -> None:
    config = replace(CONFIG, batch=8, ema_kimg=0.008, ema_rampup=1.0)
    state = new_state(config)
    state.images = 10_000
    with torch.no_grad():
        for parameter in state.generator.parameters():
            parameter.add_(1.0)
    start = [p.clone() for p in state.average.parameters()]
    update_average(state, config)
    for before, kept in zip(start, state.average.parameters(), strict=True):
        torch.testing.assert_close(kept - before, torch.full_like(before, 0.5))
