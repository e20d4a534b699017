"""Which regions stand out of a whole series, not of one image only.

A region is the highest place of many: of all windows of all slices. Compared with the patients of the cohort by *their*
highest window over all slices, no region of a series as it should be falls to alpha or below with a chance of more than
alpha, however many there are (single-step maximum test, Westfall and Young 1993). That bounds the chance of any false
region, and with it the share of false ones that Benjamini and Hochberg (1995) bound. Their procedure on top could only
take regions away. On the p-values of single images it would promise what n patients can't hold: their slices are alike,
and 50 n slices are not 50 n patients (ADR 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anomap.calibration.conformal import conformal_p
from anomap.types import Float64, Region


def held_against_patients(
    regions: Sequence[Region], series_peak: float, patient_peaks: Float64, level: float
) -> tuple[Region, ...]:
    """The regions with their p-values over the whole series, and whether they survive at a level.

    Args:
        regions: Of one series.
        series_peak: Its "wd_patch", the highest window of all its images. No region counts for more: windows outside of
            the body may be higher, and are not what the patients are compared by.
        patient_peaks: ``(n,)`` the same of each patient.
        level: The chance of one false region or more.
    """
    peaks = np.minimum([region.peak_wd for region in regions], series_peak)
    reachable = 1 / (len(patient_peaks) + 1) <= level
    return tuple(
        replace(region, p_series=float(p), survives=bool(p <= level) if reachable else None)
        for region, p in zip(regions, conformal_p(peaks, patient_peaks), strict=True)
    )
