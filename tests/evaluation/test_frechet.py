from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from anomap.errors import AnomapError
from anomap.evaluation.frechet import (
    FrechetMeter,
    PrincipalComponents,
    TorchScriptFeatures,
    frechet_distance,
    frechet_report,
)


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


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    modes = np.random.default_rng(0).normal(size=(6, 1, side, side))
    return np.tensordot(np.random.default_rng(seed).normal(size=(count, 6)), modes, axes=1).astype(np.float32)


@pytest.mark.parametrize(("count", "side"), [(60, 16), (400, 8)])  # fewer images than pixels, and more
def test_axes_are_those_of_scikit_learn(count: int, side: int) -> None:
    images = np.random.default_rng(1).normal(size=(count, 1, side, side)).astype(np.float32)
    oracle = PCA(5, svd_solver="full").fit(images.reshape(count, -1))
    found = PrincipalComponents.of(images, 5)
    cosines = np.abs(oracle.components_ @ found.axes)[:, ::-1]  # largest last, sign free
    np.testing.assert_allclose(cosines, np.eye(5), atol=1e-3)


def test_large_pictures_are_seen_as_block_means() -> None:
    large = np.repeat(np.repeat(pictures(80, 64, 1), 4, axis=2), 4, axis=3)
    small, seen = PrincipalComponents.of(pictures(80, 64, 1)), PrincipalComponents.of(large)
    np.testing.assert_allclose(seen.mean, small.mean, atol=1e-5)


class Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(1, 2, 3)), x.amax(dim=(1, 2, 3))], dim=1)


class Flat(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Wrong(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_a_feature_file_gets_grey_values_in_three_channels(tmp_path: Path) -> None:
    torch.jit.script(Mean()).save(str(tmp_path / "mean.pt"))
    images = np.concatenate([np.full((300, 1, 8, 8), -1.0), np.full((2, 1, 8, 8), 1.0)]).astype(np.float32)
    features = TorchScriptFeatures(tmp_path / "mean.pt")(images)
    assert features[[0, -1]].tolist() == [[0.0, 0.0], [255.0, 255.0]]
    assert FrechetMeter.of(images, TorchScriptFeatures(tmp_path / "mean.pt")).distance(images) == pytest.approx(
        0.0, abs=1e-3
    )


@pytest.mark.parametrize("network", [Flat(), Wrong()])
def test_a_feature_file_that_does_not_fit_is_refused(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.jit.script(network).save(str(tmp_path / "bad.pt"))
    with pytest.raises(AnomapError, match="E313"):
        TorchScriptFeatures(tmp_path / "bad.pt")(pictures(4, 8, 0))


@pytest.mark.parametrize("content", [None, b"no network"])
def test_what_is_no_torchscript_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(AnomapError, match="E313"):
        TorchScriptFeatures(tmp_path / "file.pt")
