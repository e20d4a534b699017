from dataclasses import replace

import pytest
import torch

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import NetworkConfig
from anomap.training.config import PRESETS, TrainConfig, has_bf16_units


def test_presets_have_the_resolution_of_their_name() -> None:
    assert [p.training.network.resolution for p in PRESETS.values()] == [int(name.split("-")[1]) for name in PRESETS]
    assert not any(p.training.augment.flip for p in PRESETS.values())


def test_the_paper_preset_is_configuration_f() -> None:
    paper = PRESETS["paper-512"].training
    assert paper.network == NetworkConfig()
    published = (25_000, 32, 0.002, 0.9, 10, 2, 10)
    ours = (paper.kimg, paper.batch, paper.learning_rate, paper.adam_beta1, paper.r1_gamma)
    assert (*ours, paper.path_length_weight, paper.ema_kimg) == published
    assert paper.pass_size(8) == 4


@pytest.mark.parametrize(
    ("batch", "per_pass", "processes", "size"), [(32, 0, 1, 32), (32, 0, 4, 8), (32, 8, 2, 8), (32, 4, 8, 4)]
)
def test_passes_divide_the_batch(batch: int, per_pass: int, processes: int, size: int) -> None:
    assert TrainConfig(batch=batch, batch_per_pass=per_pass).pass_size(processes) == size


@pytest.mark.parametrize(("batch", "per_pass", "processes"), [(32, 5, 1), (32, 16, 4), (30, 0, 4), (2, 0, 4)])
def test_what_does_not_divide_is_refused(batch: int, per_pass: int, processes: int) -> None:
    with pytest.raises(AnomapError, match="E200"):
        TrainConfig(batch=batch, batch_per_pass=per_pass).pass_size(processes)


def test_bfloat16_is_used_where_it_pays_or_is_asked_for() -> None:
    config = TrainConfig()
    assert (config.dtype is torch.bfloat16) == has_bf16_units("cpu")
    assert replace(config, bf16="on").dtype is torch.bfloat16
    assert replace(config, bf16="off").dtype is torch.float32
