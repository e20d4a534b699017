"""Means over categories: each counts the same, and patients are drawn with all that is theirs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.errors import AnomapError
from anomap.evaluation.means import mean_aurocs


def made(seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    normal = ({"ours": rng.normal(size=60), "plain": rng.normal(size=60)}, [f"p{n // 2}" for n in range(60)])
    odd = {
        "mass": ({"ours": rng.normal(1, 1, 40), "plain": rng.normal(0.5, 1, 40)}, [f"q{n // 3}" for n in range(40)]),
        "fluid": ({"ours": rng.normal(2, 1, 8), "plain": rng.normal(0, 1, 8)}, [f"p{n}" for n in range(8)]),
    }
    return normal, odd


def area(normal: np.ndarray, odd: np.ndarray) -> float:
    return float(roc_auc_score(np.r_[np.zeros(len(normal)), np.ones(len(odd))], np.r_[normal, odd]))


def test_each_category_counts_the_same_however_many_images_it_has() -> None:
    normal, odd = made()
    found = mean_aurocs(normal, odd, "ours", resamples=50)
    for name in ("ours", "plain"):
        by_hand = np.mean([area(normal[0][name], scores[name]) for scores, _ in odd.values()])
        assert found.scores[name].auroc == pytest.approx(by_hand)
    assert found.categories == ("mass", "fluid")
    assert (found.images, found.patients) == (48, 14 + 8)


def test_intervals_are_those_of_patients_drawn_with_all_their_images() -> None:
    normal, odd = made(1)
    found = mean_aurocs(normal, odd, "ours", resamples=400, seed=3)
    people = sorted({*normal[1], *odd["mass"][1], *odd["fluid"][1]})
    rng, drawn = np.random.default_rng(4), []
    while len(drawn) < 400:
        names = [people[i] for i in rng.integers(len(people), size=len(people))]

        def rows(patients: list[str], names: list[str] = names) -> list[int]:
            return [row for name in names for row, patient in enumerate(patients) if patient == name]

        if not all(rows(patients) for _, patients in (normal, *odd.values())):
            continue
        means = {
            score: np.mean(
                [area(normal[0][score][rows(normal[1])], s[score][rows(patients)]) for s, patients in odd.values()]
            )
            for score in ("ours", "plain")
        }
        drawn.append((means["ours"], means["ours"] - means["plain"]))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    ours, plain = found.scores["ours"], found.scores["plain"]
    assert [ours.interval.low, ours.interval.high] == pytest.approx([low[0], high[0]], abs=0.02)
    assert [plain.below.low, plain.below.high] == pytest.approx([low[1], high[1]], abs=0.03)
    assert (ours.below.low, ours.below.high) == (0.0, 0.0)


def test_a_score_that_a_category_lacks_is_left_out_and_nothing_is_no_mean() -> None:
    normal, odd = made()
    del odd["fluid"][0]["plain"]
    assert set(mean_aurocs(normal, odd, "ours", resamples=20).scores) == {"ours"}
    with pytest.raises(AnomapError, match="E200"):
        mean_aurocs(normal, {}, "ours")
