"""Does the score rise where something was planted, and does it point there?

Two questions about the same image with and without an anomaly. Pairs leave out what differs between patients, which
in unpaired comparisons swamps small anomalies (design notes, method, section 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from anomap.errors import AnomapError
from anomap.scoring.windows import window_counts
from anomap.types import Bool, Float64, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """The same images without and with an anomaly.

    Attributes:
        pairs: How many images.
        raised: How many score higher with it; equal scores count as not raised.
        median_rise: Median of the differences, in units of the score.
        p_value: One-sided sign test against "as likely up as down". It takes the pairs for independent: give
            one image a patient.
    """

    pairs: int
    raised: int
    median_rise: float
    p_value: float


def paired_test(without: Float64, with_anomaly: Float64) -> PairedTest:
    """Compare scores of the same images.

    Args:
        without: ``(N,)`` scores of the images as they are.
        with_anomaly: ``(N,)`` scores of the same images with something planted.

    Raises:
        AnomapError: E200 when there are no pairs.
    """
    if not len(without) or without.shape != with_anomaly.shape:
        raise AnomapError("E200", f"need pairs of scores, got {without.shape} and {with_anomaly.shape}")
    raised = int(np.count_nonzero(with_anomaly > without))
    return PairedTest(
        pairs=len(without),
        raised=raised,
        median_rise=float(np.median(with_anomaly - without)),
        p_value=float(binomtest(raised, len(without), 0.5, alternative="greater").pvalue),
    )


def touches(window: Int64, masks: Bool) -> Bool:
    """Whether the window of each image holds a pixel of its mask.

    Args:
        window: ``(N, 4)`` rows ``(row0, col0, row1, col1)``, the ends excluded, as `ScoreMap.top_window`.
        masks: ``(N, H, W)``.

    Returns:
        ``(N,)``.
    """
    pairs = zip(window, masks, strict=True)
    return np.array([mask[row0:row1, col0:col1].any() for (row0, col0, row1, col1), mask in pairs], np.bool_)


def chance_of_touching(masks: Bool, valid: Bool, window: int) -> Float64:
    """Share of all scored windows that hold a pixel of the mask: what pointing blindly would reach.

    Args:
        masks: ``(N, H, W)``.
        valid: ``(N, H, W)``; windows with a False pixel are not scored.
        window: Side of the windows in pixels.

    Returns:
        ``(N,)``; 0 where no window is scored.
    """
    hit = window_counts(masks, window) > 0
    scored = window_counts(valid, window) == window * window
    result: Float64 = (hit & scored).sum(axis=(1, 2)) / np.maximum(scored.sum(axis=(1, 2)), 1)
    return result
