"""Which scores should "combined" combine? Every set of up to three, on planted anomalies in validation images.

python benchmarks/combinations.py --bundle models/cxr-64 --data ../shared/data/cxr

No test image is looked at. Anomalies are planted into one normal image a patient of split val and compared with all
normal images, each patient weighing the same: images of one patient are alike, and some patients have many. Ranked is
the mean of the AUROC over kinds (not "unaltered", the control); beside it stands how many altered images score higher
than the very same image without the anomaly. Where slices have others beside them, the same is done to as many of
them, one at a time, for the best sets with and without the comparison with neighbours. Writes
benchmarks/results/combinations-<bundle>.json and prints a table; the choice is written down by hand, in
`anomap.calibration.cohort.COMBINES`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomap.bundle import Bundle, load_bundle
from anomap.calibration.conformal import z_scores
from anomap.evaluation.machine import describe_machine
from anomap.evaluation.measure import Measured, Ruler, fit_ruler
from anomap.evaluation.neighbours import choose_beside
from anomap.evaluation.scores import choose, subset
from anomap.evaluation.store import Store
from anomap.evaluation.synthetic import UNALTERED, kinds
from anomap.projection.schedule import FAST, ProjectionConfig
from anomap.scoring import SCORES, SERIES_SCORES
from anomap.training.data import load_images
from anomap.types import Float64, Int64

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.combinations/1"
LARGEST = 3  # scores in a combination
SHOWN = 12
ScoresOf = Mapping[str, Float64]  # name -> (N,)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits train, val)")
    parser.add_argument("--images", type=int, default=40, help="normal images that receive anomalies, one a patient")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "combinations", help="reconstructions")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def balanced_auroc(normal: Float64, odd: Float64, weights: Float64) -> float:
    """AUROC with a weight for each normal image; those without the score (NaN) don't count."""
    normal, weights = normal[~np.isnan(normal)], weights[~np.isnan(normal)]
    higher = (odd[:, None] > normal) + 0.5 * (odd[:, None] == normal)
    return float((higher @ weights).mean() / weights.sum())


def patient_weights(patients: tuple[str, ...]) -> Float64:
    """One over the number of the patient's images, ``(N,)``."""
    _, place, count = np.unique(patients, return_inverse=True, return_counts=True)
    weights: Float64 = 1.0 / count[place]
    return weights


def all_sets(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Of up to `LARGEST` scores."""
    return chain.from_iterable(combinations(tuple(names), size) for size in range(1, LARGEST + 1))


def ranking(
    normal: ScoresOf, odd: Mapping[str, ScoresOf], rows: Int64, weights: Float64, sets: Iterable[tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Combinations, the best first.

    Args:
        normal: Of all normal images.
        odd: Kind -> of the altered images.
        rows: Which normal images were altered.
        weights: Of the normal images.
        sets: Scores to combine.
    """
    found = []
    for names in sets:
        auroc, raised = separation(normal, odd, rows, weights, names)
        found.append(
            {
                "scores": list(names),
                "mean_auroc": over_kinds(auroc),
                "raised": over_kinds(raised),
                "auroc": auroc,
            }
        )
    return sorted(found, key=lambda row: -row["mean_auroc"])


def separation(
    normal: ScoresOf, odd: Mapping[str, ScoresOf], rows: Int64, weights: Float64, names: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Of some scores together: kind -> AUROC, and kind -> share that scores higher than without the anomaly."""
    usual = combined(normal, normal, names)
    values = {kind: combined(scores, normal, names) for kind, scores in odd.items()}
    return (
        {kind: balanced_auroc(usual, other, weights) for kind, other in values.items()},
        {kind: float((other > usual[rows]).mean()) for kind, other in values.items()},
    )


def over_kinds(values: Mapping[str, float]) -> float:
    """Mean over all kinds but the control."""
    return float(np.mean([value for kind, value in values.items() if kind != UNALTERED]))


def combined(scores: ScoresOf, normal: ScoresOf, names: tuple[str, ...]) -> Float64:
    """Largest standard score, as `anomap.calibration.combined_score`."""
    known = {name: values[~np.isnan(values)] for name, values in normal.items()}
    result: Float64 = np.fmax.reduce([z_scores(scores[name], known[name]) for name in names])
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Scores of normal images and of some of them with each kind of anomaly planted; NaN where one has none."""

    normal: dict[str, Float64]  # score -> (N,)
    odd: dict[str, dict[str, Float64]]  # kind -> score -> (M,)
    rows: Int64  # (M,) which normal images were altered
    patients: tuple[str, ...]  # N


def fitted(bundle: Bundle, data: Path, projection: ProjectionConfig, work: Path) -> tuple[Ruler, Measured]:
    """What everything is measured by, and the validation images."""
    store = Store(folder=work, bundle_sha256=bundle.info.sha256, projection=projection, device="cpu")
    train, whole = (load_images(data, bundle.spec, split, "normal") for split in ("train", "val"))
    return fit_ruler(bundle, train, whole, projection, store=store)


def one_each(ruler: Ruler, measured: Measured, images: int) -> Planted:
    """Anomalies in `images` validation images of different patients, without the scores that most of these lack."""
    return _planted(ruler, measured, choose(measured.images, images, per_patient=True), SERIES_SCORES)


def in_series(ruler: Ruler, measured: Measured, images: int) -> Planted:
    """Anomalies in `images` slices that have others beside them, if there are any."""
    return _planted(ruler, measured, choose_beside(measured.images, measured.beside, images), ())


def _planted(ruler: Ruler, measured: Measured, rows: Int64, left_out: tuple[str, ...]) -> Planted:
    """Every kind of anomaly in some rows of the validation images, one at a time."""
    plain, odd = subset(measured.images, rows), {}
    names = [name for name in SCORES if name in measured.scores and name not in left_out]
    for kind in kinds(ruler.bundle.spec).values() if len(rows) else ():
        altered = replace(plain, prepared=kind.apply(plain.prepared)[0])
        print(kind.name, file=sys.stderr, flush=True)
        scores = ruler.measure(altered).scores
        odd[kind.name] = {name: scores[name] for name in names}
    normal = {name: measured.scores[name] for name in names}
    return Planted(normal=normal, odd=odd, rows=rows, patients=measured.images.patients)


def main(words: list[str] | None = None) -> int:
    """Measure, rank, write."""
    options = arguments(words)
    torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    ruler, measured = fitted(bundle, options.data, FAST, options.work)
    found = one_each(ruler, measured, options.images)
    weights = patient_weights(found.patients)
    table = ranking(found.normal, found.odd, found.rows, weights, all_sets(found.normal))
    stacked = in_series(ruler, measured, options.images)
    beside: list[dict[str, Any]] = []
    if len(stacked.rows):
        more = [(), *((name,) for name in SERIES_SCORES), SERIES_SCORES]
        sets = [(*row["scores"], *names) for row in table[:SHOWN] for names in more] + more[1:]
        beside = ranking(stacked.normal, stacked.odd, stacked.rows, weights, sets)
    content = {
        "format": FORMAT,
        "bundle": {"name": bundle.info.name, "sha256": bundle.info.sha256},
        "machine": describe_machine("cpu", ROOT),
        "normal": {"images": len(found.patients), "patients": len(set(found.patients))},
        "altered": len(found.rows),
        "combinations": table,
        "altered_in_series": len(stacked.rows),
        "in_series": beside,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"combinations-{bundle.info.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    for row in table[:SHOWN]:
        print(f"{row['mean_auroc']:.3f}  raised {row['raised']:.2f}  {', '.join(row['scores'])}")
    for row in content["in_series"]:
        print(f"{row['mean_auroc']:.3f}  raised {row['raised']:.2f}  {', '.join(row['scores'])}, in series")
    return 0


if __name__ == "__main__":
    sys.exit(main())
