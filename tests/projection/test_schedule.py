import pytest

from anomap.errors import AnomapError
from anomap.projection.schedule import FAST, PAPER, ProjectionConfig, learning_rate, preset, seed_of, w_noise_factor


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (10, 0.02),
        (25, 0.05),
        (50, 0.1),
        (400, 0.1),
        (750, 0.1),
        (875, 0.05),
        (950, 0.00954925),
        (999, 3.9478e-6),
    ],
)
def test_paper_learning_rate_equals_the_parity_vector(step: int, expected: float) -> None:
    assert learning_rate(step, PAPER) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.05), (10, 0.048676), (50, 0.043556), (750, 0.0), (999, 0.0)])
def test_paper_w_noise_equals_the_parity_vector(step: int, expected: float) -> None:
    assert w_noise_factor(step, PAPER) == pytest.approx(expected, abs=1e-6)


def test_fast_moves_from_the_first_step_and_adds_no_noise() -> None:
    assert learning_rate(0, FAST) == FAST.learning_rate
    assert all(w_noise_factor(step, FAST) == 0 for step in range(FAST.steps))
    assert not FAST.optimise_noise


def test_seed_depends_on_the_name_alone() -> None:
    assert seed_of("1.2.3") == seed_of("1.2.3") != seed_of("1.2.4")
    assert 0 <= seed_of("1.2.3") < 2**63


def test_unknown_preset_is_a_usage_error() -> None:
    with pytest.raises(AnomapError, match="E200 unknown preset 'slow'"):
        preset("slow")


def test_preset_takes_other_steps_and_batch() -> None:
    config = preset("paper", steps=10, batch_size=4)
    assert (config.steps, config.batch_size, config.learning_rate) == (10, 4, 0.1)


def test_vgg_needs_a_file() -> None:
    with pytest.raises(AnomapError, match="needs a loss file"):
        ProjectionConfig(loss="vgg")
