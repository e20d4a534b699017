"""One series in two tiers. A review and a reject always come from all slices; only a pass may come from some.

The full verdict is an alarm for at most alpha of the normal patients, and the quick look can only take alarms away: the
guarantee stays. What it costs is alarms that a look at some slices does not see (docs/gate.md states how many).
"""

from __future__ import annotations

from dataclasses import replace

from anomap.bundle import Bundle
from anomap.config import AnalyzeConfig
from anomap.gate.tiers import FirstLook, Quick
from anomap.pipeline import Analysis, Progress, analyze_series
from anomap.types import AnomalyResult, ImageSeries, Verdict


def analyze_in_tiers(
    series: ImageSeries, bundle: Bundle, config: AnalyzeConfig, progress: Progress, choice: str, *, quick: Quick
) -> Analysis:
    """Look at some slices, and analyse all of them unless that look is clearly plain.

    All slices are then projected anew, so that the result is to the last digit the one without a quick look.

    Args:
        series: A radiograph, a short series and one without a site's cohort are analysed in full at once.
        bundle: Loaded.
        config: Its limits and cohort.
        progress: Told (stage, done, total).
        choice: Why this bundle.
        quick: How to look.

    Raises:
        AnomapError: As `anomap.pipeline.analyze_series`.
    """
    first = analyze_series(series, bundle, config, progress, choice, every=quick.every)
    seen = first.result
    if seen.every == 1 or clearly_plain(seen, quick.margin * config.alpha_review):
        return first
    full = analyze_series(series, bundle, config, progress, choice)
    full.result.provenance["seconds"]["first_look"] = round(sum(seen.provenance["seconds"].values()), 4)
    look = FirstLook(
        every=seen.every,
        p_value=seen.p_value,
        patients=seen.cohort_patients,
        cohort_id=seen.provenance["cohort_id"],
    )
    return replace(full, first_look=look)


def clearly_plain(seen: AnomalyResult, limit: float) -> bool:
    """Whether a quick look passes a series: a verdict of its own, and a p-value well above that of a review."""
    return seen.verdict is Verdict.PASS and seen.p_value > limit
