"""A bundle's reference cohort: scores of single images (format /1), as JSON and as the measure of new images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anomap.calibration.conformal import at_least, z_scores
from anomap.errors import AnomapError
from anomap.types import Cohort, Float64, Int64

FORMAT = "anomap.cohort/1"
COMBINED = "combined"  # the name of `combined_score` beside those of anomap.scoring.SCORES
# What a new model of a kind combines: of all sets of up to three scores one that found most planted anomalies on
# validation images (benchmarks/combinations.py; docs/adr/0018).
COMBINES = {
    "radiograph": ("wd_patch", "feature_distance", "feature_patch"),
    "ct": ("feature_residual", "feature_distance", "feature_patch"),
}
_COMBINED_BEFORE = ("wd_patch", "w_distance")  # of cohorts that don't say


def combined_score(per_image: Mapping[str, Float64], cohort: Cohort) -> Float64:
    """The largest of the standard scores of `Cohort.combines`, ``(N,)``.

    An anomaly stays in the residual, differs for the discriminator, or drags the latent vector away from the training
    images: seldom all at once.

    Args:
        per_image: Score name -> ``(N,)``.
        cohort: What the scores are standardised by.

    Raises:
        AnomapError: E302 when the cohort has none of them.
    """
    names = _parts(per_image, cohort)
    if not names:
        raise AnomapError("E302", f"the cohort has none of the scores {', '.join(cohort.combines)}")
    result: Float64 = np.max([z_scores(per_image[name], column(cohort, name)) for name in names], axis=0)
    return result


def cohort_to_dict(cohort: Cohort) -> dict[str, Any]:
    """A cohort as JSON values; floats are written in full, so that `cohort_from_dict` returns the same numbers."""
    return {
        "format": FORMAT,
        "description": cohort.description,
        "bundle_sha256": cohort.bundle_sha256,
        "region_threshold": cohort.region_threshold,
        "names": list(cohort.names),
        "patients": list(cohort.patients),
        "combines": list(cohort.combines),
        "scores": cohort.scores.tolist(),
    }


def cohort_from_dict(content: Mapping[str, Any]) -> Cohort:
    """Read what `cohort_to_dict` made.

    Raises:
        AnomapError: E302 when it is of another format, incomplete, or its numbers make no sense.
    """
    try:
        if content["format"] != FORMAT:
            raise AnomapError("E302", f"cohort has format {content['format']!r}, expected {FORMAT!r}")
        names, patients = tuple(map(str, content["names"])), tuple(map(str, content["patients"]))
        scores = np.array(content["scores"], np.float64)
        threshold = float(content["region_threshold"])
        described = {"description": str(content["description"]), "bundle_sha256": str(content["bundle_sha256"])}
        combines = tuple(map(str, content.get("combines", _COMBINED_BEFORE)))
    except (KeyError, TypeError, ValueError) as error:
        raise AnomapError("E302", f"cohort is not valid: {type(error).__name__}") from error
    if scores.shape != (len(patients), len(names)) or not np.isfinite(scores).all() or len(set(names)) < len(names):
        raise AnomapError("E302", f"cohort holds no {len(patients)} x {len(names)} finite scores of different names")
    if not np.isfinite(threshold):
        raise AnomapError("E302", "the region threshold of the cohort is not finite")
    return Cohort(
        scores=scores, names=names, patients=patients, region_threshold=threshold, combines=combines, **described
    )


def column(cohort: Cohort, name: str) -> Float64:
    """One score of all images of the cohort, ``(M,)``."""
    return cohort.scores[:, cohort.names.index(name)]


def exceedances(per_image: Mapping[str, Float64], cohort: Cohort) -> dict[str, Int64]:
    """Score name -> ``(N,)`` number of cohort images at least as odd; with "combined" where it exists."""
    counts = {name: at_least(per_image[name], column(cohort, name)) for name in cohort.names if name in per_image}
    parts = _parts(counts, cohort)
    if parts:
        reference = np.stack([column(cohort, name) for name in parts], axis=1)  # [M,P]
        images = np.stack([per_image[name] for name in parts], axis=1)  # [N,P]
        counts[COMBINED] = np.array([_combined_at_least(image, reference) for image in images], np.int64)
    return counts


def _parts(per_image: Mapping[str, Any], cohort: Cohort) -> list[str]:
    return [name for name in cohort.combines if name in cohort.names and name in per_image]


def _combined_at_least(image: Float64, reference: Float64) -> int:
    """How many of the cohort have a combined score at least as high as the image's.

    The image takes part in the means and deviations, as each image of the cohort does. Otherwise the two would
    not be exchangeable, and the p-values of a small cohort too small (full conformal prediction).

    Args:
        image: ``(P,)`` its scores.
        reference: ``(M, P)`` the cohort's.
    """
    together = np.concatenate([reference, image[None]])
    spread = together.std(axis=0)
    combined = ((together - together.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).max(axis=1)
    return int(np.count_nonzero(combined[:-1] >= combined[-1]))
