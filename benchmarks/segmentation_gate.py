"""What a gate is worth before a segmenter: Dice of accepted and rejected films, risk over coverage, opponents.

python -m benchmarks.segmentation_gate [--bundle models/cxr-64] [--data ../shared/data/cxr]

Films are one of each normal patient of the validation split, whole, plus some of them spoilt in ten ways. The truth is
a rule on grey levels (`benchmarks.segmentation_cases`); no person drew it. A knee and a drawn limb have no lung: Dice
is 1 when nothing is found, else 0. Writes benchmarks/results/segmentation-gate.json and
docs/images/segmentation-gate.png; prints the tables of docs/gate.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anomap.bundle import Bundle, load_bundle
from anomap.calibration import COMBINED, combined_score
from anomap.calibration.watch import held_out
from anomap.evaluation.baselines import baseline_scores, fit_baselines
from anomap.evaluation.data import first_half
from anomap.evaluation.features import FEATURE_KNN, feature_knn, fit_features
from anomap.evaluation.scores import choose, score_images, subset
from anomap.evaluation.selective import COVERAGES, accepted_risk, aurc, patient_interval
from anomap.preprocessing import prepare
from anomap.projection.schedule import preset
from anomap.scoring import SCORES
from anomap.training.data import concatenate, load_images
from anomap.types import Bool, Cohort, Float64
from benchmarks.segmentation_cases import SOURCE, WHOLE, Case, cases_of
from deploy_app.examples.gated_segmentation.segmenter import THRESHOLD, Segmenter, load_segmenter, probabilities

ROOT = Path(__file__).resolve().parents[1]
CHANCE, CONFIDENCE, P_VALUE = "at random", "segmenter_entropy", "gate_p"
OURS, REJECTED = COMBINED, 0.10
RESAMPLES = 1000


def dice(found: Bool, truth: Bool) -> float:
    """Dice coefficient; 1 when both are empty."""
    both = int(found.sum() + truth.sum())
    return 2 * float((found & truth).sum()) / both if both else 1.0


def segmented(segmenter: Segmenter, cases: list[Case]) -> tuple[Float64, Float64]:
    """Dice of each case, and the segmenter's own doubt: mean entropy of its probabilities."""
    quality, doubt = [], []
    for case in cases:
        p = probabilities(segmenter, case.series)[0].astype(np.float64)
        quality.append(dice(p > THRESHOLD, case.truth))
        p = np.clip(p, 1e-6, 1 - 1e-6)
        doubt.append(float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()))
    return np.array(quality), np.array(doubt)


def scores_of(bundle: Bundle, cases: list[Case], data: Path) -> dict[str, Float64]:
    """The gate's scores and those of its opponents; higher is odder.

    Every patient is compared with the whole films of the half of the patients that it is not in.
    """
    prepared = concatenate([prepare(case.series, bundle.spec) for case in cases])
    found = score_images(bundle, prepared, preset("fast"), lambda done, of: _say(f"projected {done} of {of}")).per_image
    values = np.stack([found[name] for name in SCORES], axis=1)
    whole = np.array([case.kind == WHOLE for case in cases])
    half = first_half(tuple(case.patient for case in cases if case.kind == WHOLE))
    inside = np.array([case.patient in half for case in cases])
    p, combined = np.empty(len(cases)), np.empty(len(cases))
    for mine, theirs in ((inside, ~inside), (~inside, inside)):
        reference = values[theirs & whole]
        cohort = Cohort(
            scores=reference, names=tuple(SCORES), patients=tuple(map(str, range(len(reference)))),
            bundle_sha256=bundle.info.sha256, description="the other half", region_threshold=0.0,
            combines=bundle.combines,
        )  # fmt: skip
        p[mine] = held_out(values[mine], reference, np.ones(len(SCORES)))
        combined[mine] = combined_score({name: column[mine] for name, column in found.items()}, cohort)
    train = load_images(data, bundle.spec, "train", "normal").prepared
    opponents = baseline_scores(fit_baselines(train), prepared)
    features = fit_features(bundle, train)
    if features is not None:
        opponents[FEATURE_KNN] = feature_knn(bundle, features, prepared)
    return {COMBINED: combined, P_VALUE: -p, **opponents}


def gained(risk: Float64) -> float:
    """What the mean gains when the worst tenth is rejected; of `accepted_risk`."""
    return float(risk[-1] - risk[np.isclose(COVERAGES, 1 - REJECTED)][0])


def curves(scores: dict[str, Float64], risks: Float64, patients: list[str]) -> dict[str, Any]:
    """For each score the area, the gain of rejecting the worst tenth, and how much less the opponents gain."""

    def gain(name: str, weights: Float64 | None) -> float:
        return gained(accepted_risk(scores[name], risks, weights))

    def interval(statistic: Callable[[Float64], float]) -> list[float]:
        found = patient_interval(patients, statistic, resamples=RESAMPLES)
        return [found.low, found.high]

    return {
        name: {
            "aurc": aurc(scores[name], risks),
            "aurc_ci_95": interval(lambda w, name=name: aurc(scores[name], risks, w)),
            "aurc_above_ours": aurc(scores[name], risks) - aurc(scores[OURS], risks),
            "aurc_above_ci_95": interval(
                lambda w, name=name: aurc(scores[name], risks, w) - aurc(scores[OURS], risks, w)
            ),
            "gain_in_mean_dice": gain(name, None),
            "gain_ci_95": interval(lambda w, name=name: gain(name, w)),
            "gain_of_ours_above_it": gain(OURS, None) - gain(name, None),
            "gain_above_ci_95": interval(lambda w, name=name: gain(OURS, w) - gain(name, w)),
        }
        for name in scores
    }


def mean_interval(values: Float64, patients: list[str], chosen: Bool) -> dict[str, Any]:
    """Mean of the chosen cases with its interval over patients."""
    if not chosen.any():
        return {"cases": 0}
    mine, names = values[chosen], [name for name, yes in zip(patients, chosen, strict=True) if yes]
    found = patient_interval(names, lambda w: float((w * mine).sum() / w.sum()), resamples=RESAMPLES)
    return {"cases": int(chosen.sum()), "mean_dice": float(mine.mean()), "ci_95": [found.low, found.high]}


def report(cases: list[Case], quality: Float64, scores: dict[str, Float64]) -> dict[str, Any]:
    """All figures."""
    patients, kind = [case.patient for case in cases], np.array([case.kind for case in cases])
    p = -scores[P_VALUE]
    answers = {"pass": p > 0.05, "review": (p <= 0.05) & (p > 0.01), "reject": p <= 0.01}
    whole = float(quality[kind == WHOLE].mean())
    verdicts = {name: mean_interval(quality, patients, chosen) for name, chosen in answers.items()}
    verdicts["all"] = mean_interval(quality, patients, np.ones(len(cases), bool))
    for row in verdicts.values():
        if row["cases"]:
            row["drop_from_unchanged_films"] = whole - row["mean_dice"]
    by_kind = {
        name: {
            "films": int((kind == name).sum()), "mean_dice": float(quality[kind == name].mean()),
            **{answer: int((chosen & (kind == name)).sum()) for answer, chosen in answers.items()},
        }
        for name in dict.fromkeys(kind)
    }  # fmt: skip
    best = accepted_risk(1 - quality, 1 - quality)
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    return {
        "cases": len(cases),
        "patients": len(set(patients)),
        "spoilt": int((kind != WHOLE).sum()),
        "by_verdict_alpha_0.05_0.01": verdicts,
        "by_kind": by_kind,
        "rejecting_worst_tenth": curves({**scores, CHANCE: np.zeros(len(cases))}, 1 - quality, patients),
        "by_case": [
            {
                "kind": case.kind,
                "patient": numbers[case.patient],
                "dice": _short(quality[n]),
                **{name: _short(values[n]) for name, values in scores.items()},
            }
            for n, case in enumerate(cases)
        ],
        "best_possible": {"aurc": float(best.mean()), "gain_in_mean_dice": gained(best)},
    }


def draw(path: Path, scores: dict[str, Float64], risks: Float64) -> None:
    """Risk over coverage of every score, best possible and random order beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in scores.items():
        wide = name in (OURS, P_VALUE)
        axes.plot(COVERAGES, accepted_risk(values, risks), label=name, linewidth=2.2 if wide else 1,
                  linestyle="-" if wide else "--")  # fmt: skip
    axes.plot(COVERAGES, accepted_risk(risks, risks), color="0.6", label="best possible")
    axes.axhline(risks.mean(), color="0.6", linestyle=":", label=CHANCE)
    axes.axvline(1 - REJECTED, color="0.85", zorder=0)
    axes.set(xlabel="coverage: share of cases accepted", ylabel="risk: 1 - mean Dice of the accepted", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def tables(content: dict[str, Any]) -> Iterator[str]:
    """The tables of docs/gate.md."""
    yield "| order of rejection | AURC | above that of `combined` | gain of mean Dice | `combined` gains more by |"
    yield "|---|---|---|---|---|"
    rows = content["rejecting_worst_tenth"]
    for name in sorted(rows, key=lambda name: rows[name]["aurc"]):
        row = rows[name]
        figures = [
            (row["aurc"], row["aurc_ci_95"]),
            (row["aurc_above_ours"], row["aurc_above_ci_95"]),
            (row["gain_in_mean_dice"], row["gain_ci_95"]),
            (row["gain_of_ours_above_it"], row["gain_above_ci_95"]),
        ]
        texts = [_with_interval(*pair) for pair in figures]
        if name == OURS:
            texts[1] = texts[3] = ""
        yield f"| {name} | {' | '.join(texts)} |"
    yield ""
    yield "| verdict | cases | mean Dice | below the unchanged films by |"
    yield "|---|---:|---|---:|"
    for name, row in content["by_verdict_alpha_0.05_0.01"].items():
        if row["cases"]:
            dice_text = _with_interval(row["mean_dice"], row["ci_95"])
            yield f"| {name} | {row['cases']} | {dice_text} | {row['drop_from_unchanged_films']:.3f} |"
    yield ""
    yield "| film | cases | mean Dice | pass | review | reject |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, row in content["by_kind"].items():
        counts = " | ".join(str(row[answer]) for answer in ("pass", "review", "reject"))
        yield f"| {name.replace('_', ' ')} | {row['films']} | {row['mean_dice']:.2f} | {counts} |"


def _with_interval(value: float, interval: list[float]) -> str:
    middle, low, high = (round(number, 3) + 0.0 for number in (value, *interval))  # no -0.000
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cxr-64")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data" / "cxr")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "segmentation-gate.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "segmentation-gate.png")
    options = parser.parse_args(words)
    bundle, segmenter = load_bundle(options.bundle), load_segmenter()
    normal = load_images(options.data, SOURCE, "val", "normal")
    films = subset(normal, choose(normal, len(normal.names), per_patient=True))
    cases = list(cases_of(films, load_images(options.data, SOURCE, "test", "knee")))
    quality, doubt = segmented(segmenter, cases)
    _say(f"{len(cases)} cases, mean Dice {quality.mean():.3f}")
    scores = {**scores_of(bundle, cases, options.data), CONFIDENCE: doubt}
    content = {
        "format": "anomap.segmentation-gate/1",
        "truth": "a rule on grey levels; no person drew it",
        "bundle": {"name": bundle.info.name, "sha256": bundle.info.sha256},
        "segmenter": {"name": segmenter.name, "weights_sha256": segmenter.sha256},
        "films_without_a_truth": len(films.names) - sum(case.kind == WHOLE for case in cases),
        **report(cases, quality, scores),
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    draw(options.picture, scores, 1 - quality)
    print("\n".join(tables(content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
