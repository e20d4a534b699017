import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from sklearn.metrics import average_precision_score

from anomap.errors import AnomapError
from anomap.evaluation.pixel import aupro, best_dice, froc, pixel_figures


def pictures(seed: int, ties: bool = False):
    """Noisy maps with two anomalies an image, of which the map knows something."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, 24, 24), bool)
    for mask in masks:
        for low in (2, 14):
            row, col = rng.integers(low, low + 4, 2)
            mask[row : row + rng.integers(2, 5), col : col + rng.integers(2, 5)] = True
    maps = rng.normal(size=masks.shape) + 1.5 * masks
    valid = np.ones_like(masks)
    valid[:, :, -2:] = False
    return (np.round(maps) if ties else maps), masks, valid


def brute_aupro(maps, masks, seen, limit) -> float:
    """As published: overlap of each component and share of false pixels at every threshold, then trapezoids."""
    components = [(n, region) for n in range(len(maps)) for region in _regions(masks[n] & seen[n])]
    normal = maps[seen & ~masks]
    points = [(0.0, 0.0)]
    for bar in np.unique(maps[seen])[::-1]:
        overlap = np.mean([(maps[n][region] >= bar).mean() for n, region in components])
        points.append(((normal >= bar).mean(), overlap))
    x, y = np.array(points).T
    grid = np.unique(np.concatenate([x[x <= limit], [limit]]))
    # At one share of false pixels the curve may rise straight up: both ends count.
    total = 0.0
    for left, right in itertools.pairwise(grid):
        low = y[x <= left + 1e-15].max()
        high_x, high_y = x[x > left + 1e-15].min(), y[x > left + 1e-15].min()
        at_right = low + (high_y - low) * (right - left) / (high_x - left)
        total += (low + at_right) / 2 * (right - left)
    return total / limit


def _regions(mask):
    labels = label(mask, connectivity=2)
    return [labels == value for value in range(1, labels.max() + 1)]


@given(st.integers(0, 1000), st.booleans(), st.sampled_from([0.05, 0.3, 1.0]))
@settings(deadline=None, max_examples=20)
def test_aupro_is_the_area_under_the_published_curve(seed: int, ties: bool, limit: float) -> None:
    maps, masks, seen = pictures(seed, ties)
    assert aupro(maps, masks, seen, limit) == pytest.approx(brute_aupro(maps, masks, seen, limit), abs=1e-9)


def test_aupro_of_a_perfect_and_of_an_ignorant_map() -> None:
    _, masks, seen = pictures(0)
    assert aupro(masks.astype(float), masks, seen) == pytest.approx(1.0)
    assert aupro(np.zeros(masks.shape), masks, seen) == pytest.approx(0.15)
    assert aupro(-masks.astype(float), masks, seen) == pytest.approx(0.0)


@given(st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=20)
def test_best_dice_is_the_best_of_all_thresholds(seed: int, ties: bool) -> None:
    maps, masks, seen = pictures(seed, ties)
    inside = masks[seen]
    tried = [
        2 * (maps[seen] >= bar)[inside].sum() / ((maps[seen] >= bar).sum() + inside.sum())
        for bar in np.unique(maps[seen])
    ]
    assert best_dice(maps[seen & ~masks], maps[seen & masks]) == pytest.approx(max(tried))


def test_pixel_average_precision_is_that_of_sklearn() -> None:
    maps, masks, seen = pictures(3)
    broken = np.where(np.random.default_rng(0).random(maps.shape) < 0.1, np.nan, maps)
    found = pixel_figures(broken, masks, seen, 3)
    known = seen & np.isfinite(broken)
    assert found.average_precision == pytest.approx(average_precision_score(masks[known], broken[known]))
    assert found.prevalence == pytest.approx(masks[known].mean())


def test_froc_counts_marks_by_hand() -> None:
    maps, masks = np.zeros((2, 12, 12)), np.zeros((2, 12, 12), bool)
    masks[0, 2, 2] = masks[1, 2, 2] = True
    maps[0, 3, 3] = 5.0  # hits: its window of 3 reaches (2, 2)
    maps[0, 9, 9] = 4.0  # false
    maps[1, 9, 2] = 6.0  # false, higher than any hit
    maps[1, 2, 2] = 3.0  # hits
    seen = np.ones_like(masks)
    seen[:, :, 5:8] = False
    maps[:, :, 5:8] = 100.0  # not seen: no marks
    found = froc(maps, masks, seen, 3, rates=(0.0, 0.5, 1.0))
    assert found == {0.0: 0.0, 0.5: 0.5, 1.0: 1.0}


def test_two_marks_do_not_share_more_than_an_edge() -> None:
    maps, masks = np.zeros((1, 12, 12)), np.zeros((1, 12, 12), bool)
    maps[0, 5, 5], maps[0, 5, 6], maps[0, 9, 9] = 3.0, 2.9, 1.0  # the second belongs to the first mark
    masks[0, 10, 10] = True
    assert froc(maps, masks, np.ones_like(masks), 3, rates=(1.0,)) == {1.0: 1.0}


def test_equal_scores_count_against_the_map() -> None:
    masks = np.zeros((1, 12, 12), bool)
    masks[0, 5, 5] = True
    assert froc(np.zeros((1, 12, 12)), masks, np.ones_like(masks), 3, rates=(0.0, 1.0))[0.0] == 0.0


def test_without_an_anomaly_or_without_anything_else_there_is_no_figure() -> None:
    maps, masks, seen = pictures(0)
    for truth in (np.zeros_like(masks), np.ones_like(masks)):
        with pytest.raises(AnomapError, match="E200"):
            pixel_figures(maps, truth, seen, 3)
        with pytest.raises(AnomapError, match="E200"):
            aupro(maps, truth, seen)
