"""The quality of a bundle in figures: separation by category, pairs, needles, baselines beside everything.

No mean over categories is formed: detectors differ from one kind of anomaly to the next, and a mean hides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from anomap.bundle import Bundle
from anomap.calibration import COMBINED, combined_score
from anomap.errors import AnomapError
from anomap.evaluation.auroc import RESAMPLES, Interval, auroc, auroc_interval, average_precision, fpr_at_tpr
from anomap.evaluation.baselines import Baselines, baseline_scores, fit_baselines
from anomap.evaluation.cohort import cohort_of
from anomap.evaluation.localisation import PairedTest, chance_of_touching, paired_test, touches
from anomap.evaluation.scores import Progress, choose, score_images, subset, take
from anomap.evaluation.synthetic import needle, planted
from anomap.projection.schedule import FAST, ProjectionConfig
from anomap.training.data import ImageSet
from anomap.types import Cohort, Float64, Int64, Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """How quality is measured."""

    projection: ProjectionConfig = FAST  # preset the figures are for
    cap: int | None = None  # at most so many images of a category, chosen by the hash of their names; None: all
    needles: int = 20  # images that receive a needle, one a patient
    needle_width_px: float = 2.0  # at model resolution
    needle_contrast: float = 0.5  # of "visible" needles: they change their pixels by a quarter of the range or more
    resamples: int = RESAMPLES  # draws of patients for the intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How one score separates one category from the normal images.

    Attributes:
        auroc: Area under the ROC curve.
        interval: Its 95 % interval over patients; None with too few patients.
        average_precision: At the category's own share of images.
        fpr_at_95_tpr: Normal images called odd where 95 % of the category are found.
    """

    auroc: float
    interval: Interval | None
    average_precision: float
    fpr_at_95_tpr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryResult:
    """One category against all normal images.

    Attributes:
        category: Its name.
        images: How many were scored.
        patients: Of how many patients.
        same_sources: All from data sets that normal training images come from too. Images of other sources also
            differ in scanner, compression and burnt-in marks, and can be told apart for the wrong reason.
        separation: Score -> figures.
        pairs: Score -> the category's images against the very images they were made from, where there are such.
        paired_patients: Of how many patients these are; the sign test's p-value counts images as independent.
    """

    category: str
    images: int
    patients: int
    same_sources: bool
    separation: dict[str, Separation]
    pairs: dict[str, PairedTest]
    paired_patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleResult:
    """Needles drawn into normal images, one image a patient.

    Attributes:
        test: Patch score (WD) of the same image with and without.
        mse_test: The same of the patch score by MSE.
        touched: How many top windows touch the needle.
        expected_touched: How many would if windows were pointed at blindly.
        images: Names of the images.
    """

    test: PairedTest
    mse_test: PairedTest
    touched: int
    expected_touched: float
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """All figures of a bundle on one data set."""

    normal_images: int
    normal_patients: int
    training_images: int
    categories: tuple[CategoryResult, ...]
    needles: NeedleResult  # wherever they fall
    visible_needles: NeedleResult  # where they show


def evaluate(
    bundle: Bundle,
    train: ImageSet,
    normal: ImageSet,
    anomalous: Iterable[ImageSet],
    config: QualityConfig,
    *,
    origins: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Measure a bundle.

    "combined" is standardised by the scores of `normal`, which also serve as the negatives: with few normal images
    its figures are a little flattering.

    Args:
        bundle: Loaded on its device.
        train: Normal images the bundle was trained on: for the baselines, and for their sources.
        normal: Normal images it was not trained on.
        anomalous: One set a category.
        config: What to do.
        origins: Name of an anomalous image -> name of the normal image it was made from.
        progress: Told of scored images (done, in all) of the set at hand.

    Raises:
        AnomapError: As the stages do; E200 when a set is empty.
    """
    ruler = _Ruler(bundle, fit_baselines(train.prepared), normal, config, progress)
    known = frozenset(train.sources)
    categories = [
        _category(ruler, images if config.cap is None else subset(images, choose(images, config.cap)), known, origins)
        for images in anomalous
    ]
    return Quality(
        normal_images=len(normal.names),
        normal_patients=len(set(normal.patients)),
        training_images=len(train.names),
        categories=tuple(categories),
        needles=needle_experiment(bundle, normal, config),
        visible_needles=needle_experiment(bundle, normal, config, contrast=config.needle_contrast),
    )


class _Ruler:
    """Scores of the normal images, and the same for whatever is to be held against them."""

    def __init__(
        self, bundle: Bundle, baselines: Baselines, normal: ImageSet, config: QualityConfig, progress: Progress | None
    ) -> None:
        self.bundle, self.baselines, self.config, self.progress = bundle, baselines, config, progress
        scores = score_images(bundle, normal.prepared, config.projection, progress)
        self.cohort: Cohort = cohort_of(scores, normal, bundle.info.sha256, "")
        self.normal = normal
        self.reference = self._all(scores.per_image, normal.prepared)

    def measure(self, images: ImageSet) -> dict[str, Float64]:
        """All scores of a set, ``(N,)`` each."""
        scores = score_images(self.bundle, images.prepared, self.config.projection, self.progress)
        return self._all(scores.per_image, images.prepared)

    def _all(self, per_image: Mapping[str, Float64], prepared: Prepared) -> dict[str, Float64]:
        combined = {COMBINED: combined_score(per_image, self.cohort)}
        return {**per_image, **combined, **baseline_scores(self.baselines, prepared)}


def _category(
    ruler: _Ruler, images: ImageSet, known: frozenset[str], origins: Mapping[str, str] | None
) -> CategoryResult:
    if not images.names:
        raise AnomapError("E200", "a category without images can't be measured")
    found = ruler.measure(images)
    rows, partners = paired_rows(images, ruler.normal, origins or {})
    return CategoryResult(
        category=images.categories[0],
        images=len(images.names),
        patients=len(set(images.patients)),
        same_sources=set(images.sources) <= known,
        separation={
            name: _separation(ruler.reference[name], odd, ruler.normal.patients, images.patients, ruler.config)
            for name, odd in found.items()
        },
        pairs={name: paired_test(ruler.reference[name][partners], odd[rows]) for name, odd in found.items()}
        if len(rows)
        else {},
        paired_patients=len({images.patients[row] for row in rows}),
    )


def _separation(
    normal: Float64,
    odd: Float64,
    normal_patients: tuple[str, ...],
    odd_patients: tuple[str, ...],
    config: QualityConfig,
) -> Separation:
    return Separation(
        auroc=auroc(normal, odd),
        interval=auroc_interval(normal, odd, normal_patients, odd_patients, resamples=config.resamples),
        average_precision=average_precision(normal, odd),
        fpr_at_95_tpr=fpr_at_tpr(normal, odd),
    )


def paired_rows(images: ImageSet, normal: ImageSet, origins: Mapping[str, str]) -> tuple[Int64, Int64]:
    """Rows of images that were made from normal images of the set, and the rows of those."""
    place = {name: row for row, name in enumerate(normal.names)}
    pairs = [(row, place[origins[name]]) for row, name in enumerate(images.names) if origins.get(name, "") in place]
    rows, partners = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, partners


def needle_experiment(
    bundle: Bundle, normal: ImageSet, config: QualityConfig, *, contrast: float = 0.0
) -> NeedleResult:
    """Draw a needle into normal images of different patients and score both versions.

    Args:
        bundle: Loaded on its device.
        normal: Normal images that were not trained on.
        config: How many, how wide.
        contrast: See `needle`.

    Raises:
        AnomapError: E114 when a body has no room for a needle; as `score_images`.
    """
    rows = choose(normal, config.needles, per_patient=True)
    plain = take(normal.prepared, rows)
    pierced, masks = planted(plain, partial(needle, width_px=config.needle_width_px, contrast=contrast), "needle")
    without = score_images(bundle, plain, config.projection)
    with_needle = score_images(bundle, pierced, config.projection)
    return NeedleResult(
        test=paired_test(without.per_image["wd_patch"], with_needle.per_image["wd_patch"]),
        mse_test=paired_test(without.per_image["mse_patch"], with_needle.per_image["mse_patch"]),
        touched=int(touches(with_needle.top_window, masks).sum()),
        expected_touched=float(chance_of_touching(masks, plain.valid[:, 0], bundle.info.window).sum()),
        images=tuple(normal.names[row] for row in rows),
    )
