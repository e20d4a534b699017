import numpy as np
import pytest

from anomap.evaluation.frechet import frechet_distance, frechet_report


def test_distance_of_gaussians_equals_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0.0, 1.0, (200_000, 2))
    b = rng.normal(0.0, 2.0, (200_000, 2)) + np.array([3.0, 0.0])
    # |m|^2 + sum (s1 - s2)^2 for diagonal covariances
    assert frechet_distance(a, b) == pytest.approx(9.0 + 2.0, rel=0.02)


def test_a_sample_is_at_no_distance_from_itself() -> None:
    a = np.random.default_rng(0).normal(size=(500, 5))
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_controls_are_ordered_and_garbage_is_far() -> None:
    rng = np.random.default_rng(0)
    modes = rng.normal(size=(6, 1, 16, 16))
    real = np.tensordot(rng.normal(size=(400, 6)), modes, axes=1).astype(np.float32)
    alike = np.tensordot(rng.normal(size=(400, 6)), modes, axes=1).astype(np.float32)
    good, bad = frechet_report(real, alike), frechet_report(real, np.zeros_like(real))
    assert good.generated < 0.2 * bad.generated
    assert good.half_split < bad.generated
    assert good.blur > good.half_split
