"""From scores to p-values and a verdict: how unusual is this image among images as they should be?

Conformal p-values (Vovk et al. 2005; for anomaly detection Bates et al. 2023, arXiv 2104.08279) need no model of
the scores' distribution: when the new image and the M images of the cohort are exchangeable, p = (1 + number of
cohort scores at least as high) / (M + 1) is at most alpha with a chance of at most alpha. They are therefore no
better than the cohort is like the images to come. A bundle's own reference cohort is made of public images, not of
a site's: its p-values are reported, and a verdict isn't. A p-value is no probability of disease.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anomap.errors import AnomapError
from anomap.regions import find_regions
from anomap.types import AnomalyResult, Cohort, Float32, Float64, ImageSeries, Int64, Reason, ScoreMap, Verdict

FORMAT = "anomap.cohort/1"
COMBINED = "combined"  # the name of `combined_score` beside those of anomap.scoring.SCORES
_COMBINES = ("wd_patch", "w_distance")  # what the residual shows, and what the generator absorbed into an odd vector
FALLBACK_DEVIATIONS = 5.0  # without a cohort: regions start so many robust deviations above the map's median
_MAD_TO_SD = 1.4826  # median absolute deviation -> standard deviation, for normal values


def calibrate(
    series: ImageSeries,
    score_map: ScoreMap,
    cohort: Cohort | None,
    provenance: Mapping[str, Any],
    *,
    site_calibrated: bool = False,
    alpha_review: float = 0.05,
    alpha_reject: float = 0.01,
    min_area_px: float | None = None,
) -> AnomalyResult:
    """Compare scores with those of a cohort, find regions, and say a verdict.

    The p-value of the series is the smallest of all scores and images times their number (Bonferroni), at most 1.
    "combined" (`combined_score`) is made of two of the scores; it is reported beside them and not counted again.

    Args:
        series: What was scored; its affine places the regions.
        score_map: From `anomap.scoring.score`.
        cohort: Scores of images as they should be, by the same bundle; None: no p-values (p = 1), and regions
            start at `fallback_threshold`.
        provenance: Stored in the result; its "bundle_sha256" must be the cohort's.
        site_calibrated: `cohort` is made of this site's own routine images. Only then a verdict is given.
        alpha_review: Below this p-value a series is to be reviewed; the share of false alarms on normal series.
        alpha_reject: Below this p-value it is rejected.
        min_area_px: See `anomap.regions.find_regions`.

    Returns:
        The result; verdict UNCALIBRATED unless `site_calibrated` and the cohort is large enough for `alpha_review`.

    Raises:
        AnomapError: E302 when the cohort belongs to other weights or shares no score with `score_map`;
            E501 when there is no image.
    """
    if not len(score_map.frame):
        raise AnomapError("E501", "no image was scored")
    per_image = dict(score_map.per_image)
    peaks, threshold = None, fallback_threshold(score_map.maps["wd"]) if cohort is None else cohort.region_threshold
    counts: dict[str, Int64] = {}
    if cohort is not None:
        _check_cohort(cohort, per_image, provenance)
        counts = _exceedances(per_image, cohort)
        if COMBINED in counts:
            per_image[COMBINED] = combined_score(score_map.per_image, cohort)
        if "wd_patch" in cohort.names:
            peaks = _column(cohort, "wd_patch")
    labels, regions = find_regions(
        score_map,
        series.affine,
        threshold,
        is_volume=series.modality == "CT",
        cohort_peaks=peaks,
        min_area_px=min_area_px,
    )
    size = 0 if cohort is None else len(cohort.patients)
    p_by_score = {name: _p(count, size) for name, count in counts.items()}
    p_value = series_p_value(p_by_score)
    verdict, reasons = _verdict(p_value, _tests(p_by_score), size, site_calibrated, (alpha_review, alpha_reject))
    return AnomalyResult(
        p_value=p_value,
        p_by_score=p_by_score,
        percentile_by_score={name: _percent_below(count, size) for name, count in counts.items()},
        summary={name: float(values.max()) for name, values in per_image.items()},
        worst_image=_worst(per_image, p_by_score),
        labels=labels,
        regions=regions,
        region_threshold=float(threshold),
        verdict=verdict,
        reasons=reasons,
        cohort_description="" if cohort is None else cohort.description,
        cohort_size=size,
        provenance=provenance,
    )


def conformal_p(scores: Float64, reference: Float64) -> Float64:
    """p-values (1 + number of reference scores at least as high) / (M + 1); ties count against the score.

    Args:
        scores: ``(N,)``, higher is odder.
        reference: ``(M,)`` scores of images as they should be.

    Returns:
        ``(N,)`` in [1 / (M + 1), 1].
    """
    return _p(_at_least(scores, reference), len(reference))


def percentile(scores: Float64, reference: Float64) -> Float64:
    """Share of the reference below each score, in per cent; ``(N,)`` scores, ``(M,)`` reference."""
    return _percent_below(_at_least(scores, reference), len(reference))


def z_scores(scores: Float64, reference: Float64) -> Float64:
    """Distance from the reference's mean in its standard deviations (1 when all its scores are equal)."""
    z: Float64 = (scores - reference.mean()) / (reference.std() or 1.0)
    return z


def combined_score(per_image: Mapping[str, Float64], cohort: Cohort) -> Float64:
    """The larger of the standard scores of "wd_patch" and "w_distance", ``(N,)``.

    An anomaly either stays in the residual or drags the latent vector away from the training images: seldom both.

    Args:
        per_image: Score name -> ``(N,)``.
        cohort: What the scores are standardised by.

    Raises:
        AnomapError: E302 when the cohort has neither of them.
    """
    names = [name for name in _COMBINES if name in cohort.names and name in per_image]
    if not names:
        raise AnomapError("E302", f"the cohort has none of the scores {', '.join(_COMBINES)}")
    result: Float64 = np.max([z_scores(per_image[name], _column(cohort, name)) for name in names], axis=0)
    return result


def series_p_value(p_by_score: Mapping[str, Float64]) -> float:
    """Smallest p-value of a series after Bonferroni over scores and images; 1 when there is none.

    Args:
        p_by_score: Score name -> ``(N,)`` p-values; "combined" doesn't count, it repeats two of the others.
    """
    smallest = min((float(p.min()) for name, p in p_by_score.items() if name != COMBINED), default=1.0)
    return min(1.0, smallest * max(1, _tests(p_by_score)))


def fallback_threshold(wd: Float32) -> float:
    """Where regions start without a cohort: `FALLBACK_DEVIATIONS` robust deviations above the map's own median.

    It finds what stands out within the image itself, if anything does, and says nothing about other images.
    Median and median absolute deviation are used because the anomaly must not raise its own threshold.

    Args:
        wd: ``(K, R, C)``, NaN where nothing was scored.
    """
    values = wd[np.isfinite(wd)]
    if not values.size:
        return float("inf")
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median)))
    return median + FALLBACK_DEVIATIONS * _MAD_TO_SD * deviation


def cohort_to_dict(cohort: Cohort) -> dict[str, Any]:
    """A cohort as JSON values; floats are written in full, so that `cohort_from_dict` returns the same numbers."""
    return {
        "format": FORMAT,
        "description": cohort.description,
        "bundle_sha256": cohort.bundle_sha256,
        "region_threshold": cohort.region_threshold,
        "names": list(cohort.names),
        "patients": list(cohort.patients),
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
    except (KeyError, TypeError, ValueError) as error:
        raise AnomapError("E302", f"cohort is not valid: {type(error).__name__}") from error
    if scores.shape != (len(patients), len(names)) or not np.isfinite(scores).all() or len(set(names)) < len(names):
        raise AnomapError("E302", f"cohort holds no {len(patients)} x {len(names)} finite scores of different names")
    if not np.isfinite(threshold):
        raise AnomapError("E302", "the region threshold of the cohort is not finite")
    return Cohort(scores=scores, names=names, patients=patients, region_threshold=threshold, **described)


def _check_cohort(cohort: Cohort, per_image: Mapping[str, Float64], provenance: Mapping[str, Any]) -> None:
    if cohort.bundle_sha256 != provenance.get("bundle_sha256"):
        raise AnomapError("E302", "the cohort was measured with other weights than the scores")
    if not set(cohort.names) & set(per_image):
        raise AnomapError("E302", "the cohort holds none of the scores")


def _column(cohort: Cohort, name: str) -> Float64:
    return cohort.scores[:, cohort.names.index(name)]


def _at_least(scores: Float64, reference: Float64) -> Int64:
    """How many reference scores are at least as high as each score."""
    return len(reference) - np.searchsorted(np.sort(reference), scores, side="left").astype(np.int64)


def _p(at_least: Int64, size: int) -> Float64:
    return (at_least.astype(np.float64) + 1.0) / (size + 1.0)


def _percent_below(at_least: Int64, size: int) -> Float64:
    return 100.0 * (size - at_least.astype(np.float64)) / size  # in this order: exactly 100 at the top


def _exceedances(per_image: Mapping[str, Float64], cohort: Cohort) -> dict[str, Int64]:
    """Score name -> ``(N,)`` number of cohort images at least as odd; with "combined" where it exists."""
    counts = {name: _at_least(per_image[name], _column(cohort, name)) for name in cohort.names if name in per_image}
    parts = [name for name in _COMBINES if name in counts]
    if parts:
        reference = np.stack([_column(cohort, name) for name in parts], axis=1)  # [M,P]
        images = np.stack([per_image[name] for name in parts], axis=1)  # [N,P]
        counts[COMBINED] = np.array([_combined_at_least(image, reference) for image in images], np.int64)
    return counts


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


def _tests(p_by_score: Mapping[str, Float64]) -> int:
    """How many p-values the smallest was chosen from."""
    return sum(len(p) for name, p in p_by_score.items() if name != COMBINED)


def _worst(per_image: Mapping[str, Float64], p_by_score: Mapping[str, Float64]) -> int:
    """The image with the smallest p-value; of equals the highest combined score, without a cohort the worst window."""
    tie = per_image.get(COMBINED, per_image.get("wd_patch"))
    images = len(next(iter(per_image.values())))
    smallest = np.min([np.ones(images), *p_by_score.values()], axis=0)
    return int(np.lexsort((np.zeros(images) if tie is None else -tie, smallest))[0])


def _verdict(
    p: float, tests: int, size: int, site_calibrated: bool, alphas: tuple[float, float]
) -> tuple[Verdict, tuple[Reason, ...]]:
    review, reject = alphas
    if not size:
        text = "There is no cohort to compare the scores with; regions stand out within this image only."
        return Verdict.UNCALIBRATED, (Reason(code="NO_COHORT", text=text),)
    if not site_calibrated:
        text = (
            f"The scores were compared with the {size} reference images of the model, not with images of this site; "
            "p-values hold for images like those."
        )
        return Verdict.UNCALIBRATED, (Reason(code="NO_SITE_CALIBRATION", text=text),)
    smallest = tests / (size + 1)
    if smallest > review:
        text = (
            f"The site's cohort of {size} images is too small: with {tests} comparisons no p-value can fall below "
            f"{min(1.0, smallest):.2g}, and review begins at {review:g}."
        )
        return Verdict.UNCALIBRATED, (Reason(code="COHORT_TOO_SMALL", text=text),)
    verdict = Verdict.REJECT if p <= reject else Verdict.REVIEW if p <= review else Verdict.PASS
    text = (
        f"p = {p:.2g} against {size} images of this site, corrected for {tests} comparisons "
        f"(review at {review:g}, reject at {reject:g})."
    )
    return verdict, (Reason(code=f"P_VALUE_{verdict}", text=text),)
