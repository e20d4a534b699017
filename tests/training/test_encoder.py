import numpy as np
import pytest

from anomap.training.checkpoint import new_state
from anomap.training.config import TrainConfig
from anomap.training.encoder import EncoderConfig, train_encoder
from tests.toy import TOY


def test_the_encoder_learns_to_invert_the_generator(images: np.ndarray) -> None:
    state = new_state(TrainConfig(network=TOY))
    figures: list[dict[str, float]] = []
    config = EncoderConfig(kimg=6.4, batch=16)
    train_encoder(images, state.average, state.discriminator, config, figures.append)
    assert figures[-1]["w_error"] < 0.9 * figures[0]["w_error"]  # of an untrained generator; guessing stays at 1
    assert figures[-1]["picture_error"] < figures[0]["picture_error"]


@pytest.mark.gpu
def test_a_gpu_trains_it_too_and_everything_comes_back(images: np.ndarray) -> None:
    state, figures = new_state(TrainConfig(network=TOY)), []
    config = EncoderConfig(kimg=6.4, batch=16)
    encoder = train_encoder(images, state.average, state.discriminator, config, figures.append, device="cuda")
    assert figures[-1]["w_error"] < 0.9 * figures[0]["w_error"]
    assert {p.device.type for p in (*encoder.parameters(), *state.average.parameters())} == {"cpu"}
