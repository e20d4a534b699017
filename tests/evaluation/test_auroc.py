import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomap.errors import AnomapError
from anomap.evaluation.auroc import MIN_PATIENTS, auroc, auroc_interval, average_precision, fpr_at_tpr

# Small whole numbers make ties, which is where implementations differ.
SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=30).map(lambda values: np.array(values, np.float64))


def labelled(normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


@given(SCORES, SCORES)
@settings(deadline=None)
def test_areas_equal_scikit_learn_with_ties(normal: np.ndarray, anomalous: np.ndarray) -> None:
    assert auroc(normal, anomalous) == pytest.approx(roc_auc_score(*labelled(normal, anomalous)))
    assert average_precision(normal, anomalous) == pytest.approx(average_precision_score(*labelled(normal, anomalous)))


@given(SCORES, SCORES, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
@settings(deadline=None)
def test_false_alarms_at_a_recall_equal_the_roc_curve(normal: np.ndarray, anomalous: np.ndarray, tpr: float) -> None:
    fpr, recall, _ = roc_curve(*labelled(normal, anomalous), drop_intermediate=False)
    assert fpr_at_tpr(normal, anomalous, tpr) == pytest.approx(fpr[recall >= tpr - 1e-9].min())


@given(SCORES, SCORES)
def test_swapping_the_sides_mirrors_the_area(normal: np.ndarray, anomalous: np.ndarray) -> None:
    assert auroc(normal, anomalous) + auroc(anomalous, normal) == pytest.approx(1.0)


def delong_deviation(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Standard deviation of the AUROC by DeLong et al. 1988, for independent images."""
    wins = np.greater.outer(anomalous, normal) + 0.5 * np.equal.outer(anomalous, normal)
    variance = wins.mean(axis=1).var(ddof=1) / len(anomalous) + wins.mean(axis=0).var(ddof=1) / len(normal)
    return float(np.sqrt(variance))


def test_interval_of_independent_images_is_as_wide_as_delong_says() -> None:
    rng = np.random.default_rng(1)
    normal, anomalous = rng.normal(0, 1, 150), rng.normal(0.8, 1, 80)
    found = auroc_interval(normal, anomalous, [f"n{i}" for i in range(150)], [f"a{i}" for i in range(80)])
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * delong_deviation(normal, anomalous), rel=0.12)
    assert found.low < auroc(normal, anomalous) < found.high


def test_copies_of_the_same_patients_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(2)
    normal, anomalous = rng.normal(0, 1, 60), rng.normal(0.8, 1, 40)
    n_names, a_names = [f"n{i}" for i in range(60)], [f"a{i}" for i in range(40)]
    once = auroc_interval(normal, anomalous, n_names, a_names)
    fourfold = auroc_interval(np.tile(normal, 4), np.tile(anomalous, 4), n_names * 4, a_names * 4)
    assert once is not None
    assert fourfold == once  # the same draws of the same patients


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth, covered, runs = 0.7602, 0, 120  # Phi(1 / sqrt(2)) for normals one deviation apart
    for seed in range(runs):
        # five images a patient that share most of their deviation
        shared = np.repeat(rng.normal(0, np.sqrt(0.9), 60), 5) + rng.normal(0, np.sqrt(0.1), 300)
        names = [f"p{i // 5}" for i in range(300)]
        found = auroc_interval(shared[:200], shared[200:] + 1, names[:200], names[200:], resamples=300, seed=seed)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert 0.86 <= covered / runs <= 1.0  # 0.95 nominal, binomial spread and few clusters allowed for


def test_a_patient_on_both_sides_is_drawn_with_all_images() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0, 10, 50)
    names = [f"p{i}" for i in range(50)]
    paired = auroc_interval(base, base + 5, names, names)
    unpaired = auroc_interval(base, base + 5, names, [f"q{i}" for i in range(50)])
    assert paired is not None
    assert unpaired is not None
    assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)


def test_too_few_patients_give_no_interval() -> None:
    normal, anomalous = np.arange(40.0), np.arange(40.0) + 3
    few = [f"a{i % (MIN_PATIENTS - 1)}" for i in range(40)]
    assert auroc_interval(normal, anomalous, [f"n{i}" for i in range(40)], few) is None


def test_scores_must_be_there_finite_and_labelled() -> None:
    one = np.ones(3)
    for normal, anomalous in ((one, np.array([])), (np.array([]), one), (one, np.array([np.nan]))):
        with pytest.raises(AnomapError, match="E200"):
            auroc(normal, anomalous)
    with pytest.raises(AnomapError, match="patient label"):
        auroc_interval(one, one, ["a"], ["a", "b", "c"])
