"""How far each place of a slice is from the same place of the slices beside it, in the discriminator's features.

Patients differ more from each other than a needle changes one of them: compared with the training images, it drowns.
The slices above and below are of the same patient, scanner and contrast phase, and show almost the same anatomy; what
they don't have in common with a slice stands out. It needs no projection. What runs through many slices (a drain, free
fluid) doesn't stand out from them and is left to the other scores (docs/adr/0020).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anomap.checks import check_finite
from anomap.networks.stylegan2 import Discriminator
from anomap.projection.model import Model
from anomap.projection.parts import parts
from anomap.projection.places import PlaceStatistics, distances, grids
from anomap.types import Float32, Float64, Int64, Prepared

GUARD_MM = 5.0  # nearer slices hold a needle that lies in the plane, too
REACH_MM = 25.0  # in farther ones anatomy has changed more than most anomalies change it
_ROUNDING_MM = 0.01  # of positions in headers

PlaceFeatures = dict[int, Tensor]  # places along a side -> [N, C, S, S], on the CPU


def series_neighbours(prepared: Prepared, positions_mm: Float64, model: Model, device: str) -> Float32 | None:
    """The map of `neighbour_map` of all slices of one series.

    Args:
        prepared: N slices of a CT series.
        positions_mm: ``(N,)`` where they lie along their common normal.
        model: With its networks on `device`.
        device: Torch device.

    Returns:
        ``(N, S, S)``, or None where the model doesn't know places, the images are no slices, or one has no neighbour.
    """
    known = model.feature_statistics
    if prepared.spec.kind != "ct" or model.discriminator is None or known is None or not known.places:
        return None
    rows = beside(positions_mm, positions_mm)
    if not len(rows) or (rows < 0).all(axis=1).any():
        return None
    features = place_features(prepared.images, model.discriminator, known.places, device)
    return neighbour_map(features, features, rows, known.places, device)


def beside(positions_mm: Float64, among_mm: Float64) -> Int64:
    """The nearest slice on either side that is at least `GUARD_MM` and at most `REACH_MM` away.

    Args:
        positions_mm: ``(N,)`` of the slices, along the normal; NaN: unknown, has no neighbour.
        among_mm: ``(M,)`` of those that may be neighbours; of equally near ones the first is taken.

    Returns:
        ``(N, 2)`` rows of `among_mm`, below and above; -1 where there is none.
    """
    found = np.full((len(positions_mm), 2), -1, np.int64)
    if not len(among_mm):
        return found
    apart = among_mm - positions_mm[:, None]
    for column, distance in enumerate((-apart, apart)):
        near = (distance >= GUARD_MM - _ROUNDING_MM) & (distance <= REACH_MM + _ROUNDING_MM)
        row = np.where(near, distance, np.inf).argmin(axis=1)
        found[:, column] = np.where(near.any(axis=1), row, -1)
    return found


def place_features(
    images: Float32, discriminator: Discriminator, statistics: tuple[PlaceStatistics, ...], device: str
) -> PlaceFeatures:
    """Features of ``(N, C, H, W)`` images on the grids of `statistics`, as many channels as these know."""
    found: dict[int, list[Tensor]] = {known.side: [] for known in statistics}
    for rows in parts(images):
        maps = grids(discriminator, torch.from_numpy(images[rows]).to(device))
        for known in statistics:
            found[known.side].append(maps[known.side][:, : len(known.mean)].cpu())
    return {side: torch.cat(pieces) for side, pieces in found.items()}


def neighbour_map(
    features: PlaceFeatures, among: PlaceFeatures, rows: Int64, statistics: tuple[PlaceStatistics, ...], device: str
) -> Float32:
    """Distance of every place from the mean of the neighbours' features there, in standard deviations.

    These are the deviations of the training images at the place, so that places that always vary count less.

    Args:
        features: Of N slices, from `place_features`.
        among: Of the slices that `rows` points into.
        rows: ``(N, 2)`` from `beside`; with one neighbour that one is expected.
        statistics: On `device`.
        device: Torch device.

    Returns:
        ``(N, S, S)`` of the finest grid; NaN for slices without a neighbour.

    Raises:
        AnomapError: E501 when a distance is not finite.
    """
    side = max(known.side for known in statistics)
    result = np.full((len(rows), side, side), np.nan, np.float32)
    there = np.flatnonzero((rows >= 0).any(axis=1))
    for n in there:
        chosen = rows[n][rows[n] >= 0]
        expected = {side: maps[chosen].mean(dim=0, keepdim=True).to(device) for side, maps in among.items()}
        own = {side: maps[n : n + 1].to(device) for side, maps in features.items()}
        result[n] = distances(own, statistics, expected)[0].cpu().numpy()
    check_finite("the distances from neighbouring slices", result[there])  # NaN is how "there is none" is said
    return result
