"""From prepared images to numbers: many images side by side, each as if it were alone.

A first look (encoder, no optimisation) gives every image its cheap score; a projection gives the scores themselves. An
image that can't be scored keeps its row and its reason, and the others theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np

from anomap.bundle import Bundle, BundleInfo, load_bundle
from anomap.calibration import COMBINED, combined_score
from anomap.calibration.cohort import ranks
from anomap.calibration.judge import series_p_value
from anomap.curation.load import Item
from anomap.curation.looks import looks
from anomap.curation.schema import CHEAP, PROJECTED, Row
from anomap.curation.settings import CurateConfig
from anomap.curation.thumbnail import thumbnail
from anomap.errors import AnomapError
from anomap.evaluation.scores import score_on_model_grid, take
from anomap.evaluation.store import rows_of
from anomap.output import as_error
from anomap.pipeline import projection_config
from anomap.projection import project
from anomap.projection.schedule import preset
from anomap.study import FATAL
from anomap.training.data import concatenate
from anomap.types import Float64, Prepared, Reconstruction

_FATAL = FATAL | {"E400"}  # these concern the machine or the run, not one image
_FIRST_LOOK = preset("fast", steps=0)  # the encoder's w, or the mean of W where a bundle has no encoder
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The bundles of a run, each loaded when it is first needed.

    Attributes:
        infos: The bundles there are.
        config: How images are measured.
        device: Torch device.
        loaded: Filled here.
    """

    infos: tuple[BundleInfo, ...]
    config: CurateConfig
    device: str
    loaded: dict[str, Bundle] = field(default_factory=dict)

    def bundle(self, name: str) -> Bundle:
        """A bundle by name.

        Raises:
            AnomapError: As `anomap.bundle.load_bundle`.
        """
        if name not in self.loaded:
            (info,) = [info for info in self.infos if info.name == name]
            self.loaded[name] = load_bundle(info.folder, self.device)
        return self.loaded[name]


def first_look(items: Sequence[Item], models: Models) -> list[Item]:
    """Add the cheap score and what the image looks like; tier "cheap"."""
    return _by_model(items, models, _first_look)


def projected(items: Sequence[Item], models: Models) -> list[Item]:
    """Add scores, p-values, w and picture; tier "projected"."""
    return _by_model(items, models, lambda prepared, bundle: _projected(prepared, bundle, models.config))


def with_combined(per_image: Mapping[str, Float64], bundle: Bundle) -> dict[str, Float64]:
    """Scores with "combined" beside them where the bundle has a cohort, ``(N,)`` each."""
    more = {} if bundle.cohort is None else {COMBINED: combined_score(per_image, bundle.cohort)}
    return {**per_image, **more}


def p_values(per_image: Mapping[str, Float64], bundle: Bundle) -> Row:
    """Columns ``p_value`` and ``p_<score>`` of one image; none of them without a cohort.

    The image's p-value is that of "combined" (`anomap.calibration`), else the smallest times their number.
    """
    if bundle.cohort is None:
        return {}
    by_score = {name: found.p for name, found in ranks(per_image, bundle.cohort).items()}
    own = by_score[COMBINED][0] if COMBINED in by_score else series_p_value(by_score)
    return {"p_value": float(own), **{f"p_{name}": float(p[0]) for name, p in by_score.items()}}


def _by_model(
    items: Sequence[Item], models: Models, work: Callable[[Prepared, Bundle], list[Row | AnomapError]]
) -> list[Item]:
    """Let the images of each model be measured together; items without an image pass through, in their place."""
    result = list(items)
    places = sorted((n for n, item in enumerate(items) if item.prepared is not None), key=lambda n: items[n].model)
    for name, group in groupby(places, key=lambda n: items[n].model):
        members = list(group)
        bundle = models.bundle(name)
        prepared = concatenate([part for n in members if (part := items[n].prepared) is not None])
        for n, outcome in zip(members, work(prepared, bundle), strict=True):
            if isinstance(outcome, AnomapError):
                result[n] = items[n].failed(outcome)
            else:
                result[n] = Item(row=items[n].row | outcome, prepared=items[n].prepared)
    return result


def _first_look(prepared: Prepared, bundle: Bundle) -> list[Row | AnomapError]:
    fits = _fitted(prepared, lambda part: project(part, bundle, _FIRST_LOOK, bundle.device))
    seen = looks(prepared, bundle)

    def row(n: int, one: Prepared, fit: Reconstruction) -> Row:
        scores = with_combined(score_on_model_grid(bundle, one, fit).per_image, bundle)
        cheap = scores.get(COMBINED, scores["wd_patch"])
        ratio = float(seen.ratio[n])
        said = {"looks": seen.words[n], "looks_ratio": None if np.isnan(ratio) else ratio}
        return {"tier": CHEAP, "cheap": float(cheap[0]), **said}

    return _rows(prepared, fits, row)


def _projected(prepared: Prepared, bundle: Bundle, config: CurateConfig) -> list[Row | AnomapError]:
    fitting = projection_config(config.analysis)
    fits = _fitted(prepared, lambda part: project(part, bundle, fitting, bundle.device))

    def row(n: int, one: Prepared, fit: Reconstruction) -> Row:
        found = score_on_model_grid(bundle, one, fit)
        scores = with_combined(found.per_image, bundle)
        p = p_values(found.per_image, bundle)
        shown = config.thumbnails > 0 and p.get("p_value", 0.0) <= config.thumbnails
        return {
            "tier": PROJECTED,
            **{name: float(values[0]) for name, values in scores.items()},
            **p,
            "w": fit.w[0].tolist(),
            "thumbnail": thumbnail(one, fit, found.maps["wd"][0], bundle.cohort) if shown else None,
        }

    return _rows(prepared, fits, row)


def _fitted(prepared: Prepared, fit: Callable[[Prepared], Reconstruction]) -> list[Reconstruction | AnomapError]:
    """All images fitted together; if that fails for one of them, each by itself."""
    together = _tried(lambda: fit(prepared))
    count = len(prepared.images)
    if isinstance(together, AnomapError):
        if count == 1:
            return [together]
        return [_tried(partial(fit, one)) for one in _ones(prepared)]
    return [rows_of(together, np.array([n])) for n in range(count)]


def _rows(
    prepared: Prepared,
    fits: Sequence[Reconstruction | AnomapError],
    row: Callable[[int, Prepared, Reconstruction], Row],
) -> list[Row | AnomapError]:
    outcomes: list[Row | AnomapError] = []
    for n, (one, fit) in enumerate(zip(_ones(prepared), fits, strict=True)):
        if isinstance(fit, AnomapError):
            outcomes.append(fit)
        else:
            outcomes.append(_tried(partial(row, n, one, fit)))
    return outcomes


def _ones(prepared: Prepared) -> list[Prepared]:
    return [take(prepared, np.array([n])) for n in range(len(prepared.images))]


def _tried(work: Callable[[], T]) -> T | AnomapError:
    """What comes of it, or why nothing; what concerns the whole run is raised."""
    try:
        return work()
    except Exception as error:
        ours = as_error(error)
        if ours.code in _FATAL:
            raise ours from error
        return ours
