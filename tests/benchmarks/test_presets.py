from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.bundle import Bundle
from anomap.projection.schedule import FAST
from anomap.scoring import SCORES
from benchmarks import presets
from benchmarks.presets import compare, kept_name, scored, table
from tests.evaluation.pictures import image_set, trunks

SHORT = replace(FAST, steps=1)


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


def test_a_stopped_run_goes_on(toy_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "AT_ONCE", 2)
    images = image_set(trunks(5))
    path = tmp_path / "kept" / f"{kept_name(toy_bundle, images, SHORT)}.npz"
    whole = scored(toy_bundle, images, SHORT, path)
    first_four = {name: values[:4] for name, values in whole.items()}
    first_four["wd_patch"][0] = 12345.0  # shows that it is taken, not scored again
    np.savez(path, **first_four)
    again = scored(toy_bundle, images, SHORT, path)
    assert again["wd_patch"][0] == 12345.0
    for name, values in whole.items():
        np.testing.assert_allclose(again[name][1:], values[1:], rtol=1e-4)


def test_kept_scores_are_of_these_images_and_settings(toy_bundle: Bundle) -> None:
    images = image_set(trunks(3))
    names = {
        kept_name(toy_bundle, images, SHORT),
        kept_name(toy_bundle, images, FAST),
        kept_name(toy_bundle, image_set(trunks(3, seed=1)), SHORT),
    }
    assert len(names) == 3
