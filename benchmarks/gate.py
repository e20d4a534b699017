"""False alarms on held-out normal patients, and what becomes of corrupted inputs.

python benchmarks/gate.py [--bundle models/cxr-64] [--data ../shared/data/cxr]

Normal images are those of the bundle's own cohort (validation split), one of each patient. Corrupted ones are made of
the patients that are not in the calibrating half, or are the data's own categories. Writes
benchmarks/results/gate.json and docs/images/gate-reliability.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest

from anomap.bundle import load_bundle
from anomap.calibration.watch import band, held_out
from anomap.evaluation.scores import choose, score_images, subset, take
from anomap.evaluation.synthetic import planted
from anomap.evaluation.synthetic.objects import needle
from anomap.gate.plot import plot_reliability
from anomap.projection.schedule import preset
from anomap.training.data import load_images
from anomap.types import Float32, Float64, Prepared

ROOT = Path(__file__).resolve().parents[1]
ALPHAS = (0.01, 0.05, 0.1, 0.2)
SPLITS = 200
CAP = 20
CATEGORIES = ("lateral", "knee", "upside_down", "inverted_real", "device")


def changed(prepared: Prepared, change: Callable[[Float32], Float32]) -> Prepared:
    """Every image changed on the model's grid, back in [-1, 1]."""
    images = np.stack([change(image[0])[None] for image in prepared.images])
    return replace(prepared, images=np.clip(images, -1, 1).astype(np.float32))


def corruptions(prepared: Prepared) -> dict[str, Prepared]:
    """The same images, spoilt in known ways."""
    same = {
        "unchanged": lambda image: image,
        "inverted": lambda image: -image,
        "flipped left-right": lambda image: image[:, ::-1],
        "upside down": lambda image: image[::-1],
        "rotated by 90 degrees": np.rot90,
        "fine structure x4": lambda image: image + 3 * (image - ndimage.gaussian_filter(image, 1.0)),
        "wrong units (range squeezed to a quarter)": lambda image: image / 4 - 0.75,
    }
    found = {name: changed(prepared, change) for name, change in same.items()}  # type: ignore[arg-type]
    found["needle, 2 model pixels"] = planted(prepared, needle, "needle")[0]
    return found


def false_alarms(scores: Float64, weights: Float64) -> dict[str, object]:
    """Rates over random halves of the patients, beside the band for one such half."""
    rng = np.random.default_rng(0)
    half = len(scores) // 2
    p = []
    for _ in range(SPLITS):
        order = rng.permutation(len(scores))
        p.append(held_out(scores[order[half:]], scores[order[:half]], weights))
    result = {}
    for alpha in ALPHAS:
        rates = np.array([np.mean(values <= alpha + 1e-12) for values in p])
        low, high = band(alpha, half, len(scores) - half)
        result[str(alpha)] = {
            "mean_rate": rates.mean(),
            "band_95_of_one_split": [low, high],
            "splits_inside_band": float(np.mean((rates >= low) & (rates <= high))),
            "splits": SPLITS,
        }
    return {"calibrated_on": half, "tested_on": len(scores) - half, "alpha": result}


def one_split(p: Float64, alpha: float) -> dict[str, object]:
    """Alarms among held-out patients with the exact binomial interval of their rate."""
    alarms = int(np.count_nonzero(p <= alpha + 1e-12))
    interval = binomtest(alarms, len(p)).proportion_ci(0.95)
    inside = binomtest(alarms, len(p), alpha).pvalue > 0.05
    return {"alarms": alarms, "of": len(p), "rate_ci_95": [interval.low, interval.high], "alpha_in_band": bool(inside)}


def main(words: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cxr-64")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data" / "cxr")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "gate.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "gate-reliability.png")
    options = parser.parse_args(words)
    bundle = load_bundle(options.bundle)
    if bundle.cohort is None:
        raise SystemExit("the bundle has no cohort")
    normal = load_images(options.data, bundle.spec, "val", "normal")
    if normal.patients != bundle.cohort.patients:
        raise SystemExit("the cohort of the bundle was measured on other images")
    rows = choose(normal, len(normal.names), per_patient=True)
    scores, names = bundle.cohort.scores[rows], bundle.cohort.names
    weights = np.ones(len(names))
    order = np.random.default_rng(1).permutation(len(rows))
    calibrating, tested = order[: len(rows) // 2], order[len(rows) // 2 :]
    p = held_out(scores[tested], scores[calibrating], weights)
    sources = np.array([normal.sources[row] for row in rows])
    first = sources == sources[0]

    def judged(prepared: Prepared) -> dict[str, object]:
        found = score_images(bundle, prepared, preset("fast")).per_image
        values = np.stack([found[name] for name in names], axis=1)
        p_values = held_out(values, scores[calibrating], weights)
        return {
            "images": len(p_values),
            "passed": int(np.count_nonzero(p_values > 0.05)),
            "review": int(np.count_nonzero((p_values <= 0.05) & (p_values > 0.01))),
            "reject": int(np.count_nonzero(p_values <= 0.01)),
        }

    table = {}
    spoilt = take(normal.prepared, rows[np.sort(tested[:CAP])])
    for name, prepared in corruptions(spoilt).items():
        table[name] = judged(prepared)
        print(name, table[name], file=sys.stderr, flush=True)
    for category in CATEGORIES:
        images = load_images(options.data, bundle.spec, "test", category)
        table[f"data: {category}"] = judged(subset(images, choose(images, CAP)).prepared)
        print(category, table[f"data: {category}"], file=sys.stderr, flush=True)
    content = {
        "format": "anomap.gate-benchmark/1",
        "bundle": {"name": bundle.info.name, "sha256": bundle.info.sha256},
        "random_halves": false_alarms(scores, weights),
        "one_half": {str(alpha): one_split(p, alpha) for alpha in ALPHAS},
        "one_source_against_the_other": {
            "cohort": int(first.sum()),
            "tested": int((~first).sum()),
            "alpha": {str(a): one_split(held_out(scores[~first], scores[first], weights), a) for a in ALPHAS},
        },
        "corrupted_at_alpha_0.05": table,
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    plot_reliability(options.picture.with_suffix(""), p, len(calibrating), "cxr-64, held-out normal patients")
    options.picture.with_suffix(".svg").unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
