"""The figures of the curation's benchmark: right on made-up scores; the cost model is arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import curation_volumes
from benchmarks.curation import PREVALENCE, draws, hits, main, mixed_tree, precisions, triage
from benchmarks.curation_speed import cost


def columns(separation: float) -> dict:
    rng = np.random.default_rng(0)
    category = np.array(["normal"] * 190 + ["odd"] * 40)
    scores = rng.normal(size=230) + separation * (category != "normal")
    names = ("combined_looks_first", "combined", "wd_patch", "w_distance", "cheap", "looks_ratio", "mean_image_mse")
    return {"category": category, **dict.fromkeys((*names, "train_histogram_wd", "pca_mse"), scores)}


def test_hits_are_precision_at_the_planted_count():
    planted = np.array([True, False, True, False, False])
    assert hits(np.array([5.0, 4, 3, 2, 1]), planted) == 0.5
    assert hits(np.array([5.0, 1, 4, 2, 1]), planted) == 1.0


def test_draws_hold_the_stated_share_of_planted_images():
    for rows in draws(columns(0.0))[:5]:
        assert len(set(rows)) == len(rows) == 200
        assert (columns(0.0)["category"][rows] != "normal").mean() == PREVALENCE


def test_a_perfect_score_loses_nothing_to_triage_and_a_blind_one_finds_chance():
    assert precisions(columns(20.0))["combined"]["mean"] == 1.0
    assert precisions(columns(0.0))["combined"]["mean"] == pytest.approx(PREVALENCE, abs=0.06)
    found = triage(columns(20.0), 0.8)
    assert (found["recall_at_planted_count"], found["planted_not_projected"]) == (1.0, 0.0)
    blind = columns(20.0) | {"cheap": np.random.default_rng(1).normal(size=230)}
    assert triage(blind, 0.8)["planted_not_projected"] == pytest.approx(0.8, abs=0.1)


def test_the_mixed_tree_holds_what_it_says(tmp_path):
    rng = np.random.default_rng(0)
    for folder, count in (("val_normal", 60), ("anomaly/knee", 3), ("anomaly/lateral", 3)):
        (tmp_path / folder).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(tmp_path / folder / f"{n:02d}.webp")
    for folder in ("inverted_derived", "rotated90"):
        (tmp_path / "anomaly" / folder).mkdir()
    categories = mixed_tree(tmp_path, tmp_path / "root")
    counts = {name: list(categories.values()).count(name) for name in set(categories.values())}
    assert counts == {"normal": 60, "knee": 3, "lateral": 3, "cut_off": 40, "unreadable": 10}
    for name, category in categories.items():
        assert category not in name
        if category == "cut_off":
            assert (np.asarray(Image.open(tmp_path / "root" / name))[-8:] == 128).all()


def test_the_cost_model_writes_what_follows_from_its_assumptions(tmp_path):
    measured = {"rate": {"cpu_s_an_image": 0.1, "output_bytes_an_image": 1000}}
    (tmp_path / "result.json").write_text(json.dumps(measured))
    found = cost(measured)
    large = found["repositories"]["10 million radiographs (DICOM, 2048 x 1680)"]
    assert large["output_gb"] == 10.0
    assert large["gpu_hours"]["512 px"] == pytest.approx(1e7 * 0.035 / 3600, abs=0.1)
    assert large["core_hours_64px_without_gpu"] == round(1e6 / 3600)
    assert main(["--parts", "cost", "--output", str(tmp_path / "result.json")]) == 0
    assert json.loads((tmp_path / "result.json").read_text())["cost"]["machine"]["device"] == "cpu"


def test_volumes_are_measured_in_processes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(curation_volumes, "SLICES", (1, 3))
    output = tmp_path / "result.json"
    main(["--parts", "volumes", "--output", str(output)])
    found = json.loads(output.read_text())["volumes"]["slices"]
    assert list(found) == ["1", "3"]
    assert all(run["peak_rss_mib"] >= run["peak_rss_mib_before"] > 0 for run in found.values())
    assert found["3"]["file_mib"] > 2 * found["1"]["file_mib"]
