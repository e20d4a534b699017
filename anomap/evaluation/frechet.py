"""A Fréchet distance that needs no download, with the controls that give it a scale.

The usual FID compares Inception features, whose weights come from a server and know nothing of radiographs. Here
the features are the first principal components of the real training pictures themselves (block means of at most 64
pixels a side): linear, reproducible, no weights. It sees contrast, anatomy's layout and spread; it doesn't see fine
texture. Compare it only with its own controls, never with published FIDs. Who has weights of a feature network
(Inception for FID, SwAV for FSD) gives them as a TorchScript file: `TorchScriptFeatures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.ndimage
import torch

from anomap.errors import AnomapError
from anomap.types import Float32, Float64

COMPONENTS = 64
SIDE = 64  # pixels a side that the principal components see
MOST_IMAGES = 4096  # that the axes are fitted to; more move them little
CHUNK = 256

Features = Callable[[Float32], Float64]  # (N, C, H, W) in [-1, 1] -> (N, F)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrechetReport:
    """Distances to the real images.

    Attributes:
        generated: Of generated images.
        half_split: Of one random half of the real images to the other: the floor.
        noise: Of real images with Gaussian noise of 0.1 (of the half range).
        blur: Of real images blurred with a sigma of 1 pixel.
    """

    generated: float
    half_split: float
    noise: float
    blur: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalComponents:
    """Features without weights from elsewhere: coordinates along the main axes of a set of images.

    Attributes:
        mean: ``(P,)`` mean picture of `SIDE` pixels a side or fewer, flattened.
        axes: ``(P, F)``.
    """

    mean: Float64
    axes: Float64

    @classmethod
    def of(cls, images: Float32, count: int = COMPONENTS) -> PrincipalComponents:
        """Fit to ``(N, C, H, W)`` images, at most `MOST_IMAGES` of them drawn at random."""
        if len(images) > MOST_IMAGES:
            images = images[np.sort(np.random.default_rng(0).choice(len(images), MOST_IMAGES, replace=False))]
        flat = np.concatenate([_flat(part) for part in _chunks(images)])
        mean = flat.mean(axis=0)
        flat -= mean
        # The axes are eigenvectors of the smaller of the two product matrices; only the largest are computed.
        small = flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat
        last = len(small) - 1
        _, vectors = scipy.linalg.eigh(small, subset_by_index=(max(last - count + 1, 0), last))
        axes = flat.T @ vectors if len(flat) <= flat.shape[1] else vectors
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
        return cls(mean=mean, axes=axes)

    def __call__(self, images: Float32) -> Float64:
        """``(N, F)`` coordinates of ``(N, C, H, W)`` images."""
        return np.concatenate([(_flat(part) - self.mean) @ self.axes for part in _chunks(images)])


class TorchScriptFeatures:
    """A feature network of the user: TorchScript, ``[N, 3, H, W]`` float32 grey values 0 to 255 in, ``[N, F]`` out.

    Resizing and normalisation belong into the file. The one channel is repeated three times.

    Args:
        path: The file.
        device: Where it runs.

    Raises:
        AnomapError: E313 when the file isn't TorchScript.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            self._network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            raise AnomapError("E313", f"{path.name} can't be read as TorchScript") from error
        self._device, self._name = device, path.name

    @torch.no_grad()
    def __call__(self, images: Float32) -> Float64:
        """``(N, F)`` features; E313 when the network doesn't take such images or gives something else."""
        parts = []
        for part in _chunks(images):
            grey = torch.from_numpy((np.clip(part[:, :1], -1, 1) + 1) * 127.5).float().to(self._device)
            try:
                features = self._network(grey.expand(-1, 3, -1, -1))
            except RuntimeError as error:
                raise AnomapError("E313", f"{self._name} fails on images of {part.shape[-1]} pixels") from error
            if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != len(part):
                raise AnomapError("E313", f"{self._name} doesn't give one row of features an image")
            parts.append(features.double().cpu().numpy())
        result: Float64 = np.concatenate(parts)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class FrechetMeter:
    """Distance of generated to real images, with everything about the real ones computed once.

    Attributes:
        features: Of both.
        reference: ``(N, F)`` of the real images.
    """

    features: Features
    reference: Float64

    @classmethod
    def of(cls, real: Float32, features: Features | None = None) -> FrechetMeter:
        """For ``(N, C, H, W)`` real images; `features` are their principal components when None."""
        chosen = features or PrincipalComponents.of(real, min(COMPONENTS, max(len(real) // 4, 1)))
        return cls(features=chosen, reference=chosen(real))

    def distance(self, generated: Float32) -> float:
        """Fréchet distance of ``(M, C, H, W)`` generated images."""
        return frechet_distance(self.reference, self.features(generated))


def frechet_distance(a: Float64, b: Float64) -> float:
    """|mean difference|^2 + tr(Sa + Sb - 2 (Sa Sb)^(1/2)) of two ``(N, F)`` samples (Dowson and Landau 1982)."""
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (Sa Sb)^(1/2) = tr (Sa^(1/2) Sb Sa^(1/2))^(1/2), which is symmetric: sound for singular matrices, too.
    values, vectors = np.linalg.eigh(cov_a)
    half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ cov_b @ half), 0, None)).sum()
    gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def frechet_report(real: Float32, generated: Float32, seed: int = 0, features: Features | None = None) -> FrechetReport:
    """Compare generated with real pictures.

    Args:
        real: ``(N, C, H, W)`` training images in [-1, 1].
        generated: ``(M, C, H, W)``.
        seed: Of the half split and the noise.
        features: Of the comparison; the principal components of `real` when None.
    """
    rng = np.random.default_rng(seed)
    meter = FrechetMeter.of(real, features)
    halves = np.array_split(meter.reference[rng.permutation(len(real))], 2)
    noisy = (real + 0.1 * rng.standard_normal(real.shape)).astype(np.float32)
    blurred = scipy.ndimage.gaussian_filter(real, (0, 0, 1, 1))
    return FrechetReport(
        generated=meter.distance(generated),
        half_split=frechet_distance(halves[0], halves[1]),
        noise=meter.distance(noisy),
        blur=meter.distance(blurred),
    )


def _chunks(images: Float32) -> list[Float32]:
    return [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]


def _flat(images: Float32) -> Float64:
    """``(N, P)`` block means of ``(N, C, H, W)``, C times at most `SIDE` squared of them."""
    n, channels, height, width = images.shape
    block = max(height // SIDE, 1)
    means = images.reshape(n, channels, height // block, block, width // block, block).mean(axis=(3, 5))
    flat: Float64 = means.reshape(n, -1).astype(np.float64)
    return flat
