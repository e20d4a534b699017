"""What do more steps buy? Scores of planted anomalies after 0 (the encoder alone), 10, 30, 100 and 300 steps.

python -m benchmarks.steps --bundle models/cxr-64 --data ../shared/data/cxr

As `benchmarks.combinations`: anomalies planted into one normal image a patient of split val, AUROC against all normal
images with each patient weighing the same, and how many altered images score higher than without the anomaly. Writes
benchmarks/results/steps-<bundle>.json and prints a table of means over kinds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from anomap.bundle import load_bundle
from anomap.evaluation.machine import describe_machine
from anomap.projection.schedule import preset
from benchmarks.combinations import ROOT, Planted, fitted, one_each, over_kinds, patient_weights, separation

FORMAT = "anomap.steps/1"
STEPS = (0, 10, 30, 100, 300)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits train, val)")
    parser.add_argument("--images", type=int, default=40, help="normal images that receive anomalies, one a patient")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "combinations", help="reconstructions")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def figures(found: Planted, combines: tuple[str, ...]) -> dict[str, Any]:
    """Score -> kind -> AUROC and share that rose; "combined" and every score alone."""
    weights = patient_weights(found.patients)
    table = {}
    together = tuple(name for name in combines if name in found.normal)
    for name, parts in {"combined": together, **{name: (name,) for name in found.normal}}.items():
        auroc, raised = separation(found.normal, found.odd, found.rows, weights, parts)
        table[name] = {"auroc": auroc, "raised": raised}
    return table


def main(words: list[str] | None = None) -> int:
    """Measure, write."""
    options = arguments(words)
    torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    tables = {}
    for steps in options.steps:
        print(f"{steps} steps", file=sys.stderr, flush=True)
        config = preset("fast", steps=steps)
        ruler, measured = fitted(bundle, options.data, config, options.work)
        tables[steps] = figures(one_each(ruler, measured, options.images), bundle.combines)
    content = {
        "format": FORMAT,
        "bundle": {"name": bundle.info.name, "sha256": bundle.info.sha256},
        "combines": list(bundle.combines),
        "machine": describe_machine("cpu", ROOT),
        "steps": tables,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"steps-{bundle.info.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    for score in next(iter(tables.values())):
        print(f"{score:18}", *(f"{over_kinds(table[score]['auroc']):.3f}" for table in tables.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
