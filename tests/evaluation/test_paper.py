import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.evaluation.paper import DRAWS, drawn_aurocs, paper_figures, permutation_p


def scores(normal: int, odd: int, shift: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=normal), rng.normal(shift, size=odd)


def test_sides_of_equal_size_have_no_spread_which_is_the_defect() -> None:
    normal, odd = scores(40, 40)
    found = paper_figures(normal, odd)
    assert found.sd == pytest.approx(0, abs=1e-12)
    assert found.mean == pytest.approx(roc_auc_score(np.repeat([0, 1], 40), np.concatenate([normal, odd])))
    assert found.images == 40


def test_the_spread_is_smaller_than_that_of_fresh_images() -> None:
    normal, odd = scores(120, 40)
    fresh = [roc_auc_score(np.repeat([0, 1], [120, 40]), np.concatenate(scores(120, 40, seed=n))) for n in range(200)]
    found = paper_figures(normal, odd)
    assert 0 < found.sd < 0.85 * np.std(fresh)
    assert found.mean == pytest.approx(np.mean(fresh), abs=4 * np.std(fresh))
    assert len(drawn_aurocs(normal, odd)) == DRAWS


def test_draws_are_the_same_for_every_score() -> None:
    normal, odd = scores(60, 20)
    np.testing.assert_array_equal(drawn_aurocs(normal, odd), drawn_aurocs(normal * 2, odd * 2))


def test_the_permutation_test_of_equal_lists_sees_no_difference() -> None:
    values = np.random.default_rng(0).uniform(size=50)
    assert permutation_p(values, values, shuffles=2000) > 0.95


def test_the_permutation_test_counts_all_shuffles_of_small_lists() -> None:
    # Of the 6 ways to split four numbers into two pairs, none has a larger gap than {0, 1} against {8, 9}.
    assert permutation_p(np.array([0.0, 1.0]), np.array([8.0, 9.0]), shuffles=500) == 0.0
    # {0, 8} against {1, 9} has a gap of 1: {0, 1} and {0, 9} with their complements have gaps of 8 and 0.
    p = permutation_p(np.array([0.0, 8.0]), np.array([1.0, 9.0]), shuffles=20_000)
    assert p == pytest.approx(1 / 3, abs=0.02)


def test_it_agrees_with_that_of_scipy() -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(1)
    one, other = rng.normal(0.80, 0.02, 50), rng.normal(0.806, 0.02, 50)
    expected = permutation_test(
        (one, other), lambda a, b: a.mean() - b.mean(), n_resamples=20_000, rng=np.random.default_rng(2)
    ).pvalue
    assert permutation_p(one, other, shuffles=20_000) == pytest.approx(expected, abs=0.02)
