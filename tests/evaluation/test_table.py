import json
from dataclasses import replace

import numpy as np
import pytest

from anomap.evaluation.auroc import Interval
from anomap.evaluation.cases import Case, Exhibit
from anomap.evaluation.localisation import PairedTest
from anomap.evaluation.means import MeanAuroc, MeanResult
from anomap.evaluation.measure import ALL_SCORES, OPPONENTS
from anomap.evaluation.paper import PaperFigures
from anomap.evaluation.pixel import FROC_RATES, PixelFigures
from anomap.evaluation.regions import RegionFigures
from anomap.evaluation.run import CategoryResult, Evaluation, Separation, SyntheticResult
from anomap.evaluation.table import OWN, best_opponent, evaluation_json, evaluation_markdown, tables

PAIRED = PairedTest(pairs=20, raised=18, median_rise=1.5, p_value=0.0002)
SURE = Separation(
    auroc=0.987, interval=Interval(low=0.951, high=1.0), average_precision=0.9, fpr_at_95_tpr=0.1, paper=None
)
MARKED = RegionFigures(hit=15, first=14, elsewhere=0.25)
UNSURE = replace(SURE, auroc=0.5, interval=None)
PIXELS = PixelFigures(
    prevalence=0.013, average_precision=0.41, best_dice=0.52, aupro=0.63, froc=dict.fromkeys(FROC_RATES, 0.85)
)


def made_evaluation() -> Evaluation:
    """Figures that were never measured."""
    picture = np.zeros((8, 8), np.float32)
    case = Case(role="highest", score=3.25, image=picture, reconstruction=picture, heat=picture, mask=None)
    marked = replace(case, role="lowest", heat=np.full((8, 8), np.nan, np.float32), mask=np.eye(8, dtype=bool))
    curve = np.array([[0, 0], [0, 0.5], [1, 1]])
    return Evaluation(
        normal_images=100,
        normal_patients=90,
        training_images=500,
        set_aside=False,
        left_out={},
        region_threshold=20.0,
        categories=(
            CategoryResult(
                category="upside_down", images=30, patients=29, same_sources=True,
                separation=dict.fromkeys(ALL_SCORES, SURE), pairs=dict.fromkeys(ALL_SCORES, PAIRED),
                paired_patients=12, wd_mse_p=None,
            ),
            CategoryResult(
                category="<knee>", images=3, patients=3, same_sources=False,
                separation=dict.fromkeys([*OWN, *OPPONENTS], UNSURE), pairs={}, paired_patients=0, wd_mse_p=None,
            ),
        ),
        synthetic=(
            SyntheticResult(
                kind="thin_needle", description="a line", images=20, patients=20,
                separation=dict.fromkeys(ALL_SCORES, SURE), pairs=dict.fromkeys(ALL_SCORES, PAIRED),
                touched=17, touched_by_place=19, touched_by_change=None,
                touched_by_seed=(16, 18), expected_touched=2.25, regions=MARKED, maps={"wd": PIXELS},
            ),
            SyntheticResult(
                kind="unaltered", description="as it was", images=20, patients=20,
                separation=dict.fromkeys(ALL_SCORES, SURE), pairs=dict.fromkeys(ALL_SCORES, PAIRED), touched=None,
                touched_by_place=None, touched_by_change=None, touched_by_seed=(), expected_touched=None,
                regions=replace(MARKED, hit=0, first=0), maps={},
            ),
            SyntheticResult(
                kind="blur", description="soft", images=20, patients=20, separation=dict.fromkeys(ALL_SCORES, SURE),
                pairs=dict.fromkeys(ALL_SCORES, PAIRED), touched=None, touched_by_place=None, touched_by_change=None,
                touched_by_seed=(), expected_touched=None, regions=None, maps={},
            ),
        ),
        in_series=(
            SyntheticResult(
                kind="thin_needle", description="a line", images=20, patients=4,
                separation=dict.fromkeys(ALL_SCORES, SURE), pairs=dict.fromkeys(ALL_SCORES, PAIRED), touched=11,
                touched_by_place=12, touched_by_change=18, touched_by_seed=(), expected_touched=2.25,
                regions=MARKED, maps={"neighbours": PIXELS},
            ),
        ),
        mean=MeanResult(
            categories=("upside_down", "thin_mass"), images=33, patients=32,
            scores={
                name: MeanAuroc(auroc=0.6, interval=Interval(low=0.5, high=0.7), below=Interval(low=-0.1, high=0.1234))
                for name in ("combined", "pca_mse")
            },
        ),
        exhibits=(
            Exhibit(name="normal", cases=(case,), curves={}),
            Exhibit(name="<knee>", cases=(case, marked), curves={"combined": curve, "wd_patch": curve}),
        ),
    )  # fmt: skip


@pytest.fixture
def quality() -> Evaluation:
    return made_evaluation()


def rows_of(quality: Evaluation, heading: str) -> list[list[str]]:
    return next(rows for name, _, _, rows in tables(quality) if name == heading)


def test_tables_hold_figures_numbers_and_marks(quality: Evaluation) -> None:
    assert rows_of(quality, "Scores")[0][:3] == ["upside down *", "30 (29)", "0.99 [0.95, 1.00]"]
    assert rows_of(quality, "Scores")[1][:3] == ["<knee>", "3 (3)", "0.50"]
    assert rows_of(quality, "Pairs")[0][:3] == ["upside down *", "20 (12)", "18"]
    share = f"{30 / 130:.2f}"
    assert rows_of(quality, "Average precision, false positives")[0][:5] == [
        "upside down *", share, "0.90", "0.10", "0.99",
    ]  # fmt: skip
    assert rows_of(quality, "Pointing") == [
        ["thin needle", "20", "17", "19", "85% ± 7%", "2.2", "15 (14)", "0.25", "18, 0.0002", "18, 0.0002"],
        ["unaltered", "20", "", "", "", "", "0 (0)", "0.25", "18, 0.0002", "18, 0.0002"],
    ]
    assert rows_of(quality, "Localisation") == [["thin needle", "wd", "0.41", "0.013", "0.52", "0.63", "0.85"]]
    assert [row[0] for row in rows_of(quality, "Synthetic anomalies")] == ["thin needle", "unaltered", "blur"]
    assert rows_of(quality, "Localisation among neighbours")[0][:3] == ["thin needle", "neighbours", "0.41"]
    among = rows_of(quality, "Slices among their neighbours")
    assert among == [["thin needle", "20 (4)", *["0.99 · 18"] * len(OWN), "11", "12", "18", "2.2", "15 (14)", "0.25"]]


def test_a_mean_stands_beside_those_of_the_baselines(quality: Evaluation) -> None:
    text, rows = next((text, rows) for name, text, _, rows in tables(quality) if name == "Mean")
    assert text.startswith("Over upside down, thin mass, each counting the same: 33 images of 32 patients.")
    assert rows == [
        ["combined", "0.600 [0.500, 0.700]", ""],
        ["pca mse", "0.600 [0.500, 0.700]", "[-0.100, 0.123]"],
    ]
    assert evaluation_json(quality)["mean"]["scores"]["pca_mse"]["below"] == {"low": -0.1, "high": 0.1234}
    assert "Mean" not in [name for name, *_ in tables(replace(quality, mean=None))]


def test_every_row_has_as_many_cells_as_its_head(quality: Evaluation) -> None:
    text = evaluation_markdown(quality, "toy on paper")
    assert text.startswith("### toy on paper\n")
    assert "100 normal images of 90 patients" in text
    for _, _, head, rows in tables(quality):
        assert {len(row) for row in rows} == {len(head)}


def test_shares_over_seeds_have_a_column_only_where_there_are_seeds(quality: Evaluation) -> None:
    one_seed = replace(quality, synthetic=tuple(replace(row, touched_by_seed=()) for row in quality.synthetic))
    row = ["thin needle", "20", "17", "19", "2.2", "15 (14)", "0.25", "18, 0.0002", "18, 0.0002"]
    assert rows_of(one_seed, "Pointing")[0] == row
    no_places = replace(one_seed, synthetic=tuple(replace(row, touched_by_place=None) for row in one_seed.synthetic))
    assert rows_of(no_places, "Pointing")[0] == row[:3] + row[4:]


def test_tables_without_rows_are_left_out(quality: Evaluation) -> None:
    bare = replace(quality, categories=quality.categories[1:], synthetic=(), in_series=())
    assert [name for name, *_ in tables(bare)] == [
        "Scores", "Baselines", "Average precision, false positives", "Mean", "Ablation",
    ]  # fmt: skip


def test_the_papers_protocol_has_its_own_table(quality: Evaluation) -> None:
    paper = replace(SURE, paper=PaperFigures(mean=0.97, sd=0.0123, images=30))
    row = replace(quality.categories[0], separation=dict.fromkeys(ALL_SCORES, paper), wd_mse_p=0.00123)
    (cells,) = rows_of(replace(quality, categories=(row, quality.categories[1])), "The paper's protocol")
    assert cells == ["upside down *", "30", *["0.97 ± 0.012"] * 4, "0.00123"]


def test_what_was_left_out_or_set_aside_is_said(quality: Evaluation) -> None:
    text = evaluation_markdown(replace(quality, left_out={"E102": 2}, set_aside=True), "toy")
    assert "(E102: 2)" in text
    assert "half of the normal patients" in text


def test_the_strongest_baseline_is_found(quality: Evaluation) -> None:
    separation = {**quality.categories[1].separation, "pca_mse": replace(UNSURE, auroc=0.7), "wd_patch": SURE}
    assert best_opponent(separation) == "pca_mse"


def test_json_holds_everything_as_plain_values_and_no_picture(quality: Evaluation) -> None:
    content = json.loads(json.dumps(evaluation_json(quality), allow_nan=False))
    assert content["normal"] == {"images": 100, "patients": 90}
    row = content["categories"][0]
    assert row["separation"]["combined"]["interval"] == {"low": 0.951, "high": 1.0}
    assert row["pairs"]["wd_patch"]["raised"] == 18
    assert content["synthetic"][0]["maps"]["wd"]["froc"]["1.0"] == 0.85
    assert set(content["scores"]["residual_z"]) == {"unit", "direction", "description"}
    assert "exhibits" not in content
