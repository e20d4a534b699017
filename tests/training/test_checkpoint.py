from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomap.errors import AnomapError, ExitStatus
from anomap.training import checkpoint
from anomap.training.checkpoint import fingerprint, load_state, locked, new_state, save_state
from anomap.training.config import TrainConfig
from tests.toy import TOY

CONFIG = TrainConfig(network=TOY, batch=8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(new_state(CONFIG), CONFIG, "data", tmp_path / "state.pt")
    return tmp_path / "state.pt"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"learning_rate": 0.1}, "learning_rate was 0.0025 and is 0.1"),
        ({"network": replace(TOY, w_dim=32)}, "network.w_dim was 16 and is 32"),
        ({"augment": replace(CONFIG.augment, flip=True)}, "augment.flip was False and is True"),
    ],
)
def test_other_settings_are_refused_by_name(saved: Path, setting: dict, said: str) -> None:
    other = replace(CONFIG, **setting)
    with pytest.raises(AnomapError, match=said) as caught:
        load_state(new_state(other), other, "data", saved)
    assert caught.value.code == "E311"
    assert caught.value.status is ExitStatus.USAGE


def test_other_images_are_refused(saved: Path) -> None:
    with pytest.raises(AnomapError, match=r"E311.*other images"):
        load_state(new_state(CONFIG), CONFIG, "other", saved)


def test_how_long_and_where_may_change(saved: Path) -> None:
    other = replace(CONFIG, kimg=1.0, minutes=5.0, threads=1, snapshot_kimg=1.0)
    load_state(new_state(other), other, "data", saved)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
def test_a_damaged_checkpoint_is_refused(saved: Path, damage: str) -> None:
    content = bytearray(saved.read_bytes())
    if damage == "flipped":
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    saved.write_bytes({"cut": bytes(content[:-100]), "empty": b"", "text": b"hello"}.get(damage, bytes(content)))
    with pytest.raises(AnomapError, match="E310"):
        load_state(new_state(CONFIG), CONFIG, "data", saved)


def test_an_interrupted_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def torn(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        save_state(new_state(CONFIG), CONFIG, "data", saved)
    assert saved.read_bytes() == before


def test_one_process_at_a_time_may_train_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        with pytest.raises(AnomapError, match="E314"), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_the_fingerprint_sees_one_pixel_and_the_order() -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
    changed = images.copy()
    changed[2, 0, 3, 3] += 1e-3
    assert len({fingerprint(images), fingerprint(changed), fingerprint(images[::-1].copy())}) == 3


def test_lazy_penalties_correct_the_optimisers() -> None:
    config = replace(CONFIG, r1_interval=16, adam_beta1=0.9)
    (group,) = new_state(config).optimiser_d.param_groups
    assert group["lr"] == pytest.approx(0.0025 * 16 / 17)
    assert group["betas"] == pytest.approx((0.9 ** (16 / 17), 0.99 ** (16 / 17)))


def test_saving_and_loading_keeps_every_tensor(saved: Path) -> None:
    torch.manual_seed(5)
    other = new_state(replace(CONFIG, seed=1))
    load_state(other, CONFIG, "data", saved)
    for a, b in zip(new_state(CONFIG).generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(a, b)
