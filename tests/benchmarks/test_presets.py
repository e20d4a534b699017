import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.scoring import SCORES
from benchmarks.presets import compare, table
from tests.evaluation.pictures import image_set, trunks


def drawn(rng: np.random.Generator, shift: float, count: int) -> dict[str, np.ndarray]:
    return {name: rng.normal(shift, 1.0, count) for name in (*SCORES, "combined")}


def test_both_presets_are_compared_category_by_category() -> None:
    rng = np.random.default_rng(0)
    sets = {name: image_set(trunks(6, prefix=name), name, images_each=2) for name in ("normal", "knee", "needle")}
    scores = {
        preset: {name: drawn(rng, shift, 6) for name, shift in (("normal", 0.0), ("knee", knee), ("needle", 1.0))}
        for preset, knee in (("fast", 3.0), ("paper", 0.0))
    }
    result = compare(sets, scores)
    for name, found in result.items():
        for preset in ("fast", "paper"):
            for category in ("knee", "needle"):
                values = np.concatenate([scores[preset]["normal"][name], scores[preset][category][name]])
                expected = roc_auc_score(np.repeat([0, 1], 6), values)
                assert found["categories"][category][preset] == pytest.approx(expected, abs=1e-4)
        gaps = [row["gap"] for row in found["categories"].values()]
        assert found["mean_gap"] == pytest.approx(np.mean(gaps), abs=1e-3)
        assert found["worst_gap"] == min(gaps)
        low, high = found["mean_gap_95"]
        assert low <= found["mean_gap"] <= high
        assert low < high
    assert result["wd_patch"]["categories"]["knee"]["gap"] > 0
    assert len(table(result, "wd_patch").splitlines()) == 4
