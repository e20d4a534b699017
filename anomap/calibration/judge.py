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

from anomap.calibration.cohort import COMBINED, combined_score, ranks
from anomap.calibration.conformal import Rank, family_p
from anomap.calibration.layers import region_layers
from anomap.calibration.site import SiteCohort, series_maxima, weights_of
from anomap.calibration.survivors import held_against_images, held_against_patients
from anomap.errors import AnomapError
from anomap.regions import find_regions
from anomap.scoring import SERIES_SCORES
from anomap.types import AnomalyResult, Cohort, Float64, ImageSeries, Reason, ScoreMap, Verdict


def calibrate(
    series: ImageSeries,
    score_map: ScoreMap,
    cohort: Cohort | SiteCohort | None,
    provenance: Mapping[str, Any],
    *,
    stratum: str = "",
    weights: Mapping[str, float] | None = None,
    alpha_review: float = 0.05,
    alpha_reject: float = 0.01,
    min_area_px: float | None = None,
    every: int = 1,
    unseen: Mapping[str, Float64] | None = None,
) -> AnomalyResult:
    """Compare scores with those of a cohort, find regions, and say a verdict.

    With a site's cohort the p-value of the series is that of the maxima of its scores among those of the patients
    of its stratum (`anomap.calibration.conformal.family_p`). With a bundle's reference cohort, which knows single
    images only, it is the smallest of all scores and images times their number (Bonferroni), at most 1.
    "combined" (`combined_score`) is made of two of the scores; it is reported beside them and not counted again.

    Args:
        series: What was scored; its affine places the regions.
        score_map: From `anomap.scoring.score`.
        cohort: Scores of images as they should be, by the same bundle. `SiteCohort`: of this site's own normal
            patients; only then a verdict is given. None: no p-values (p = 1), and regions start where the maps
            themselves say (`anomap.calibration.layers`).
        provenance: Stored in the result; its "bundle_sha256" must be the cohort's.
        stratum: Whom of a site's cohort the series is compared with.
        weights: Weight of each score in the verdict, 1 where it isn't named.
        alpha_review: At or below this p-value a series is to be reviewed; the share of false alarms on normal series.
        alpha_reject: At or below this p-value it is rejected.
        min_area_px: See `anomap.regions.find_regions`.
        every: One image in so many was scored, and the cohort is a thinned one (`SiteCohort.thinned`).
        unseen: Scores of the other images that need no projection; they count in the p-value of the series.

    Returns:
        The result; verdict UNCALIBRATED unless the site's cohort has patients enough for `alpha_review`.

    Raises:
        AnomapError: E302 when the cohort belongs to other weights or shares no score with `score_map`;
            E200 when every score has weight 0; E501 when there is no image.
    """
    if not len(score_map.frame):
        raise AnomapError("E501", "no image was scored")
    per_image = dict(score_map.per_image)
    site, cohort = (cohort, cohort.images) if isinstance(cohort, SiteCohort) else (None, cohort)
    found: dict[str, Rank] = {}
    if cohort is not None:
        _check_cohort(cohort, per_image, provenance)
        found = ranks(per_image, cohort)
        if COMBINED in found:
            per_image[COMBINED] = combined_score(score_map.per_image, cohort)
    layers = region_layers(score_map, cohort)
    labels, regions = find_regions(
        layers,
        score_map.maps["residual"],
        series.affine,
        is_volume=series.modality == "CT" and every == 1,  # with slices left out, none has a neighbour
        min_area_px=min_area_px,
    )
    if cohort is not None:
        regions = held_against_images(regions, [layer.score for layer in layers], cohort)
    size = 0 if cohort is None else len(cohort.patients)
    p_by_score = {name: one.p for name, one in found.items()}
    if site is None:
        p_value, patients = series_p_value(p_by_score), 0
        verdict, reasons = _without_site(size)
    else:
        if not set(site.images.names) <= {*score_map.per_image, *SERIES_SCORES}:
            raise AnomapError("E302", "the site's cohort holds other scores than were measured")
        reference = site.statistics(stratum)
        rest = unseen or {}
        of_all = {name: np.append(values, rest.get(name, [])) for name, values in score_map.per_image.items()}
        maxima = series_maxima(of_all, site.images.names)
        p_value, patients = family_p(maxima, reference, weights_of(site, weights or {})), len(reference)
        verdict, reasons = _verdict(p_value, patients, stratum, (alpha_review, alpha_reject))
        names = [layer.score for layer in layers if layer.score in site.images.names]
        if patients and names:
            of = [site.images.names.index(name) for name in names]
            regions = held_against_patients(regions, names, maxima[of], reference[:, of], alpha_review)
    if every > 1:
        text = f"A quick look at one image in {every} ({len(score_map.frame)} of {len(series.pixels)})."
        if unseen:
            text += " Of the others those scores count that need no projection."
        reasons = (*reasons, Reason(code="QUICK_LOOK", text=text))
    return AnomalyResult(
        p_value=p_value,
        p_by_score=p_by_score,
        percentile_by_score={name: one.percent_below for name, one in found.items()},
        summary={name: float(values.max()) for name, values in per_image.items()},
        worst_image=_worst(per_image, p_by_score),
        labels=labels,
        regions=regions,
        region_thresholds={layer.score: layer.threshold for layer in layers},
        verdict=verdict,
        reasons=reasons,
        cohort_description="" if cohort is None else cohort.description,
        cohort_size=size,
        cohort_patients=patients,
        every=every,
        provenance=provenance,
    )


def series_p_value(p_by_score: Mapping[str, Float64]) -> float:
    """Smallest p-value of a series after Bonferroni over scores and images; 1 when there is none.

    Args:
        p_by_score: Score name -> ``(N,)`` p-values; "combined" doesn't count, it repeats two of the others.
    """
    smallest = min((float(p.min()) for name, p in p_by_score.items() if name != COMBINED), default=1.0)
    return min(1.0, smallest * max(1, _tests(p_by_score)))


def worst_first(result: AnomalyResult, score_map: ScoreMap) -> list[int]:
    """Images in the order in which a person should look at them, when there is room for a few.

    `AnomalyResult.worst_image` leads. The slice least like its neighbours is next: of all scores that one shows best
    what is in one slice only. Then those where the regions are highest, in the order of these. Then by the smallest p,
    then by the highest share of the cohort below; without a cohort by the highest window.
    """
    windows = score_map.per_image.get("wd_patch", np.zeros(len(score_map.frame)))
    p = _smallest(result.p_by_score, len(windows))
    share = np.max([np.zeros(len(windows)), *result.percentile_by_score.values()], axis=0)
    image_of = {int(frame): n for n, frame in enumerate(score_map.frame)}
    for region in reversed(result.regions):
        p[image_of[region.frame]] = -1.0 / region.label
    if "neighbour_patch" in score_map.per_image:
        p[score_map.per_image["neighbour_patch"].argmax()] = -2.0
    p[result.worst_image] = -3.0
    return [int(n) for n in np.lexsort((np.arange(len(p)), -windows, -share, p))]


def _check_cohort(cohort: Cohort, per_image: Mapping[str, Float64], provenance: Mapping[str, Any]) -> None:
    if cohort.bundle_sha256 != provenance.get("bundle_sha256"):
        raise AnomapError("E302", "the cohort was measured with other weights than the scores")
    if not set(cohort.names) & set(per_image):
        raise AnomapError("E302", "the cohort holds none of the scores")


def _tests(p_by_score: Mapping[str, Float64]) -> int:
    """How many p-values the smallest was chosen from."""
    return sum(len(p) for name, p in p_by_score.items() if name != COMBINED)


def _worst(per_image: Mapping[str, Float64], p_by_score: Mapping[str, Float64]) -> int:
    """The image with the smallest p-value; of equals the highest combined score, without a cohort the worst window."""
    tie = per_image.get(COMBINED, per_image.get("wd_patch"))
    images = len(next(iter(per_image.values())))
    return int(np.lexsort((np.zeros(images) if tie is None else -tie, _smallest(p_by_score, images)))[0])


def _smallest(p_by_score: Mapping[str, Float64], images: int) -> Float64:
    """The smallest p-value of each image, 1 without any, ``(N,)``."""
    smallest: Float64 = np.min([np.ones(images), *p_by_score.values()], axis=0)
    return smallest


def _without_site(size: int) -> tuple[Verdict, tuple[Reason, ...]]:
    if not size:
        text = "There is no cohort to compare the scores with; regions stand out within this image only."
        return Verdict.UNCALIBRATED, (Reason(code="NO_COHORT", text=text),)
    text = (
        f"The scores were compared with the {size} reference images of the model, not with images of this site; "
        "p-values hold for images like those."
    )
    return Verdict.UNCALIBRATED, (Reason(code="NO_SITE_CALIBRATION", text=text),)


def _verdict(p: float, patients: int, stratum: str, alphas: tuple[float, float]) -> tuple[Verdict, tuple[Reason, ...]]:
    review, reject = alphas
    kind = f" of its kind ({stratum})" if stratum else ""
    smallest = 1 / (patients + 1)
    if smallest > review:
        text = (
            f"The site's cohort has {patients} patients{kind}: no p-value can fall below {smallest:.2g}, and review "
            f"begins at {review:g}."
        )
        return Verdict.UNCALIBRATED, (Reason(code="COHORT_TOO_SMALL", text=text),)
    verdict = Verdict.REJECT if p <= reject else Verdict.REVIEW if p <= review else Verdict.PASS
    text = f"p = {p:.2g} among {patients} patients of this site{kind} (review at {review:g}, reject at {reject:g})."
    reasons = [Reason(code=f"P_VALUE_{verdict}", text=text)]
    if smallest > reject:
        text = f"No p-value can fall below {smallest:.2g}, so that nothing is rejected for its scores."
        reasons.append(Reason(code="REJECT_OUT_OF_REACH", text=text))
    return verdict, tuple(reasons)
