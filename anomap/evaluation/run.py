"""The quality of a bundle in figures: separation by category, pairs, planted anomalies, baselines beside everything.

A mean over categories is formed for those that are named only: detectors differ from one kind of anomaly to the next,
and a mean hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from anomap.bundle import Bundle
from anomap.calibration import COMBINED
from anomap.errors import AnomapError
from anomap.evaluation.auroc import RESAMPLES, Interval, auroc, auroc_interval, average_precision, fpr_at_tpr
from anomap.evaluation.cases import Exhibit, exhibit
from anomap.evaluation.data import EvaluationData
from anomap.evaluation.localisation import PairedTest, chance_of_touching, paired_test, touches
from anomap.evaluation.means import MeanResult, Scored, mean_aurocs
from anomap.evaluation.measure import Measured, Ruler, fit_ruler
from anomap.evaluation.neighbours import choose_beside
from anomap.evaluation.paper import PaperFigures, drawn_aurocs, paper_figures, permutation_p
from anomap.evaluation.pixel import PixelFigures, pixel_figures
from anomap.evaluation.regions import RegionFigures, region_figures
from anomap.evaluation.scores import choose, subset
from anomap.evaluation.store import Store
from anomap.evaluation.synthetic import UNALTERED, Kind, kinds
from anomap.projection.schedule import FAST, ProjectionConfig
from anomap.training.data import ImageSet
from anomap.types import Float64, Int64

Protocol = Literal["clustered", "paper"]
Listener = Callable[[str, int, int], None]  # name of the set, images done, images in all


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How a bundle is evaluated."""

    projection: ProjectionConfig = FAST  # preset the figures are for
    protocol: Protocol = "clustered"  # "paper" adds the paper's own statistics, see `anomap.evaluation.paper`
    synthetic: bool = False  # plant anomalies into normal images
    synthetic_images: int = 40  # normal images that receive them, one a patient
    cap: int | None = None  # at most so many images of a category, chosen by the hash of their names; None: all
    cap_normal: int | None = None  # the same of the normal images
    seeds: int = 1  # projections an image for the scores over seeds
    resamples: int = RESAMPLES  # draws of patients for the intervals
    mean: tuple[str, ...] = ()  # categories that a mean is formed over

    def __post_init__(self) -> None:
        if min(n for n in self._numbers() if n is not None) < 1:
            raise AnomapError("E200", "numbers of images, seeds and draws must be at least 1")

    def _numbers(self) -> tuple[int | None, ...]:
        return (self.synthetic_images, self.seeds, self.cap, self.cap_normal, self.resamples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How one score separates one category from the normal images.

    Attributes:
        auroc: Area under the ROC curve.
        interval: Its 95 % interval over patients; None with too few patients.
        average_precision: At the category's own share of images.
        fpr_at_95_tpr: Normal images called odd where 95 % of the category are found.
        paper: By the paper's procedure; None with protocol "clustered".
    """

    auroc: float
    interval: Interval | None
    average_precision: float
    fpr_at_95_tpr: float
    paper: PaperFigures | None


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
        wd_mse_p: The paper's permutation test of wd_patch against mse_patch; None with protocol "clustered".
    """

    category: str
    images: int
    patients: int
    same_sources: bool
    separation: dict[str, Separation]
    pairs: dict[str, PairedTest]
    paired_patients: int
    wd_mse_p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticResult:
    """One kind of anomaly planted into normal images.

    Attributes:
        kind: Its name.
        description: What it is.
        images: How many.
        patients: Of how many patients.
        separation: Score -> the altered images against all normal images.
        pairs: Score -> against the very same images without it.
        touched: How many top windows touch the anomaly; None when the whole image is odd, as for the next two.
        touched_by_place: The same for the oddest place in the discriminator's features; None where these are not known.
        touched_by_change: The same for the place least like the slices beside it; None where not all have some.
        touched_by_seed: The same as `touched` for each of the projections from several seeds, the paper's measure.
        expected_touched: How many would if windows were pointed at blindly.
        regions: How regions mark it, as reports have them; for nothing planted how many there are all the same.
        maps: Map -> figures by pixel.
    """

    kind: str
    description: str
    images: int
    patients: int
    separation: dict[str, Separation]
    pairs: dict[str, PairedTest]
    touched: int | None
    touched_by_place: int | None
    touched_by_change: int | None
    touched_by_seed: tuple[int, ...]
    expected_touched: float | None
    regions: RegionFigures | None
    maps: dict[str, PixelFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures of a bundle on one data set, and what to show of it."""

    normal_images: int
    normal_patients: int
    training_images: int
    set_aside: bool  # the training images of the baselines are half of the normal patients
    left_out: dict[str, int]
    region_threshold: float  # window WD that one in twenty normal images exceeds somewhere
    categories: tuple[CategoryResult, ...]
    synthetic: tuple[SyntheticResult, ...]  # one image a patient
    in_series: tuple[SyntheticResult, ...]  # slices that have others beside them, several a patient
    mean: MeanResult | None  # over `EvaluationConfig.mean`
    exhibits: tuple[Exhibit, ...]  # pictures and curves, for the page only


def evaluate(
    bundle: Bundle,
    data: EvaluationData,
    config: EvaluationConfig,
    *,
    store: Store | None = None,
    listener: Listener | None = None,
) -> Evaluation:
    """Measure a bundle.

    Args:
        bundle: Loaded on its device.
        data: Images with labels.
        config: What to do.
        store: Where reconstructions are kept; of this bundle and preset.
        listener: Told of scored images.

    Raises:
        AnomapError: As the stages do; E200 when there is nothing to compare the normal images with.
    """
    unknown = set(config.mean) - {images.categories[0] for images in data.categories}
    if unknown:
        raise AnomapError("E200", f"no category {sorted(unknown)[0]!r} to average over")
    if not data.categories and not config.synthetic:
        raise AnomapError("E200", "there are no anomalous images: nothing to evaluate", "Pass --synthetic.")
    name = "normal"

    def progress(done: int, total: int) -> None:
        if listener is not None:
            listener(name, done, total)

    normal = _capped(data.normal, config.cap_normal)
    settings = {"seeds": config.seeds, "store": store, "progress": progress}
    ruler, reference = fit_ruler(bundle, data.train, normal, config.projection, **settings)  # type: ignore[arg-type]
    categories, exhibits = [], [exhibit("normal", reference, None, ruler)]
    averaged: dict[str, Scored] = {}
    for images in data.categories:
        name = images.categories[0]
        found = ruler.measure(_capped(images, config.cap))
        categories.append(_category(found, reference, frozenset(data.train.sources), data.origins, config))
        exhibits.append(exhibit(name, found, reference, ruler))
        if name in config.mean:
            averaged[name] = (found.scores, found.images.patients)
    planted, in_series = [], []
    one_each = choose(reference.images, config.synthetic_images, per_patient=True)
    beside = choose_beside(reference.images, reference.beside, config.synthetic_images)
    for kind in kinds(bundle.spec).values() if config.synthetic else ():
        name = f"synthetic {kind.name}"
        planted.append(_synthetic(kind, ruler, reference, one_each, config))
        if len(beside):
            in_series.append(_synthetic(kind, ruler, reference, beside, config)[0])
    return Evaluation(
        normal_images=len(normal.names),
        normal_patients=len(set(normal.patients)),
        training_images=len(data.train.names),
        set_aside=data.set_aside,
        left_out=dict(data.left_out),
        region_threshold=ruler.cohort.region_threshold,
        categories=tuple(categories),
        synthetic=tuple(result for result, _ in planted),
        in_series=tuple(in_series),
        mean=_mean(reference, averaged, config),
        exhibits=(*exhibits, *(shown for _, shown in planted)),
    )


def _mean(reference: Measured, averaged: dict[str, Scored], config: EvaluationConfig) -> MeanResult | None:
    if not averaged:
        return None
    normal = (reference.scores, reference.images.patients)
    return mean_aurocs(normal, averaged, COMBINED, resamples=config.resamples)


def _capped(images: ImageSet, cap: int | None) -> ImageSet:
    return images if cap is None else subset(images, choose(images, cap))


def _category(
    found: Measured,
    reference: Measured,
    known: frozenset[str],
    origins: Mapping[str, str],
    config: EvaluationConfig,
) -> CategoryResult:
    images, normal = found.images, reference.images
    rows, partners = paired_rows(images, normal, origins)
    pairs = {}
    if len(rows):
        pairs = _pairs(reference, partners, {name: odd[rows] for name, odd in found.scores.items()})
    return CategoryResult(
        category=images.categories[0],
        images=len(images.names),
        patients=len(set(images.patients)),
        same_sources=set(images.sources) <= known,
        separation=_separations(found, reference, config),
        pairs=pairs,
        paired_patients=len({images.patients[row] for row in rows}),
        wd_mse_p=_wd_against_mse(found, reference) if config.protocol == "paper" else None,
    )


def _separations(found: Measured, reference: Measured, config: EvaluationConfig) -> dict[str, Separation]:
    """Of every score that images of both sets have; slices without neighbours lack one (NaN)."""
    separations = {}
    for name, odd in found.scores.items():
        usual = reference.scores[name]
        there, odd_there = np.flatnonzero(~np.isnan(usual)), np.flatnonzero(~np.isnan(odd))
        if len(there) and len(odd_there):
            patients = tuple(reference.images.patients[row] for row in there)
            odd_patients = tuple(found.images.patients[row] for row in odd_there)
            separations[name] = _separation(usual[there], odd[odd_there], patients, odd_patients, config)
    return separations


def _pairs(reference: Measured, rows: Int64, altered: Mapping[str, Float64]) -> dict[str, PairedTest]:
    """Images against the normal ones in `rows` that they were made from, by every score that both of some pair have."""
    found = {}
    for name, odd in altered.items():
        usual = reference.scores[name][rows]
        there = ~(np.isnan(usual) | np.isnan(odd))
        if there.any():
            found[name] = paired_test(usual[there], odd[there])
    return found


def _separation(
    normal: Float64,
    odd: Float64,
    normal_patients: tuple[str, ...],
    odd_patients: tuple[str, ...],
    config: EvaluationConfig,
) -> Separation:
    return Separation(
        auroc=auroc(normal, odd),
        interval=auroc_interval(normal, odd, normal_patients, odd_patients, resamples=config.resamples),
        average_precision=average_precision(normal, odd),
        fpr_at_95_tpr=fpr_at_tpr(normal, odd),
        paper=paper_figures(normal, odd) if config.protocol == "paper" else None,
    )


def _wd_against_mse(found: Measured, reference: Measured) -> float:
    wd, mse = (drawn_aurocs(reference.scores[name], found.scores[name]) for name in ("wd_patch", "mse_patch"))
    return permutation_p(wd, mse)


def paired_rows(images: ImageSet, normal: ImageSet, origins: Mapping[str, str]) -> tuple[Int64, Int64]:
    """Rows of images that were made from normal images of the set, and the rows of those."""
    place = {name: row for row, name in enumerate(normal.names)}
    pairs = [(row, place[origins[name]]) for row, name in enumerate(images.names) if origins.get(name, "") in place]
    rows, partners = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, partners


def _synthetic(
    kind: Kind, ruler: Ruler, reference: Measured, rows: Int64, config: EvaluationConfig
) -> tuple[SyntheticResult, Exhibit]:
    """Plant one kind of anomaly into some normal images, one at a time, and score both versions."""
    plain = subset(reference.images, rows)
    altered, masks = kind.apply(plain.prepared)
    odd = replace(plain, prepared=altered)
    found = ruler.measure(odd)
    valid, window = altered.valid[:, 0], ruler.bundle.info.window
    marked = kind.local or kind.name == UNALTERED
    fit = found.found.reconstruction
    scored = ruler.scored(odd, fit, found.beside)
    maps = ruler.maps(odd, fit, scored) if kind.local else {}
    pointed = {
        name: int(touches(boxes, masks).sum())
        for name, boxes in (("window", scored.top_window), ("place", scored.top_place), ("change", scored.top_change))
        if boxes is not None and kind.local
    }
    result = SyntheticResult(
        kind=kind.name,
        description=kind.description,
        images=len(rows),
        patients=len(set(plain.patients)),
        separation=_separations(found, reference, config),
        pairs=_pairs(reference, rows, found.scores),
        touched=pointed.get("window"),
        touched_by_place=pointed.get("place"),
        touched_by_change=pointed.get("change"),
        touched_by_seed=tuple(int(touches(one, masks).sum()) for one in found.seed_windows) if kind.local else (),
        expected_touched=float(chance_of_touching(masks, valid, window).sum()) if kind.local else None,
        regions=region_figures(scored, ruler.cohort, masks & kind.local) if marked else None,
        maps={name: pixel_figures(dense, masks, valid, window) for name, dense in maps.items()},
    )
    return result, exhibit(f"synthetic {kind.name}", found, reference, ruler, masks if kind.local else None)
