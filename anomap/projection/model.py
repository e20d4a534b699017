"""What a projection needs of a bundle."""

from __future__ import annotations

from typing import Protocol

from anomap.networks.encoder import Encoder
from anomap.networks.stylegan2 import Discriminator, Generator
from anomap.projection.cloud import WStatistics
from anomap.projection.features import FeatureStatistics


class Model(Protocol):
    """Frozen networks on one device."""

    @property
    def generator(self) -> Generator:
        """The averaged generator, frozen."""

    @property
    def discriminator(self) -> Discriminator | None:
        """For loss "discriminator", the feature residual and the feature distance."""

    @property
    def encoder(self) -> Encoder | None:
        """For start "encoder"; without one, as with imported weights, that start is the mean of W."""

    @property
    def w_statistics(self) -> WStatistics:
        """The training cloud."""

    @property
    def feature_statistics(self) -> FeatureStatistics | None:
        """Of the training images, for the feature distance."""
