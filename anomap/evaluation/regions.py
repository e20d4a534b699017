"""Would a report mark it? Regions as reports have them, image by image, on anomalies with a known place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from anomap.calibration import region_layers
from anomap.regions import find_regions
from anomap.types import Bool, Cohort, ScoreMap, UInt16


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFigures:
    """How regions mark planted anomalies.

    Attributes:
        hit: Images with a region that touches the anomaly.
        first: Images whose first region does.
        elsewhere: Regions that touch none, an image.
    """

    hit: int
    first: int
    elsewhere: float


def region_figures(scored: ScoreMap, cohort: Cohort, masks: Bool) -> RegionFigures:
    """Regions of images, each for itself.

    Args:
        scored: Of N images on the model's own pixels, from `anomap.evaluation.scores.score_on_model_grid`.
        cohort: Says where regions begin.
        masks: ``(N, H, W)`` the anomalies.
    """
    hit = first = elsewhere = 0
    for labels, mask in zip(_labels(scored, cohort), masks, strict=True):
        touched = np.unique(labels[mask & (labels > 0)])
        hit += len(touched) > 0
        first += 1 in touched
        elsewhere += int(labels.max()) - len(touched)
    return RegionFigures(hit=hit, first=first, elsewhere=elsewhere / len(masks))


def _labels(scored: ScoreMap, cohort: Cohort) -> Iterator[UInt16]:
    """``(H, W)`` labels of each image."""
    layers = region_layers(scored, cohort)
    for frame in scored.frame:
        only = slice(frame, frame + 1)
        own = [layer.cut(only) for layer in layers]
        yield find_regions(own, scored.maps["residual"][only], np.eye(4), is_volume=False)[0][0]
