"""How often a quick look and the full run agree, and what the look saves.

python benchmarks/gate_quick.py [--bundle models/ct-64] [--data ../shared/data]

The data holds too few CT patients with many slices, so stretches of `LENGTH` neighbouring slices of one series stand
for series. Half of the normal stretches are the cohort, drawn anew for each of `SPLITS` splits; the other half and all
anomalous ones pass the gate with and without a quick look. Writes benchmarks/results/gate-quick.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from anomap.bundle import Bundle, load_bundle
from anomap.calibration import SiteCohort, looked_at
from anomap.calibration.watch import held_out
from anomap.config import AnalyzeConfig
from anomap.dicom.read import read_study
from anomap.evaluation.scores import score_images, subset, take
from anomap.gate.quick import analyze_in_tiers
from anomap.gate.site import settings_sha256, write_site
from anomap.gate.tiers import Quick
from anomap.pipeline import analyze_series
from anomap.projection.neighbours import series_neighbours
from anomap.projection.schedule import preset
from anomap.scoring import SCORES, SERIES_SCORES, WITHOUT_PROJECTION, of_neighbours
from anomap.training.data import ImageSet, load_images, manifest_rows
from anomap.types import Bool, Cohort, Float64, Int64

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 12
EVERY = (2, 3, 4, 6)
MARGINS = (1.0, 2.0, 4.0)
ALPHA = 0.05
SPLITS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """Scores of B stretches of neighbouring slices.

    Attributes:
        scores: ``(B, LENGTH, S)``.
        categories: B names.
    """

    scores: Float64
    categories: tuple[str, ...]


def stretches(rows: list[dict[str, str]], known: set[str]) -> list[tuple[str, list[str]]]:
    """Category and names of images, ``LENGTH`` at a time, of neighbouring slices of one series and category.

    Args:
        rows: Of the manifest.
        known: Names of the images that could be prepared.
    """

    def series(row: dict[str, str]) -> tuple[str, str, str]:
        return row["category"], row["patient"], row["series_description"]

    found = []
    for kind, group in groupby(sorted(rows, key=series), key=series):
        members = sorted(group, key=lambda row: float(row["z_mm"] or row["index"]))
        names = [name for row in members if (name := f"{row['file']}#{row['index']}") in known]
        found += [(kind[0], names[k : k + LENGTH]) for k in range(0, len(names) - LENGTH + 1, LENGTH)]
    return found


def measured(data: Path, bundle: Bundle, split: str) -> Stretches:
    """Score all stretches of a split."""
    images = load_images(data, bundle.spec, split)
    place = {name: row for row, name in enumerate(images.names)}
    found = stretches([row for row in manifest_rows(data / "manifest.csv") if row["split"] == split], set(place))
    rows = np.array([place[name] for _, names in found for name in names], np.int64)
    scores = dict(score_images(bundle, take(images.prepared, rows), preset("fast"), _tell).per_image)
    beside = [_beside(subset(images, rows[k : k + LENGTH]), bundle) for k in range(0, len(rows), LENGTH)]
    scores |= {name: np.concatenate([one[name] for one in beside]) for name in SERIES_SCORES}
    values = np.stack([scores[name] for name in SCORES], axis=1)
    return Stretches(scores=values.reshape(len(found), LENGTH, -1), categories=tuple(kind for kind, _ in found))


def _beside(stretch: ImageSet, bundle: Bundle) -> dict[str, Float64]:
    """Each slice among the others of its stretch; 0, as a site's cohort takes it, where not all have neighbours."""
    if all(stretch.stacks):
        places = series_neighbours(stretch.prepared, stretch.positions_mm, bundle, bundle.device)
        if places is not None:
            return of_neighbours(places)
    return {name: np.zeros(len(stretch.names)) for name in SERIES_SCORES}


def site_of(scores: Float64, bundle: Bundle) -> SiteCohort:
    """The cohort of some stretches ``(n, LENGTH, S)``, each a patient."""
    names = [f"p{i:04d}" for i in range(len(scores))]
    images = Cohort(
        scores=scores.reshape(-1, scores.shape[2]),
        names=tuple(SCORES),
        patients=tuple(np.repeat(names, scores.shape[1]).tolist()),
        bundle_sha256=bundle.info.sha256,
        description=f"{len(scores)} stretches of {scores.shape[1]} slices",
        region_threshold=float(bundle.cohort.region_threshold) if bundle.cohort else np.inf,
        combines=bundle.combines,
    )
    return SiteCohort(
        images=images,
        bundle_name=bundle.info.name,
        settings_sha256=settings_sha256(bundle.info, preset("fast")),
        strata_by=(),
        strata=dict.fromkeys(names, ""),
    )


def alarms(site: SiteCohort, scores: Float64, every: int) -> Float64:
    """p-values ``(B,)`` of stretches ``(B, LENGTH, S)`` by one slice in `every`; 1: by all."""
    thin = site if every == 1 else site.thinned(every)
    rows: Int64 = np.arange(scores.shape[1]) if every == 1 else looked_at(scores.shape[1], every)
    if thin is None:
        raise SystemExit("the stretches are too short for that")
    free = np.isin(list(SCORES), WITHOUT_PROJECTION)
    maxima = np.where(free, scores.max(axis=1), scores[:, rows].max(axis=1))
    return held_out(maxima, thin.statistics(""), np.ones(scores.shape[2]))


def agreement(look: Bool, full: Bool) -> dict[str, float]:
    """How the two tiers compare over many tests.

    Args:
        look: The quick look passes.
        full: The full run passes.
    """
    return {
        "tests": int(full.size),
        "agree": float(np.mean((look | full) == full)),  # what the look doesn't pass gets the full verdict
        "full_alarms": int(np.count_nonzero(~full)),
        "alarms_lost": int(np.count_nonzero(look & ~full)),
        "passed_by_the_look": float(np.mean(look)),
    }


def compare(normal: Float64, odd: Float64, bundle: Bundle) -> list[dict[str, object]]:
    """A line for each thinning and margin, over all splits."""
    rng = np.random.default_rng(0)
    p: dict[int, tuple[list[Float64], list[Float64]]] = {every: ([], []) for every in (1, *EVERY)}
    for _ in range(SPLITS):
        order = rng.permutation(len(normal))
        site = site_of(normal[order[: len(order) // 2]], bundle)
        for every, (plain, strange) in p.items():
            plain.append(alarms(site, normal[order[len(order) // 2 :]], every))
            strange.append(alarms(site, odd, every))
    lines = []
    full = [np.array(side) > ALPHA + 1e-12 for side in p[1]]
    for every in EVERY:
        for margin in MARGINS:
            look = [np.array(side) > margin * ALPHA + 1e-12 for side in p[every]]
            share = len(looked_at(normal.shape[1], every)) / normal.shape[1]
            found = [agreement(one, other) for one, other in zip(look, full, strict=True)]
            # every series pays the look, and those that it doesn't pass all slices on top
            cost = [share + 1 - side["passed_by_the_look"] for side in found]
            lines.append(
                {
                    "every": every,
                    "margin": margin,
                    "normal": {**found[0], "images_projected": cost[0]},
                    "anomalous": {**found[1], "images_projected": cost[1]},
                }
            )
    return lines


def timed(studies: list[Path], bundle: Bundle, site: SiteCohort, folder: Path) -> list[dict[str, object]]:
    """Seconds of whole series without a quick look and with one, which at margin 1 passes whatever it finds plain."""
    path = folder / "gate-quick-cohort.json"
    write_site(path, site)
    config, lines = AnalyzeConfig(cohort=(str(path),)), []
    for study in studies:
        series = read_study(study).series[0]
        start = time.perf_counter()
        full = analyze_series(series, bundle, config).result
        between = time.perf_counter()
        found = analyze_in_tiers(series, bundle, config, lambda *_: None, "", quick=Quick(margin=1.0)).result
        end = time.perf_counter()
        lines.append(
            {
                "series": study.name,
                "slices": len(series.pixels),
                "full": {"verdict": str(full.verdict), "p_value": full.p_value, "seconds": between - start},
                "quick": {
                    "verdict": str(found.verdict),
                    "p_value": found.p_value,
                    "every": found.every,
                    "seconds": end - between,
                },
            }
        )
    path.unlink()
    return lines


def _tell(done: int, total: int) -> None:
    print(f"{done} of {total}", file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "ct-64")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "gate-quick.json")
    options = parser.parse_args(words)
    bundle = load_bundle(options.bundle)
    found = {split: measured(options.data / "ct", bundle, split) for split in ("val", "train", "test")}
    normal = np.concatenate([found["val"].scores, found["train"].scores])
    odd = found["test"]
    content = {
        "format": "anomap.gate-quick-benchmark/1",
        "bundle": {"name": bundle.info.name, "sha256": bundle.info.sha256},
        "slices_of_a_stretch": LENGTH,
        "alpha_review": ALPHA,
        "splits": SPLITS,
        "stretches": {
            "normal, not trained on": len(found["val"].scores),
            "normal, trained on": len(found["train"].scores),
            **{f"anomalous: {name}": odd.categories.count(name) for name in sorted(set(odd.categories))},
        },
        "agreement": compare(normal, odd.scores, bundle),
        "seconds": timed(
            [options.data / "dicom" / name for name in ("abdomen_c3l00189", "chest_ricord_001012")],
            bundle,
            site_of(normal, bundle),
            options.output.parent,
        ),
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
