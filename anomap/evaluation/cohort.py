"""The reference cohort of a bundle: what its scores are on images as they should be.

It is measured when a bundle is made, on normal images that the generator was not trained on, with the settings
a study is analysed with. p-values and the start of regions are relative to it, and hold for images like those.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import numpy as np

from anomap.bundle import Bundle
from anomap.calibration import COMBINES, region_threshold
from anomap.evaluation.neighbours import fit_neighbours, with_neighbours
from anomap.evaluation.scores import Scores, score_images
from anomap.projection.schedule import ProjectionConfig
from anomap.training.data import ImageSet
from anomap.types import Cohort


def measure_cohort(
    bundle: Bundle, image_set: ImageSet, config: ProjectionConfig, measured: date | None = None
) -> Cohort:
    """Score normal images.

    Args:
        bundle: The model the cohort is for.
        image_set: Normal images that were not trained on, prepared for this bundle.
        config: Preset that studies will be analysed with.
        measured: Date for the description; today when omitted.

    Raises:
        AnomapError: As `anomap.evaluation.scores.score_images`; E302 when there are no images.
    """
    bank = fit_neighbours(bundle, image_set)
    places = None if bank is None else bank.places(bundle, image_set)
    scores = with_neighbours(score_images(bundle, image_set.prepared, config), places)
    combines = COMBINES[bundle.spec.kind]
    return cohort_of(scores, image_set, bundle.info.sha256, describe(image_set, config, measured), combines)


def cohort_of(
    scores: Scores, image_set: ImageSet, bundle_sha256: str, description: str, combines: tuple[str, ...]
) -> Cohort:
    """A cohort from scores that were measured already.

    Args:
        scores: Of the images of `image_set`.
        image_set: Normal images.
        bundle_sha256: Hash of the bundle that made the scores.
        description: Who they are.
        combines: The scores behind "combined".

    Raises:
        AnomapError: E302 when there are no images.
    """
    names = tuple(scores.per_image)
    return Cohort(
        scores=np.stack([scores.per_image[name] for name in names], axis=1),
        names=names,
        patients=image_set.patients,
        bundle_sha256=bundle_sha256,
        description=description,
        region_threshold=region_threshold(scores.map_peak),
        combines=combines,
    )


def describe(image_set: ImageSet, config: ProjectionConfig, measured: date | None = None) -> str:
    """Population, sources and date of a cohort in one or two sentences.

    Args:
        image_set: The cohort's images.
        config: The preset the scores were measured with.
        measured: Date; today (UTC) when omitted.
    """
    day = measured or datetime.now(UTC).date()
    sources = Counter(image_set.sources)
    parts = ", ".join(f"{name or 'source not named'} ({count})" for name, count in sources.most_common())
    return (
        f"{len(image_set.names)} images of {len(set(image_set.patients))} patients labelled normal: "
        f"{parts}. Measured {day.isoformat()} with preset {config.preset} ({config.steps} steps)."
    )
