"""An evaluation as JSON and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from anomap.calibration import COMBINED
from anomap.evaluation.auroc import MIN_PATIENTS, Interval
from anomap.evaluation.means import MeanResult
from anomap.evaluation.measure import ALL_SCORES, MAPS, OPPONENTS
from anomap.evaluation.more import MORE
from anomap.evaluation.paper import DRAWS
from anomap.evaluation.pixel import FPR_LIMIT
from anomap.evaluation.run import CategoryResult, Evaluation, Separation, SyntheticResult
from anomap.projection.neighbours import GUARD_MM, REACH_MM
from anomap.scoring import SERIES_SCORES

OWN = (
    "wd_patch",
    "mse_patch",
    "wd_full",
    "mse_full",
    "wd_body",
    "w_distance",
    "feature_residual",
    "feature_distance",
    "feature_patch",
    *SERIES_SCORES,
    COMBINED,
)
FORMAT = "anomap.evaluation/1"
_SAME = "*"
_REGIONS = ("a region touches it (the first)", "other regions an image")
_ONE_MARK = 1.0  # false marks an image, of the FROC column


def evaluation_json(result: Evaluation) -> dict[str, Any]:
    """All figures as JSON values; pictures and curves are left to the page."""
    return {
        "normal": {"images": result.normal_images, "patients": result.normal_patients},
        "training_images": result.training_images,
        "baselines_fitted_to_half_of_the_normal_patients": result.set_aside,
        "left_out": result.left_out,
        "region_threshold": result.region_threshold,
        "scores": {
            name: {"unit": score.unit, "direction": score.direction, "description": score.description}
            for name, score in ALL_SCORES.items()
        },
        "categories": [_plain(row) for row in result.categories],
        "synthetic": [_plain(row) for row in result.synthetic],
        "synthetic_in_series": [_plain(row) for row in result.in_series],
        "mean": None if result.mean is None else _plain(result.mean),
    }


def _plain(row: CategoryResult | SyntheticResult | MeanResult) -> Any:
    return json.loads(json.dumps(asdict(row)))  # tuples and numbers as keys become what they are in a file


def evaluation_markdown(result: Evaluation, title: str) -> str:
    """All tables, each with what a reader must know to judge it.

    Args:
        result: From `anomap.evaluation.run.evaluate`.
        title: Heading.
    """
    lines = [f"### {title}", "", *introduction(result), ""]
    for heading, text, head, rows in tables(result):
        lines += [f"**{heading}.** {text}", "", *_markdown(head, rows), ""]
    return "\n".join(lines)


Table = tuple[str, str, list[str], list[list[str]]]  # heading, what to know, head, rows


def introduction(result: Evaluation) -> list[str]:
    """Sentences that hold for all tables."""
    lines = [
        f"AUROC against {result.normal_images} normal images of {result.normal_patients} patients that were not "
        f"trained on. In brackets the 95 % interval over patients (bootstrap of patients; none below {MIN_PATIENTS} "
        f"patients). {_SAME} all images come from data sets that the baselines' training images come from too; others "
        "also differ in scanner and processing and may be told apart for that."
    ]
    if result.set_aside:
        lines.append("No training images were given: the baselines are fitted to half of the normal patients.")
    if result.left_out:
        causes = ", ".join(f"{code}: {count}" for code, count in sorted(result.left_out.items()))
        lines.append(f"Files that could not be used ({causes}) are left out.")
    return lines


def tables(result: Evaluation) -> list[Table]:
    """Every table that there is something to say in."""
    made = [_own(result), _opponents(result), _operating(result), _mean(result), _more(result), _pairs(result)]
    made += [_paper(result), _planted(result), _pointing(result), _maps(result.synthetic, "Localisation")]
    made += [_in_series(result), _maps(result.in_series, "Localisation among neighbours")]
    return [table for table in made if table[3]]


def _own(result: Evaluation) -> Table:
    text = "From projection into the generator; feature distance and feature patch ask its discriminator alone."
    if any(name in row.separation for row in result.categories for name in SERIES_SCORES):
        text += (
            " So do the distances from neighbours, for which a slice is compared with those "
            f"{GUARD_MM:g} to {REACH_MM:g} mm away: an altered one with slices as they were. Lone slices don't have "
            "them."
        )
    return "Scores", text, *_aurocs(result.categories, OWN)


def _opponents(result: Evaluation) -> Table:
    text = "The same without a projection: a generator that does not beat these has no case."
    return "Baselines", text, *_aurocs(result.categories, OPPONENTS)


def _mean(result: Evaluation) -> Table:
    if result.mean is None:
        return "Mean", "", [], []
    found = result.mean
    text = (
        f"Over {', '.join(map(_words, found.categories))}, each counting the same: {found.images} images of "
        f"{found.patients} patients. Intervals over patients; those of the difference are from the same draws."
    )
    shown = [name for name in (COMBINED, *OWN[:-1], *OPPONENTS) if name in found.scores]
    rows = [
        [_words(name), f"{one.auroc:.3f} {_range(one.interval)}", "" if name == COMBINED else _range(one.below)]
        for name, one in ((name, found.scores[name]) for name in shown)
    ]
    return "Mean", text, ["score", "mean AUROC", "combined has more by"], rows


def _range(interval: Interval) -> str:
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def _more(result: Evaluation) -> Table:
    text = "More scores from the same projection, on trial; `anomap analyze` does not compute them."
    return "Ablation", text, *_aurocs(result.categories, (COMBINED, *MORE))


def _aurocs(rows: Sequence[CategoryResult], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    shown = [name for name in columns if any(name in row.separation for row in rows)]
    head = ["category", "images (patients)", *(_words(name) for name in shown)]
    return head, [
        [_name(row), f"{row.images} ({row.patients})", *(_cell(row.separation.get(name)) for name in shown)]
        for row in rows
    ]


def _operating(result: Evaluation) -> Table:
    head = ["category", "share of odd images", "AP", "FPR at 95 % TPR", "AUROC", "best baseline"]
    rows = []
    for row in result.categories:
        own = row.separation[COMBINED]
        share = row.images / (row.images + result.normal_images)
        rival = best_opponent(row.separation)
        best = f"{row.separation[rival].auroc:.2f} ({_words(rival)})"
        figures = [f"{value:.2f}" for value in (share, own.average_precision, own.fpr_at_95_tpr, own.auroc)]
        rows.append([_name(row), *figures, best])
    text = "The combined score. A useless score's AP is the share of odd images. The baseline was chosen afterwards."
    return "Average precision, false positives", text, head, rows


def best_opponent(separation: Mapping[str, Separation]) -> str:
    """The baseline with the highest AUROC, as known only afterwards."""
    return max((name for name in OPPONENTS if name in separation), key=lambda name: separation[name].auroc)


def _pairs(result: Evaluation) -> Table:
    paired = [row for row in result.categories if row.pairs]
    columns = (*OWN, *OPPONENTS)
    shown = [name for name in columns if any(name in row.pairs for row in paired)]
    head = ["category", "pairs (patients)", *(_words(name) for name in shown)]
    rows = [
        [_name(row), f"{next(iter(row.pairs.values())).pairs} ({row.paired_patients})"]
        + [f"{row.pairs[name].raised}" if name in row.pairs else "" for name in shown]
        for row in paired
    ]
    text = "Images made from normal ones, against those very images: how many score higher than their own origin."
    return "Pairs", text, head, rows


def _paper(result: Evaluation) -> Table:
    measured = [row for row in result.categories if row.wd_mse_p is not None]
    names = ("wd_full", "wd_patch", "mse_full", "mse_patch")
    head = ["category", "images of a draw", *(_words(name) for name in names), "p, wd patch = mse patch"]
    rows = []
    for row in measured:
        drawn = [row.separation[name].paper for name in names]
        cells = [f"{one.mean:.2f} ± {one.sd:.3f}" for one in drawn if one is not None]
        count = next(one.images for one in drawn if one is not None)
        rows.append([_name(row), str(count), *cells, f"{row.wd_mse_p:.5f}"])
    text = (
        f"Mean ± standard deviation of the AUROC over {DRAWS} draws of equally many images without replacement, and "
        "the permutation test on these draws. Both are defective (docs/evaluation.md): the deviations are too small, "
        "the p-value says nothing of further patients. For comparison with published figures only."
    )
    return "The paper's protocol", text, head, rows


def _planted(result: Evaluation) -> Table:
    columns = [name for name in (*OWN, *OPPONENTS) if any(name in row.separation for row in result.synthetic)]
    columns = [name for name in columns if name not in SERIES_SCORES]  # few of these images have any; see `_in_series`
    head = ["planted", "patients", *(_words(name) for name in columns)]
    rows = [
        [_words(row.kind), str(row.images)]
        + [f"{row.separation[name].auroc:.2f} · {row.pairs[name].raised}" for name in columns]
        for row in result.synthetic
    ]
    text = (
        "Drawn into normal images, one a patient. AUROC against all normal images, and after the dot how many images "
        "score higher than the very same image without it. The row 'unaltered' is the control: its AUROC is what these "
        "images have with nothing planted."
    )
    return "Synthetic anomalies", text, head, rows


def _pointing(result: Evaluation) -> Table:
    found = [row for row in result.synthetic if row.regions is not None]
    seeded = any(row.touched_by_seed for row in found)
    placed = any(row.touched_by_place is not None for row in found)
    head = ["planted", "patients", "top window touches it"]
    head += ["oddest place touches it"] if placed else []
    head += ["share over seeds"] if seeded else []
    head += ["expected blindly", *_REGIONS, "wd patch rises, p", "mse patch rises, p"]
    rows = [
        [_words(row.kind), str(row.images), _count(row.touched)]
        + ([_count(row.touched_by_place)] if placed else [])
        + ([_by_seed(row)] if seeded else [])
        + [_expected(row)]
        + _regions(row)
        + [f"{row.pairs[name].raised}, {row.pairs[name].p_value:.2g}" for name in ("wd_patch", "mse_patch")]
        for row in found
    ]
    text = (
        "The paper's top-1 measure with a known truth; p of a sign test. The oddest place is that of the score "
        "'feature patch', on a fixed grid and not larger than a window. Regions are those of reports: where windows or "
        "places are above what one normal image in twenty has somewhere."
    )
    return "Pointing", text, head, rows


def _in_series(result: Evaluation) -> Table:
    own = [name for name in OWN if any(name in row.separation for row in result.in_series)]
    head = ["planted", "slices (patients)", *(_words(name) for name in own)]
    head += ["top window touches it", "oddest place", "place least like its neighbours", "expected blindly", *_REGIONS]
    rows = [
        [_words(row.kind), f"{row.images} ({row.patients})"]
        + [f"{row.separation[name].auroc:.2f} · {row.pairs[name].raised}" for name in own]
        + [_count(count) for count in (row.touched, row.touched_by_place, row.touched_by_change)]
        + [_expected(row)]
        + _regions(row)
        for row in result.in_series
    ]
    text = (
        "The same in slices that have others beside them, several of a patient and one altered at a time: AUROC "
        "against all normal images that have the score, slices higher than without it, and pointing. What is in one "
        "slice only suits the comparison with neighbours; what runs through many doesn't."
    )
    return "Slices among their neighbours", text, head, rows


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _expected(row: SyntheticResult) -> str:
    return "" if row.expected_touched is None else f"{row.expected_touched:.1f}"


def _regions(row: SyntheticResult) -> list[str]:
    """The cells under `_REGIONS`."""
    found = row.regions
    return ["", ""] if found is None else [f"{found.hit} ({found.first})", f"{found.elsewhere:.2f}"]


def _by_seed(row: SyntheticResult) -> str:
    """Mean ± standard deviation over seeds of the share of images, as the paper states it."""
    if not row.touched_by_seed:
        return ""
    shares = np.array(row.touched_by_seed) / row.images
    return f"{shares.mean():.0%} ± {shares.std(ddof=1):.0%}"


def _maps(planted: Sequence[SyntheticResult], heading: str) -> Table:
    head = ["planted", "map", "pixel AP", "share of odd pixels", "best Dice", "AUPRO", "hit at 1 false mark"]
    rows = [
        [_words(row.kind), _words(name), f"{one.average_precision:.2f}", f"{one.prevalence:.3f}"]
        + [f"{value:.2f}" for value in (one.best_dice, one.aupro, one.froc[_ONE_MARK])]
        for row in planted
        for name in MAPS
        if (one := row.maps.get(name)) is not None
    ]
    text = (
        f"By pixel on the model's grid. Best Dice takes the threshold that suits best; AUPRO up to {FPR_LIMIT:.0%} "
        f"false pixels, {FPR_LIMIT / 2:.2f} by chance; the map 'mean image' is the baseline."
    )
    return heading, text, head, rows


def _words(name: str) -> str:
    return name.replace("_", " ")


def _name(row: CategoryResult) -> str:
    return _words(row.category).replace("|", "/") + (f" {_SAME}" if row.same_sources else "")


def _cell(figures: Separation | None) -> str:
    if figures is None:
        return ""
    if figures.interval is None:
        return f"{figures.auroc:.2f}"
    return f"{figures.auroc:.2f} [{figures.interval.low:.2f}, {figures.interval.high:.2f}]"


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
