"""How unusual is a region, among images and among whole series?

The highest values of some maps inside a region, one a score, have one p-value together, as those of a series do
(`anomap.calibration.conformal.family_p`).

A region is the highest place of many: of all places of all slices. Compared with the patients of the cohort by *their*
highest values over all slices, no region of a series as it should be falls to alpha or below with a chance of more than
alpha, however many there are (single-step maximum test, Westfall and Young 1993). That bounds the chance of any false
region, and with it the share of false ones that Benjamini and Hochberg (1995) bound. Their procedure on top could only
take regions away. On the p-values of single images it would promise what n patients can't hold: their slices are alike,
and 50 n slices are not 50 n patients (ADR 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anomap.calibration.conformal import family_p
from anomap.types import Cohort, Float64, Region


def held_against_images(regions: Sequence[Region], names: Sequence[str], cohort: Cohort) -> tuple[Region, ...]:
    """The regions with their p-values among the images of a cohort that have all of the scores; each for itself.

    Args:
        regions: Of one series.
        names: The scores of the maps that they were looked for in; those that the cohort lacks don't count.
        cohort: Images as they should be.
    """
    names = [name for name in names if name in cohort.names]
    rows = cohort.scores[:, [cohort.names.index(name) for name in names]]
    rows = rows[~np.isnan(rows).any(axis=1)]
    if not names or not len(rows):
        return tuple(regions)
    return tuple(
        replace(region, p_value=family_p(_peaks(region, names), rows, np.ones(len(names)))) for region in regions
    )


def held_against_patients(
    regions: Sequence[Region], names: Sequence[str], maxima: Float64, patients: Float64, level: float
) -> tuple[Region, ...]:
    """The regions with their p-values over the whole series, and whether they survive at a level.

    Args:
        regions: Of one series.
        names: S scores, of the maps that the regions were looked for in.
        maxima: ``(S,)`` the highest of each over all images of the series. No region counts for more: windows outside
            of the body may be higher, and are not what the patients are compared by. Nor has any a smaller p-value.
        patients: ``(n, S)`` the same of each patient.
        level: The chance of one false region or more.
    """
    weights = np.ones(len(names))
    smallest = family_p(maxima, patients, weights)
    reachable = 1 / (len(patients) + 1) <= level
    found = []
    for region in regions:
        p = max(smallest, family_p(np.minimum(_peaks(region, names), maxima), patients, weights))
        found.append(replace(region, p_series=p, survives=p <= level if reachable else None))
    return tuple(found)


def _peaks(region: Region, names: Sequence[str]) -> Float64:
    """A region's highest values, ``(S,)``; 0, the least there is, where a map has none inside it."""
    return np.array([region.peaks.get(name, 0.0) for name in names])
