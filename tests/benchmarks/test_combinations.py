"""The ranking on made-up scores: the useful one wins, patients weigh the same, ties count half."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.combinations import all_sets, balanced_auroc, patient_weights, ranking


def test_the_auroc_is_sklearns_with_weights() -> None:
    rng = np.random.default_rng(0)
    normal, odd = rng.integers(0, 6, 30).astype(float), rng.integers(2, 8, 11).astype(float)
    weights = patient_weights((*(f"p{n // 4}" for n in range(28)), "alone", "other"))
    assert weights.sum() == pytest.approx(9)
    labels, everybody = np.r_[np.zeros(30), np.ones(11)], np.r_[weights, np.ones(11)]
    expected = roc_auc_score(labels, np.r_[normal, odd], sample_weight=everybody)
    assert balanced_auroc(normal, odd, weights) == pytest.approx(expected)
    lone = np.r_[normal, np.nan, np.nan]
    assert balanced_auroc(lone, odd, np.r_[weights, 1, 1]) == pytest.approx(expected)


def test_the_score_that_finds_things_comes_first_and_the_control_counts_for_nothing() -> None:
    rng = np.random.default_rng(1)
    normal = {name: rng.normal(size=60) for name in ("good", "blind", "blinder")}
    rows = np.arange(20)
    same = {name: values[rows] for name, values in normal.items()}
    marked = same | {"good": same["good"] + 4}
    table = ranking(normal, {"needle": marked, "unaltered": same}, rows, np.ones(60), all_sets(normal))
    assert len(table) == 7
    assert table[0]["scores"] == ["good"]
    assert table[0]["raised"] == 1.0
    assert table[0]["mean_auroc"] == table[0]["auroc"]["needle"] > 0.95
    assert table[-1]["raised"] == 0.0
    assert 0.3 < table[0]["auroc"]["unaltered"] < 0.7


def test_a_score_that_some_images_lack_counts_for_the_others() -> None:
    rng = np.random.default_rng(2)
    normal = {name: rng.normal(size=60) for name in ("blind", "beside")}
    normal["beside"][40:] = np.nan
    rows = np.arange(20)
    marked = {name: values[rows] for name, values in normal.items()} | {"beside": normal["beside"][rows] + 4}
    found = ranking(normal, {"needle": marked}, rows, np.ones(60), [("blind",), ("blind", "beside")])
    assert found[0]["scores"] == ["blind", "beside"]
    assert found[0]["mean_auroc"] > 0.9
    assert found[0]["raised"] > 0.9
