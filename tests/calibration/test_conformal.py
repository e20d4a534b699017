"""One p-value of several scores: uniform on exchangeable data, in its range, monotone where it must be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomap.calibration.conformal import family_p, oddness_ranks

ONES = np.ones(3)
bags = st.integers(2, 25).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.integers(-3, 3).map(float)))


@given(bags)
def test_p_lies_between_one_of_all_and_one(bag):
    p = family_p(bag[0], bag[1:], ONES)
    assert 1 / len(bag) <= p <= 1


@given(bags, st.randoms(use_true_random=False))
def test_the_order_of_the_cohort_does_not_matter(bag, random):
    order = list(range(1, len(bag)))
    random.shuffle(order)
    assert family_p(bag[0], bag[order], ONES) == family_p(bag[0], bag[1:], ONES)


@given(bags)
def test_at_most_k_of_n_have_a_p_of_at_most_k_over_n(bag):
    """The finite-sample guarantee itself: each member in turn as the new one, ties included."""
    p = np.array([family_p(row, np.delete(bag, i, axis=0), ONES) for i, row in enumerate(bag)])
    for k in range(1, len(bag) + 1):
        assert np.count_nonzero(p <= k / len(bag) + 1e-12) <= k


@given(arrays(np.float64, (20,), elements=st.integers(-9, 9).map(float)), st.integers(-9, 9), st.integers(0, 5))
def test_of_one_score_it_is_the_plain_p_value_and_never_rises_with_the_score(reference, score, more):
    def p(value):
        return family_p(np.array([float(value)]), reference[:, None], np.ones(1))

    assert p(score) == (1 + np.count_nonzero(reference >= score)) / 21
    assert p(score + more) <= p(score)


def test_what_is_oddest_in_every_score_has_the_smallest_p():
    reference = np.random.default_rng(0).normal(size=(99, 3))
    assert family_p(np.full(3, 50.0), reference, ONES) == 0.01
    assert family_p(np.array([0.0, 50.0, 0.0]), reference, ONES) == 0.01  # in one: the tie goes to the larger z
    assert family_p(np.array([0.0, 50.0, 0.0]), reference, np.array([1.0, 0.0, 1.0])) > 0.2


def test_half_the_weight_needs_half_the_p():
    bag = np.stack([np.arange(10.0), np.arange(10.0)[::-1]], axis=1)  # row 9 is odd by the first, row 0 by the second
    ranks = oddness_ranks(bag, np.array([1.0, 0.4]))
    assert ranks.argmax() == 9
    assert ranks[8] > ranks[0]  # 2 / 10 by the first beats 1 / 10 / 0.4


def test_p_of_correlated_scores_is_uniform():
    rng = np.random.default_rng(1)
    p = []
    for _ in range(800):
        bag = rng.normal(size=(20, 1)) + 0.5 * rng.gamma(1.0, size=(20, 3))
        p.append(family_p(bag[0], bag[1:], ONES))
    counts = np.bincount(np.rint(np.array(p) * 20).astype(int), minlength=21)[1:]
    assert np.sum((counts - 40) ** 2 / 40) < 36.2  # chi-squared with 19 degrees of freedom at 0.01
