"""A bundle's reference cohort: scores of single images (format /1), as JSON and as the measure of new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anomap.calibration.conformal import Rank, rank, z_scores
from anomap.errors import AnomapError
from anomap.types import Cohort, Float64

FORMAT = "anomap.cohort/1"
COMBINED = "combined"  # the name of `combined_score` beside those of anomap.scoring.SCORES
# What a new model of a kind combines: of all sets of up to three scores one that found most planted anomalies on
# validation images (benchmarks/combinations.py; docs/adr/0018).
COMBINES = {
    "radiograph": ("wd_patch", "feature_distance", "feature_patch"),
    "ct": ("feature_residual", "feature_distance", "feature_patch", "neighbour_distance", "neighbour_patch"),
}
_COMBINED_BEFORE = ("wd_patch", "w_distance")  # of cohorts that don't say


def combined_score(per_image: Mapping[str, Float64], cohort: Cohort) -> Float64:
    """The largest of the standard scores of `Cohort.combines`, ``(N,)``.

    An anomaly stays in the residual, differs for the discriminator, or drags the latent vector away from the training
    images: seldom all at once. A score that an image doesn't have (NaN) doesn't count for it.

    Args:
        per_image: Score name -> ``(N,)``.
        cohort: What the scores are standardised by.

    Raises:
        AnomapError: E302 when the cohort has none of them.
    """
    names = _parts(per_image, cohort)
    if not names:
        raise AnomapError("E302", f"the cohort has none of the scores {', '.join(cohort.combines)}")
    result: Float64 = np.fmax.reduce([z_scores(per_image[name], column(cohort, name)) for name in names])
    return result


def cohort_to_dict(cohort: Cohort) -> dict[str, Any]:
    """A cohort as JSON values; floats are written in full, so that `cohort_from_dict` returns the same numbers.

    A score that an image doesn't have is null.
    """
    return {
        "format": FORMAT,
        "description": cohort.description,
        "bundle_sha256": cohort.bundle_sha256,
        "region_threshold": cohort.region_threshold,
        "names": list(cohort.names),
        "patients": list(cohort.patients),
        "combines": list(cohort.combines),
        "scores": [[None if np.isnan(value) else value for value in row] for row in cohort.scores.tolist()],
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
        scores = _numbers(content["scores"])
        threshold = float(content["region_threshold"])
        described = {"description": str(content["description"]), "bundle_sha256": str(content["bundle_sha256"])}
        combines = tuple(map(str, content.get("combines", _COMBINED_BEFORE)))
    except (KeyError, TypeError, ValueError) as error:
        raise AnomapError("E302", f"cohort is not valid: {type(error).__name__}") from error
    if scores.shape != (len(patients), len(names)) or len(set(names)) < len(names):
        raise AnomapError("E302", f"cohort holds no {len(patients)} x {len(names)} scores of different names")
    if not np.isfinite(threshold):
        raise AnomapError("E302", "the region threshold of the cohort is not finite")
    return Cohort(
        scores=scores, names=names, patients=patients, region_threshold=threshold, combines=combines, **described
    )


def column(cohort: Cohort, name: str) -> Float64:
    """One score of all images of the cohort that have it, ``(M,)`` or fewer."""
    values = cohort.scores[:, cohort.names.index(name)]
    return values[~np.isnan(values)]


def ranks(per_image: Mapping[str, Float64], cohort: Cohort) -> dict[str, Rank]:
    """Score name -> how images stand among those of the cohort; with "combined" where it exists."""
    there = [name for name in cohort.names if name in per_image and len(column(cohort, name))]
    found = {name: rank(per_image[name], column(cohort, name)) for name in there}
    parts = _parts(found, cohort)
    if parts:
        reference = cohort.scores[:, [cohort.names.index(name) for name in parts]]
        reference = reference[~np.isnan(reference).any(axis=1)]  # [M,P]: slices with neighbours, if these have some
        images = np.stack([per_image[name] for name in parts], axis=1)  # [N,P]
        counts = np.array([_combined_at_least(image, reference) for image in images], np.int64)
        found[COMBINED] = Rank(counts=counts, size=len(reference))
    return found


def _numbers(rows: Sequence[Sequence[float | None]]) -> Float64:
    """A table of numbers in which null is NaN; a NaN or an infinity is none (ValueError)."""
    given = [value for row in rows for value in row if value is not None]
    if not np.isfinite(np.array(given, np.float64)).all():
        raise ValueError("not finite")
    return np.array(rows, np.float64)  # None becomes NaN


def _parts(per_image: Mapping[str, Any], cohort: Cohort) -> list[str]:
    return [
        name for name in cohort.combines if name in cohort.names and name in per_image and len(column(cohort, name))
    ]


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
