"""A site's own cohort (format /2): normal patients, one series each, with what their series are compared by.

The exchangeable unit is the patient. A series counts with the maximum of every score over its images, and is
compared with the maxima of the patients of the same stratum: longer series have higher maxima. A stratum is a fixed
function of the header (`anomap.gate.strata`), never of scores, which keeps p-values valid within each (Mondrian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anomap.calibration.cohort import FORMAT as IMAGES_FORMAT
from anomap.calibration.cohort import cohort_from_dict, cohort_to_dict
from anomap.errors import AnomapError
from anomap.scoring import WITHOUT_PROJECTION
from anomap.types import Cohort, Float64, Int64

FORMAT = "anomap.cohort/2"
LEAST_LOOKED_AT = 2  # images of a quick look; with fewer of them nothing is thinned


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCohort:
    """Normal patients of one site, scored by one bundle with one setting.

    Attributes:
        images: Scores of all images, each patient's in the order of its slices; `Cohort.patients` names the patient
            of each by a made-up label.
        bundle_name: For people; `images.bundle_sha256` decides.
        settings_sha256: Hash of preprocessing, score and projection settings; a study must have the same.
        strata_by: What strata are made of, see `anomap.gate.strata`.
        strata: Patient -> stratum, in the order of acquisition where that is known.
    """

    images: Cohort
    bundle_name: str
    settings_sha256: str
    strata_by: tuple[str, ...]
    strata: Mapping[str, str]

    def __post_init__(self) -> None:
        if set(self.images.patients) != set(self.strata):
            raise AnomapError("E302", "the cohort's strata are not those of its patients")

    def statistics(self, stratum: str) -> Float64:
        """Maxima of every score over the images of each patient of a stratum, ``(n, S)``; see `series_maxima`."""
        patients, names = np.array(self.images.patients), self.images.names
        rows = [
            series_maxima(dict(zip(names, self.images.scores[patients == name].T, strict=True)), names)
            for name, kind in self.strata.items()
            if kind == stratum
        ]
        return np.array(rows).reshape(len(rows), len(self.images.names))

    def thinned(self, every: int) -> SiteCohort | None:
        """The cohort of a quick look: of each patient the images that `looked_at` takes of a new series, too.

        A maximum over some slices is no higher than that over all of them: it is exchangeable only with maxima over
        the same choice of slices. Of the others only the scores that need no projection are kept, which a look takes
        of all slices. Patients with too few images are left out, as a series like theirs is looked at in full.

        Args:
            every: One image in so many.

        Returns:
            None when no patient has images enough.
        """
        patients = np.array(self.images.patients)
        of = {name: np.flatnonzero(patients == name) for name in self.strata}
        looked = {name: rows[looked_at(len(rows), every)] for name, rows in of.items()}
        strata = {name: kind for name, kind in self.strata.items() if len(looked[name])}
        if not strata:
            return None
        unseen = np.ones(len(patients), bool)
        unseen[np.concatenate([looked[name] for name in strata])] = False
        projected = np.array([name not in WITHOUT_PROJECTION for name in self.images.names])
        scores = np.where(unseen[:, None] & projected, np.nan, self.images.scores)
        rows = np.sort(np.concatenate([of[name] for name in strata]))
        images = replace(
            self.images,
            scores=scores[rows],
            patients=tuple(patients[rows].tolist()),
            description=f"One image in {every} of these: {self.images.description}",
        )
        return replace(self, images=images, strata=strata)


def series_maxima(per_image: Mapping[str, Float64], names: Sequence[str]) -> Float64:
    """The maximum of every score over the images of a series, ``(S,)``.

    A score that the series doesn't have counts as 0, the least there is: a rule for all series alike, which keeps
    p-values valid.

    Args:
        per_image: Score name -> ``(N,)``.
        names: The S scores.
    """

    def highest(name: str) -> float:
        values = per_image.get(name, np.empty(0))
        values = values[~np.isnan(values)]
        return float(values.max()) if len(values) else 0.0

    return np.array([highest(name) for name in names])


def looked_at(count: int, every: int) -> Int64:
    """Which of a series' images a quick look takes: one in `every`, the first from the middle of the first `every`.

    Args:
        count: Images of the series that show a body, in the order of its slices.
        every: One in so many.

    Returns:
        Their places; none when they would be fewer than `LEAST_LOOKED_AT`.
    """
    rows = np.arange(every // 2, count, every, dtype=np.int64)
    return rows if len(rows) >= LEAST_LOOKED_AT else rows[:0]


def weights_of(site: SiteCohort, weights: Mapping[str, float]) -> Float64:
    """Weights in the order of the cohort's scores, 1 where none is named, ``(S,)``.

    Raises:
        AnomapError: E200 for a name that is no score of the cohort, a negative or infinite weight, or only zeros.
    """
    unknown = set(weights) - set(site.images.names)
    if unknown:
        raise AnomapError("E200", f"no score is named {', '.join(sorted(unknown))}; there are {site.images.names}")
    values = np.array([weights.get(name, 1.0) for name in site.images.names], np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise AnomapError("E200", "weights must be numbers of at least 0, and one of them above")
    return values


def site_to_dict(site: SiteCohort) -> dict[str, Any]:
    """A site's cohort as JSON values; `site_from_dict` returns the same numbers."""
    return {
        **cohort_to_dict(site.images),
        "format": FORMAT,
        "bundle_name": site.bundle_name,
        "settings_sha256": site.settings_sha256,
        "strata_by": list(site.strata_by),
        "strata": dict(site.strata),
    }


def site_from_dict(content: Mapping[str, Any]) -> SiteCohort:
    """Read what `site_to_dict` made.

    Raises:
        AnomapError: E302 when it is of another format, incomplete, or its numbers make no sense.
    """
    try:
        if content["format"] != FORMAT:
            raise AnomapError("E302", f"cohort has format {content['format']!r}, expected {FORMAT!r}")
        return SiteCohort(
            images=cohort_from_dict({**content, "format": IMAGES_FORMAT}),
            bundle_name=str(content["bundle_name"]),
            settings_sha256=str(content["settings_sha256"]),
            strata_by=tuple(map(str, content["strata_by"])),
            strata={str(name): str(kind) for name, kind in content["strata"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnomapError("E302", f"cohort is not valid: {type(error).__name__}") from error
