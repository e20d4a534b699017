"""Does preset fast find what preset paper finds? AUROC of both on the same images, category by category.

python benchmarks/presets.py --bundle models/cxr-64 --data ../shared/data/cxr --normal 60 --cap 15

The 1000 steps of preset paper take 18 s an image on a processor, so reconstructions are kept in runs/presets/ as they
come and a run that was stopped goes on. Writes benchmarks/results/presets-<bundle>.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomap.bundle import Bundle, load_bundle
from anomap.calibration import COMBINED, combined_score
from anomap.errors import AnomapError
from anomap.evaluation.auroc import auroc
from anomap.evaluation.machine import describe_machine
from anomap.evaluation.scores import choose, score_images, subset
from anomap.evaluation.store import Store
from anomap.projection.schedule import PRESETS
from anomap.scoring import SCORES
from anomap.training.data import ImageSet, load_images
from anomap.types import Cohort, Float64

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.presets/1"
RESAMPLES = 1000


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits val, test)")
    parser.add_argument("--normal", type=int, default=60, help="normal images of split val, one a patient first")
    parser.add_argument("--cap", type=int, default=15, help="at most so many images of a test category")
    parser.add_argument("--least", type=int, default=8, help="categories with fewer images are left out")
    parser.add_argument("--categories", nargs="*", help="only these; a time limit is one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "presets", help="reconstructions of interrupted runs"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def chosen_images(options: argparse.Namespace, bundle: Bundle) -> dict[str, ImageSet]:
    """Normal and anomalous images by category, chosen by the hash of their names."""
    normal = load_images(options.data, bundle.spec, "val", "normal")
    rows = choose(normal, options.normal, per_patient=True)
    if len(rows) < options.normal:  # few patients: several images each
        rows = choose(normal, options.normal)
    sets = {"normal": subset(normal, rows)}
    test = load_images(options.data, bundle.spec, "test")
    labels = np.array(test.categories)
    for category in sorted(set(test.categories)):
        members = subset(test, np.flatnonzero(labels == category))
        if len(members.names) >= options.least and (not options.categories or category in options.categories):
            sets[category] = subset(members, choose(members, options.cap))
    return sets


def compare(sets: Mapping[str, ImageSet], scores: Mapping[str, Mapping[str, Mapping[str, Float64]]]) -> dict[str, Any]:
    """AUROC by score and category for both presets, and the interval of the difference of the means.

    The interval is a bootstrap that draws normal patients and, within each category, patients, with replacement; both
    presets see the same draw.

    Args:
        sets: Category -> images.
        scores: Preset -> category -> score -> ``(N,)``.
    """
    categories = [name for name in sets if name != "normal"]
    result: dict[str, Any] = {}
    for name in (*SCORES, COMBINED):
        areas = {
            preset: {c: auroc(found["normal"][name], found[c][name]) for c in categories}
            for preset, found in scores.items()
        }
        gaps = {c: areas["fast"][c] - areas["paper"][c] for c in categories}
        draws = [_drawn_gap(sets, scores, name, np.random.default_rng(number)) for number in range(RESAMPLES)]
        result[name] = {
            "categories": {
                c: {preset: round(areas[preset][c], 4) for preset in areas} | {"gap": round(gaps[c], 4)}
                for c in categories
            },
            "mean": {preset: round(float(np.mean(list(found.values()))), 4) for preset, found in areas.items()},
            "mean_gap": round(float(np.mean(list(gaps.values()))), 4),
            "mean_gap_95": [round(float(v), 4) for v in np.percentile(draws, [2.5, 97.5])],
            "worst_gap": round(min(gaps.values()), 4),
        }
    return result


def _drawn_gap(sets: Mapping[str, ImageSet], scores: Any, name: str, rng: np.random.Generator) -> float:
    rows = {category: _drawn_rows(images.patients, rng) for category, images in sets.items()}
    gaps = []
    for category in sets:
        if category != "normal":
            fast, paper = (
                auroc(
                    scores[preset]["normal"][name][rows["normal"]],
                    scores[preset][category][name][rows[category]],
                )
                for preset in ("fast", "paper")
            )
            gaps.append(fast - paper)
    return float(np.mean(gaps))


def _drawn_rows(patients: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """Rows of patients drawn with replacement, each with all its images."""
    names, inverse = np.unique(patients, return_inverse=True)
    members = [np.flatnonzero(inverse == number) for number in range(len(names))]
    return np.concatenate([members[number] for number in rng.integers(len(names), size=len(names))])


def with_combined(bundle: Bundle, sets: Mapping[str, ImageSet], found: dict[str, dict[str, Float64]]) -> None:
    """Add the combined score, standardised by the normal images of the same preset."""
    cohort = Cohort(
        scores=np.stack([found["normal"][name] for name in SCORES], axis=1),
        names=tuple(SCORES),
        patients=sets["normal"].patients,
        bundle_sha256=bundle.info.sha256,
        description="",
        region_threshold=0.0,
        combines=bundle.combines,
    )
    for per_image in found.values():
        per_image[COMBINED] = combined_score(per_image, cohort)


def table(result: Mapping[str, Any], name: str) -> str:
    """One score as text."""
    lines = [f"{name:30}{'fast':>8}{'paper':>8}{'gap':>8}"]
    for category, row in result[name]["categories"].items():
        lines.append(f"{category:30}{row['fast']:8.3f}{row['paper']:8.3f}{row['gap']:+8.3f}")
    mean, (low, high) = result[name]["mean"], result[name]["mean_gap_95"]
    lines.append(
        f"{'mean':30}{mean['fast']:8.3f}{mean['paper']:8.3f}{result[name]['mean_gap']:+8.3f} [{low:+.3f}, {high:+.3f}]"
    )
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Score, compare, write."""
    options = arguments(words)
    torch.set_num_threads(options.threads)
    try:
        bundle = load_bundle(options.bundle, options.device)
        sets = chosen_images(options, bundle)
        scores: dict[str, dict[str, dict[str, Float64]]] = {}
        for preset in ("fast", "paper"):
            scores[preset] = {}
            store = Store(
                folder=options.work, bundle_sha256=bundle.info.sha256, projection=PRESETS[preset], device=bundle.device
            )
            for category, images in sets.items():
                print(f"{preset}: {category}, {len(images.names)} images ...", file=sys.stderr, flush=True)
                found = score_images(bundle, images.prepared, PRESETS[preset], store=store)
                scores[preset][category] = dict(found.per_image)
            with_combined(bundle, sets, scores[preset])
    except AnomapError as error:
        print(error, file=sys.stderr)
        return int(error.status)
    result = compare(sets, scores)
    content = {
        "format": FORMAT,
        "bundle": {name: getattr(bundle.info, name) for name in ("name", "version", "sha256")},
        "data": options.data.resolve().name,
        "images": {category: len(images.names) for category, images in sets.items()},
        "patients": {category: len(set(images.patients)) for category, images in sets.items()},
        "steps": {preset: PRESETS[preset].steps for preset in scores},
        "machine": describe_machine(options.device, ROOT),
        "scores": result,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"presets-{bundle.info.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print("\n\n".join(table(result, name) for name in ("wd_patch", "wd_full", COMBINED)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
