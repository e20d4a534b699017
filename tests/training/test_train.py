import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomap.training.encoder import EncoderConfig, train_encoder
from anomap.training.train import TrainConfig, batches, new_state, path_length_step, r1_step, train
from tests.toy import TOY

CONFIG = TrainConfig(network=TOY, kimg=0.064, batch=8, bf16=False, snapshot_kimg=0.032, r1_interval=4)


@pytest.fixture
def images() -> np.ndarray:
    rows = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    shifts = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 1, 1, 1)).astype(np.float32)
    return np.clip(np.broadcast_to(rows, (20, 1, 32, 32)) + shifts, -1, 1).astype(np.float32)


def quiet(figures: dict[str, float]) -> None:
    assert all(np.isfinite(list(figures.values())))


def test_a_run_leaves_log_samples_and_a_checkpoint(images: np.ndarray, tmp_path: Path) -> None:
    state = train(images, CONFIG, tmp_path / "run", quiet)
    assert state.images == 64
    with (tmp_path / "run" / "log.csv").open() as file:
        assert [row["kimg"] for row in csv.DictReader(file)] == ["0.032", "0.064"]
    with Image.open(tmp_path / "run" / "samples.png") as sheet:
        assert sheet.size == (2 * (8 * 34 + 2), 2 * (4 * 34 + 2))


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(images: np.ndarray, tmp_path: Path) -> None:
    whole = train(images, CONFIG, tmp_path / "whole", quiet)
    train(images, replace(CONFIG, kimg=0.032), tmp_path / "parts", quiet)
    resumed = train(images, CONFIG, tmp_path / "parts", quiet)
    for a, b in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.augment_p == resumed.augment_p


def test_training_moves_the_generator_towards_the_images(images: np.ndarray, tmp_path: Path) -> None:
    config = replace(CONFIG, kimg=4.0, snapshot_kimg=4.0, ema_kimg=0.5)
    before = new_state(config).generator(torch.randn(64, TOY.z_dim)).detach()
    state = train(images, config, tmp_path / "run", quiet)
    after = state.average(torch.randn(64, TOY.z_dim)).detach()
    mean = torch.from_numpy(images).mean(dim=0)
    assert float((after.mean(dim=0) - mean).square().mean()) < 0.5 * float((before.mean(dim=0) - mean).square().mean())


def test_batches_visit_every_image_once_an_epoch_and_resume_in_place(images: np.ndarray) -> None:
    numbered = np.arange(16, dtype=np.float32).reshape(16, 1, 1, 1)
    source = batches(numbered, 4, seed=0, start=0)
    drawn = [next(source).flatten().tolist() for _ in range(10)]
    assert sorted(number for batch in drawn[:4] for number in batch) == list(range(16))
    later = batches(numbered, 4, seed=0, start=6)
    assert [next(later).flatten().tolist() for _ in range(4)] == drawn[6:]


def test_fewer_images_than_a_batch_are_repeated() -> None:
    assert next(batches(np.zeros((3, 1, 4, 4), np.float32), 8, 0, 0)).shape == (8, 1, 4, 4)


def test_r1_penalty_is_the_squared_gradient_norm() -> None:
    state = new_state(CONFIG)
    real = torch.rand(8, 1, 32, 32)
    copy = real.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(state.discriminator(copy).sum(), copy)
    assert r1_step(state, real, CONFIG) == pytest.approx(float(gradient.square().sum(dim=(1, 2, 3)).mean()), rel=1e-4)


def test_path_length_penalty_changes_the_generator() -> None:
    config = replace(CONFIG, path_length_weight=2.0)
    state = new_state(config)
    before = [p.detach().clone() for p in state.generator.synthesis.parameters()]
    path_length_step(state, config)
    assert state.path_mean > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, state.generator.synthesis.parameters(), strict=True))


def test_the_encoder_learns_to_invert_the_generator(images: np.ndarray) -> None:
    state = new_state(CONFIG)
    figures: list[dict[str, float]] = []
    config = EncoderConfig(kimg=6.4, batch=16, bf16=False)
    train_encoder(images, state.average, state.discriminator, config, figures.append)
    assert figures[-1]["w_error"] < 0.9 * figures[0]["w_error"]  # of an untrained generator; guessing stays at 1
    assert figures[-1]["picture_error"] < figures[0]["picture_error"]
