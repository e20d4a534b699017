import json
from dataclasses import replace

import pytest

from anomap.evaluation.auroc import Interval
from anomap.evaluation.localisation import PairedTest
from anomap.evaluation.run import CategoryResult, NeedleResult, Quality, Separation
from anomap.evaluation.table import COLUMNS, quality_json, quality_markdown

PAIRED = PairedTest(pairs=20, raised=18, median_rise=1.5, p_value=0.0002)


@pytest.fixture
def quality() -> Quality:
    sure = Separation(auroc=0.987, interval=Interval(low=0.951, high=1.0), average_precision=0.9, fpr_at_95_tpr=0.1)
    unsure = replace(sure, auroc=0.5, interval=None)
    return Quality(
        normal_images=100,
        normal_patients=90,
        training_images=500,
        categories=(
            CategoryResult(
                category="upside_down", images=30, patients=29, same_sources=True,
                separation=dict.fromkeys(COLUMNS, sure), pairs=dict.fromkeys(COLUMNS, PAIRED), paired_patients=12,
            ),
            CategoryResult(
                category="knee", images=3, patients=3, same_sources=False,
                separation=dict.fromkeys(COLUMNS, unsure), pairs={}, paired_patients=0,
            ),
        ),
        needles=NeedleResult(test=PAIRED, mse_test=PAIRED, touched=15, expected_touched=2.25, images=("a", "b")),
        visible_needles=NeedleResult(test=PAIRED, mse_test=PAIRED, touched=17, expected_touched=2.0, images=("a", "b")),
    )  # fmt: skip


def test_table_holds_figures_numbers_and_marks(quality: Quality) -> None:
    lines = quality_markdown(quality, "toy on paper").splitlines()
    assert lines[0] == "### toy on paper"
    head, _, first, second = [line for line in lines if line.startswith("|")][:4]
    width = 2 + len(COLUMNS)
    assert [line.count("|") for line in (head, first, second)] == [width + 1] * 3
    assert first.startswith("| upside down * | 30 (29) | 0.99 [0.95, 1.00] |")
    assert second.startswith("| knee | 3 (3) | 0.50 |")
    text = "\n".join(lines)
    assert "100 normal images of 90 patients" in text
    assert "| upside down * | 20 (12) | 18 |" in text
    assert "rises in 18 of them" in text
    assert "touches the needle in 17 (pointing blindly: 2.0 expected)" in text
    assert "touches the needle in 15 (pointing blindly: 2.2 expected)" in text


def test_pairs_are_left_out_where_there_are_none(quality: Quality) -> None:
    text = quality_markdown(replace(quality, categories=quality.categories[1:]), "toy")
    assert "own origin" not in text


def test_json_holds_everything_as_plain_values(quality: Quality) -> None:
    content = json.loads(json.dumps(quality_json(quality)))
    assert content["normal"] == {"images": 100, "patients": 90}
    row = content["categories"][0]
    assert row["separation"]["combined"]["interval"] == {"low": 0.951, "high": 1.0}
    assert row["pairs"]["wd_patch"]["raised"] == 18
    assert content["needles"]["touched"] == 15
    assert content["needles"]["test"]["p_value"] == 0.0002
