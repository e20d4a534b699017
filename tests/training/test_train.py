"""The loop: what a run leaves, and that stopping it anywhere changes no bit."""

import csv
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomap.errors import AnomapError, ExitStatus
from anomap.training.augment import AugmentConfig
from anomap.training.checkpoint import State, new_state
from anomap.training.config import TrainConfig
from anomap.training.train import chosen, sample, train
from tests.toy import TOY

# Nothing divides anything: rows, penalties, p and epochs (20 images) fall on different steps.
CONFIG = TrainConfig(
    network=TOY,
    augment=AugmentConfig(adjust_kimg=0.05, adjust_steps=3),
    kimg=0.12,
    batch=8,
    snapshot_kimg=0.04,
    frechet_kimg=0.08,
    frechet_samples=32,
    r1_interval=4,
    path_length_weight=2.0,
)


def quiet(figures: dict[str, float]) -> None:
    assert all(np.isfinite(list(figures.values())))


def tensors(state: State) -> dict[str, torch.Tensor]:
    """Every tensor of a state by name: networks with their buffers, optimisers, sums."""
    found = {"row_sums": state.row_sums, "sign_sum": state.sign_sum}
    for name in ("generator", "discriminator", "average"):
        found |= {f"{name}.{key}": value for key, value in getattr(state, name).state_dict().items()}
    for name in ("optimiser_g", "optimiser_d"):
        for number, entry in getattr(state, name).state_dict()["state"].items():
            found |= {f"{name}.{number}.{key}": value for key, value in entry.items()}
    return found


def assert_same(a: State, b: State) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    for name in ("step", "images", "augment_p", "path_mean", "r1", "steps_since_row"):
        assert getattr(a, name) == getattr(b, name)


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("minutes", "images_per_s", "eta_minutes")} for row in rows]


@pytest.fixture
def whole(images: np.ndarray, tmp_path: Path) -> State:
    return train(images, CONFIG, tmp_path / "whole", quiet)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int, act) -> None:
    """Let `act` happen within a step, as a signal does."""
    from anomap.training import train as module

    real, count = module.update_average, 0

    def step(state, config):
        nonlocal count
        real(state, config)
        count += 1
        if count == steps:
            act()

    monkeypatch.setattr(module, "update_average", step)


def test_a_run_leaves_curves_samples_and_checkpoints(whole: State, tmp_path: Path) -> None:
    assert whole.images == 120
    rows = curves(tmp_path / "whole")
    assert [row["kimg"] for row in rows] == ["0.04", "0.08", "0.12"]
    assert [bool(row["frechet"]) for row in rows] == [False, True, True]
    with Image.open(tmp_path / "whole" / "samples.png") as sheet:
        assert sheet.size == (2 * (8 * 34 + 2), 2 * (4 * 34 + 2))
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {".lock", "config.json", "log.csv", "samples.png", "state.pt", "best.pt"}
    assert whole.augment_p > 0
    assert whole.path_mean > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_signal_saves_at_once_and_changes_no_bit(
    whole: State, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, number: int
) -> None:
    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        interrupt_after(patch, steps, lambda: os.kill(os.getpid(), number))
        with pytest.raises(AnomapError, match="E403") as caught:
            train(images, CONFIG, run, quiet)
    assert caught.value.status is ExitStatus.CANCELLED
    torch.manual_seed(99)  # another process has other random numbers
    resumed = train(images, CONFIG, run, quiet)
    assert resumed.step == 15
    assert_same(whole, resumed)
    assert curves(run) == curves(tmp_path / "whole")


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_a_run_killed_between_snapshots_goes_on_from_the_last_and_changes_no_bit(
    whole: State, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        interrupt_after(patch, steps, die)
        with pytest.raises(Killed):
            train(images, CONFIG, run, quiet)
    assert_same(whole, train(images, CONFIG, run, quiet))
    assert curves(run) == curves(tmp_path / "whole")


def test_a_time_limit_saves_and_the_next_call_goes_on(whole: State, images: np.ndarray, tmp_path: Path) -> None:
    run = tmp_path / "parts"
    first = train(images, replace(CONFIG, minutes=0.0), run, quiet)
    assert first.step == 1
    assert_same(whole, train(images, CONFIG, run, quiet))


def test_a_longer_run_goes_on_from_a_finished_one(whole: State, images: np.ndarray, tmp_path: Path) -> None:
    train(images, replace(CONFIG, kimg=0.08), tmp_path / "parts", quiet)
    resumed = train(images, CONFIG, tmp_path / "parts", quiet)
    assert_same(whole, resumed)
    assert_same(resumed, train(images, CONFIG, tmp_path / "parts", quiet))  # nothing left to do


def test_divergence_is_said_and_keeps_the_last_good_checkpoint(images: np.ndarray, tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e30)
    with pytest.raises(AnomapError, match="E312"):
        train(images, config, tmp_path / "run", quiet)
    assert not (tmp_path / "run" / "state.pt").exists()


def test_the_best_networks_can_be_chosen(whole: State, images: np.ndarray, tmp_path: Path) -> None:
    distances = {round(row["kimg"] * 1000): row["frechet"] for row in whole.rows if "frechet" in row}
    best = min(distances, key=distances.__getitem__)
    state = chosen(whole, replace(CONFIG, choose="best"), tmp_path / "whole")
    assert state.images == best
    shorter = train(images, replace(CONFIG, kimg=best / 1000), tmp_path / "shorter", quiet)
    for a, b in zip(state.average.parameters(), shorter.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_moves_the_generator_towards_the_images(images: np.ndarray, tmp_path: Path) -> None:
    config = TrainConfig(network=TOY, kimg=2.0, batch=8, snapshot_kimg=2.0, ema_kimg=0.5, frechet_samples=64)
    before = sample(new_state(config).average, 64)
    after = sample(train(images, config, tmp_path / "run", quiet).average, 64)
    mean = images.mean(axis=0)
    assert np.square(after.mean(axis=0) - mean).mean() < 0.5 * np.square(before.mean(axis=0) - mean).mean()


WORKER = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from anomap.training.checkpoint import save_state
from anomap.training.train import train
from tests.training.test_train import PARALLEL
import os
state = train(np.load(sys.argv[1]), PARALLEL, Path(sys.argv[2]) / "run", lambda figures: None)
save_state(state, PARALLEL, "", Path(sys.argv[2]) / f"rank{os.environ.get('RANK', '0')}.pt")
"""
PARALLEL = replace(CONFIG, batch_per_pass=4, kimg=0.048)


def test_two_processes_of_torchrun_equal_one_with_the_same_passes(images: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_PORT": port}
    environment |= {"MASTER_ADDR": "127.0.0.1"}
    words = [sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "images.npy"), str(tmp_path)]
    children = [subprocess.Popen(words, env={**environment, "RANK": str(rank)}) for rank in (0, 1)]
    assert [child.wait() for child in children] == [0, 0]
    both = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = train(images, PARALLEL, tmp_path / "alone", quiet)
    for name in ("generator", "discriminator", "average"):
        for key, value in both[0][name].items():
            assert torch.equal(value, both[1][name][key]), f"{name}.{key} differs between processes"
            torch.testing.assert_close(value, getattr(alone, name).state_dict()[key], rtol=2e-3, atol=2e-3)
    assert both[0]["augment_p"] == both[1]["augment_p"] == alone.augment_p
    assert [row["kimg"] for row in curves(tmp_path / "run")] == ["0.04", "0.048"]
