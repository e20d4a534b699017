"""The feature-based opponent: distance to the nearest training images among features of the model's discriminator.

Feature methods lead the public benchmarks (design notes, method, section 3.1), with networks trained on millions of
photographs. Those weights can't be had offline, so the features here are the only trained ones a bundle brings: the
blocks of its own discriminator, averaged over positions, as PatchCore and kNN detectors take theirs (Sun et al. 2022,
arXiv 2204.06507). It needs no projection, and is therefore the honest price of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from anomap.bundle import Bundle
from anomap.errors import AnomapError
from anomap.projection.features import pooled_features
from anomap.types import Float64, Prepared

FEATURE_KNN = "feature_knn"
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBank:
    """Standardised features of the training images.

    Attributes:
        mean, spread: ``(F,)`` by which features are standardised.
        bank: ``(M, F)``.
    """

    mean: Float64
    spread: Float64
    bank: Float64


def fit_features(bundle: Bundle, train: Prepared) -> FeatureBank | None:
    """Features of the training images; None when the bundle has no discriminator.

    Raises:
        AnomapError: E200 without images.
    """
    if bundle.discriminator is None:
        return None
    if not len(train.images):
        raise AnomapError("E200", "the feature baseline needs training images")
    features = _features(bundle, train)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    return FeatureBank(mean=mean, spread=spread, bank=(features - mean) / spread)


def feature_knn(bundle: Bundle, fitted: FeatureBank, prepared: Prepared, neighbours: int = NEIGHBOURS) -> Float64:
    """Mean distance to the nearest training images in standardised features, ``(N,)``; higher is odder."""
    gaps = cdist((_features(bundle, prepared) - fitted.mean) / fitted.spread, fitted.bank)
    count = min(neighbours, len(fitted.bank))
    nearest: Float64 = np.partition(gaps, count - 1, axis=1)[:, :count].mean(axis=1)
    return nearest


def _features(bundle: Bundle, prepared: Prepared) -> Float64:
    network = bundle.discriminator
    assert network is not None  # noqa: S101 (callers hold a fitted bank)
    return pooled_features(prepared.images, network, bundle.device)
