import numpy as np
import pytest
from scipy.stats import binom

from anomap.errors import AnomapError
from anomap.evaluation.localisation import chance_of_touching, paired_test, touches


def test_counts_what_rose_and_how_surprising_that_is() -> None:
    without = np.arange(20.0)
    rise = np.array([1.0] * 17 + [0.0, -1.0, -2.0])
    found = paired_test(without, without + rise)
    assert (found.pairs, found.raised, found.median_rise) == (20, 17, 1.0)
    assert found.p_value == pytest.approx(binom.sf(16, 20, 0.5))


def test_equal_scores_are_no_rise() -> None:
    found = paired_test(np.ones(8), np.ones(8))
    assert found.raised == 0
    assert found.p_value == 1.0


def test_pairs_must_be_pairs() -> None:
    for without, altered in ((np.ones(0), np.ones(0)), (np.ones(3), np.ones(4))):
        with pytest.raises(AnomapError, match="pairs"):
            paired_test(without, altered)


def test_a_window_touches_what_lies_inside_its_half_open_bounds() -> None:
    masks = np.zeros((1, 16, 16), bool)
    masks[0, 5, 7] = True
    for window, expected in (
        ((2, 4, 6, 8), True),
        ((5, 7, 9, 11), True),
        ((1, 4, 5, 8), False),  # rows 1..4
        ((2, 3, 6, 7), False),  # columns 3..6
        ((6, 7, 10, 11), False),
    ):
        assert touches(np.array([window]), masks).tolist() == [expected]


def test_chance_is_what_random_windows_reach() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((3, 20, 24)) < 0.01
    valid = np.ones_like(masks)
    valid[1, :, 18:] = False
    window = 5
    expected = []
    for mask, inside in zip(masks, valid, strict=True):
        places = [(r, c) for r in range(16) for c in range(20) if inside[r : r + 5, c : c + 5].all()]
        bounds = np.array([(r, c, r + 5, c + 5) for r, c in places])
        expected.append(touches(bounds, np.broadcast_to(mask, (len(places), 20, 24))).mean())
    np.testing.assert_allclose(chance_of_touching(masks, valid, window), expected)
    assert chance_of_touching(masks[:1], np.zeros((1, 20, 24), bool), window).tolist() == [0.0]
