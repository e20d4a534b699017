"""A Fréchet distance that needs no download, with the controls that give it a scale.

The usual FID compares Inception features, whose weights come from a server and know nothing of radiographs. Here
the features are the first principal components of the real training pictures themselves: linear, reproducible,
no weights. It sees contrast, anatomy's layout and spread; it doesn't see fine texture. Compare it only with its
own controls, never with published FIDs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from anomap.types import Float32, Float64

COMPONENTS = 64


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


def frechet_distance(a: Float64, b: Float64) -> float:
    """|mean difference|^2 + tr(Sa + Sb - 2 (Sa Sb)^(1/2)) of two ``(N, F)`` samples (Dowson and Landau 1982)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (Sa Sb)^(1/2) = tr (Sa^(1/2) Sb Sa^(1/2))^(1/2), which is symmetric: sound for singular matrices, too.
    values, vectors = np.linalg.eigh(cov_a)
    half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ cov_b @ half), 0, None)).sum()
    gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def principal_components(images: Float32, count: int = COMPONENTS) -> tuple[Float64, Float64]:
    """Mean ``(P,)`` and axes ``(P, count)`` of flattened pictures."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, _, axes = np.linalg.svd(flat - mean, full_matrices=False)
    return mean, axes[:count].T


def frechet_report(real: Float32, generated: Float32, seed: int = 0) -> FrechetReport:
    """Compare generated with real pictures.

    Args:
        real: ``(N, C, H, W)`` training images in [-1, 1].
        generated: ``(M, C, H, W)``.
        seed: Of the half split and the noise.
    """
    rng = np.random.default_rng(seed)
    mean, axes = principal_components(real, min(COMPONENTS, len(real) // 4))

    def features(images: np.ndarray) -> Float64:
        result: Float64 = (images.reshape(len(images), -1) - mean) @ axes
        return result

    order = rng.permutation(len(real))
    halves = np.array_split(features(real)[order], 2)
    noisy = real + 0.1 * rng.standard_normal(real.shape)
    blurred = scipy.ndimage.gaussian_filter(real, (0, 0, 1, 1))
    reference = features(real)
    return FrechetReport(
        generated=frechet_distance(reference, features(generated)),
        half_split=frechet_distance(halves[0], halves[1]),
        noise=frechet_distance(reference, features(noisy)),
        blur=frechet_distance(reference, features(blurred)),
    )
