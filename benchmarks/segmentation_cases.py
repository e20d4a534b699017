"""The cases of `benchmarks.segmentation_gate`: whole films, the same films spoilt in known ways, and what has no lung.

The truth is the rule of the example (`deploy_app.examples.gated_segmentation.rule`), applied to the film *before* it
was spoilt and turned along with it: no person drew it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from anomap.evaluation.scores import choose, subset
from anomap.evaluation.synthetic import kinds
from anomap.evaluation.synthetic.acquisition import mirrored, noisy
from anomap.preprocessing import prepare
from anomap.training.data import ImageSet, by_hash, series_from_picture
from anomap.types import Bool, Float32, ImageSeries, Prepared, PreprocessSpec
from deploy_app.examples.gated_segmentation.rule import SIDE, lung_fields

SOURCE = PreprocessSpec(kind="radiograph", size=256, fit="squeeze", percentiles=(0, 100))  # the films as they are
A_KIND = 6  # films of each kind of harm: with ten kinds about one case in four
WHOLE, KNEE, LIMB = "unchanged", "knee (data)", "foreign_limb"
KINDS = ("inverted", "upside_down", "rotated90", "noise", "blur", "missing_rows", LIMB)  # of the evaluation

Change = Callable[[Prepared], Prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One film on its way through gate and segmenter: ``(256, 256)`` P-values and where the lung is."""

    kind: str
    patient: str
    film: Float32
    truth: Bool

    @property
    def series(self) -> ImageSeries:
        """The film as it would be read."""
        return series_from_picture(self.film * 255, f"{self.kind}/{self.patient}")


def changes() -> dict[str, Change]:
    """Kind of harm -> what does it to prepared films; those of the evaluation and two more."""
    known = kinds(SOURCE)
    found: dict[str, Change] = {name: lambda film, name=name: known[name].apply(film)[0] for name in KINDS}  # type: ignore[misc]
    found["noise x4"] = lambda film: noisy(film, deviation=1.2)
    found["mirrored"] = mirrored
    return found


def turned(truth: Bool, before: Prepared, after: Prepared) -> Bool:
    """A mask of one film, moved as the film was."""
    rows, columns = np.indices(truth.shape)
    places = np.stack([rows.ravel(), columns.ravel(), np.ones(truth.size)])
    way = np.linalg.inv(before.to_source[0]) @ after.to_source[0]
    row, column = np.rint(way @ places)[:2].astype(int)
    return truth[row, column].reshape(truth.shape)


def cases_of(films: ImageSet, knees: ImageSet) -> Iterator[Case]:
    """Every film of which the rule finds the lung, some of them spoilt, and some knees."""
    whole: dict[int, Case] = {}
    for row in range(len(films.names)):
        # The rule was made for the preprocessing of the segmenter.
        small = prepare(_series(films, row), replace(SOURCE, size=SIDE, percentiles=(0.5, 99.5))).images[0, 0]
        if (lungs := lung_fields(small)) is not None:
            truth = np.kron(lungs, np.ones((2, 2), bool)).astype(bool)
            whole[row] = Case(kind=WHOLE, patient=films.patients[row], film=_film(films, row), truth=truth)
    yield from whole.values()
    for kind, change in changes().items():
        for row in sorted(whole, key=lambda row, kind=kind: by_hash(f"{kind}:{films.names[row]}"))[:A_KIND]:  # type: ignore[misc]
            before = subset(films, np.array([row])).prepared
            after = change(before)
            truth = np.zeros_like(whole[row].truth) if kind == LIMB else turned(whole[row].truth, before, after)
            yield replace(whole[row], kind=kind, film=(after.images[0, 0] + 1) / 2, truth=truth)
    for row in choose(knees, A_KIND, per_patient=True):
        yield Case(kind=KNEE, patient=knees.patients[row], film=_film(knees, row), truth=np.zeros((256, 256), bool))


def _film(films: ImageSet, row: int) -> Float32:
    film: Float32 = (films.images[row, 0] + 1) / 2
    return film


def _series(films: ImageSet, row: int) -> ImageSeries:
    return series_from_picture(_film(films, row) * 255, films.names[row])
