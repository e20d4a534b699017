"""Where regions begin: the thresholds of the maps, from images as they should be or from the map itself."""

from __future__ import annotations

import numpy as np

from anomap.calibration.cohort import column
from anomap.regions import Layer
from anomap.scoring import shown_places
from anomap.types import Cohort, Float32, Float64, ScoreMap

REGION_SHARE = 0.05  # of the cohort's images may exceed the threshold of a map somewhere
FALLBACK_DEVIATIONS = 5.0  # without a cohort: regions start so many robust deviations above the map's median
# Features of a place see beyond it, and of two slices compared with each other an odd one makes the other half as odd:
# regions of places are those above half of their highest excess.
SPILL_OF_PLACES = 0.5
_MAD_TO_SD = 1.4826  # median absolute deviation -> standard deviation, for normal values


def region_layers(score_map: ScoreMap, cohort: Cohort | None) -> tuple[Layer, ...]:
    """The maps in which regions are looked for: of windows and, where the model knows places, of places.

    Windows show what the generator could not reproduce over some area (missing rows, a wrong part of the body), places
    what is small and sharp (needles): see docs/adr/0021.

    Args:
        score_map: With maps "wd" and, where places are to count, "place".
        cohort: Whose scores say what is usual; None: the maps themselves (`fallback_threshold`).
    """
    threshold = None if cohort is None else cohort.region_threshold
    found = [_layer("wd_patch", score_map.maps["wd"], _known(cohort, "wd_patch"), threshold)]
    places = shown_places(score_map)
    if places is not None and "place" in score_map.maps:
        known = _known(cohort, places[0])
        if cohort is None or len(known):
            threshold = None if cohort is None else region_threshold(known)
            found.append(_layer(places[0], score_map.maps["place"], known, threshold, SPILL_OF_PLACES))
    return tuple(found)


def region_threshold(peaks: Float64, share: float = REGION_SHARE) -> float:
    """The smallest peak that at most `share` of the images exceed.

    A region begins where a map exceeds this value. The maps' *peaks* are what counts, not their pixels: of
    the many windows of an image one is always high, and a threshold that few pixels exceed would put regions
    on most normal images (design notes, method, section 4). With fewer than 1 / share images it is the highest peak.

    Args:
        peaks: ``(M,)`` highest value of every normal image; with none, regions never begin.
        share: Of the images.
    """
    if not len(peaks):
        return float("inf")
    return float(np.quantile(peaks, 1 - share, method="higher"))


def fallback_threshold(dense: Float32) -> float:
    """Where regions start without a cohort: `FALLBACK_DEVIATIONS` robust deviations above the map's own median.

    It finds what stands out within the image itself, if anything does, and says nothing about other images.
    Median and median absolute deviation are used because the anomaly must not raise its own threshold.

    Args:
        dense: ``(K, R, C)``, NaN where nothing was scored.
    """
    return _from_itself(dense)[0]


def _layer(name: str, dense: Float32, known: Float64, threshold: float | None, spill: float = 0.0) -> Layer:
    """A map with its threshold, its own where none is given; spread as the `known` scores are, if there are any."""
    if threshold is None or not len(known):
        own, spread = _from_itself(dense)
        threshold = own if threshold is None else threshold
    else:
        spread = float(known.std())
    spread = spread if np.isfinite(spread) and spread > 0 else 1.0
    return Layer(score=name, values=dense, threshold=float(threshold), spread=spread, spill=spill)


def _known(cohort: Cohort | None, name: str) -> Float64:
    """A score of the cohort's images; none where there is no cohort, or it doesn't know the score."""
    return np.empty(0) if cohort is None or name not in cohort.names else column(cohort, name)


def _from_itself(dense: Float32) -> tuple[float, float]:
    """A map's own threshold and robust standard deviation; infinite where nothing was scored."""
    values = dense[np.isfinite(dense)]
    if not values.size:
        return float("inf"), float("inf")
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median))) * _MAD_TO_SD
    return median + FALLBACK_DEVIATIONS * deviation, deviation
