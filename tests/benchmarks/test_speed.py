import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from benchmarks.speed import STAGES, _picture, _scipy_rows, main, report, time_scoring


@pytest.fixture(scope="module")
def content(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    output = tmp_path_factory.mktemp("results")
    words = ["--models", toy_models, "--output", output, "--device", "cpu", "--slices", 2, "--radiographs", 1]
    words += ["--repeats", 1, "--paper-steps", 2, "--sides", 32, 48, "--scipy-rows", 1]
    assert main([str(word) for word in words]) == 0
    return json.loads((output / "cpu.json").read_text())


def test_every_stage_of_every_bundle_and_preset_is_timed(content: dict) -> None:
    found = {(row["bundle"], row["preset"]): row for row in content["stages"]}
    assert set(found) == {(b, p) for b in ("toy-ct", "toy-radiograph") for p in ("fast", "paper")}
    for row in found.values():
        assert set(row["seconds"]) == set(STAGES)
        assert all(value > 0 for value in row["seconds"].values())
        assert row["total"] == pytest.approx(sum(row["seconds"].values()), abs=1e-3)
    assert (found["toy-ct", "fast"]["images"], found["toy-radiograph", "fast"]["images"]) == (2, 1)


def test_scaled_figures_say_so(content: dict) -> None:
    for row in content["stages"]:
        assert (row["steps"], row["steps_timed"]) == ((1000, 2) if row["preset"] == "paper" else (30, 30))
    assert [row["scipy_rows_timed"] for row in content["scoring"]] == [1, 1]
    for row in content["scoring"]:
        assert row.pop("tensor_seconds") is None  # no graphics card asked for
        assert all(value > 0 for name, value in row.items() if name.endswith("seconds"))
    assert content["compiler_seconds"] >= 0  # 0 when an earlier test of this process has started it


def test_machine_commit_and_date_stand_beside_the_figures(content: dict) -> None:
    assert {"hardware", "threads", "torch", "commit", "created", "device"} <= set(content["machine"])


def test_all_ways_of_scoring_agree() -> None:
    found = time_scoring(48, rows=4, repeats=1)
    assert found.largest_difference <= 1e-9
    assert found.windows == 46**2
    assert min(found.ratio, found.numpy_ratio) > 1
    assert found.tensor_seconds is None
    assert "graphics card" not in report([], [found])
    assert f"{found.ratio:.0f}" in report([], [found])


def test_the_picture_holds_all_grey_levels() -> None:
    for side in (16, 40, 512):
        assert len(np.unique(_picture(side, 1))) == 256


def test_the_scipy_loop_scores_the_rows_it_was_asked_for() -> None:
    image, other = _picture(40, 1), _picture(40, 2)
    rows = _scipy_rows(image, other, 5, np.array([7, 30]))
    assert rows.shape == (2, 36)
    assert rows[1, 9] == wasserstein_distance(image[30:35, 9:14].ravel(), other[30:35, 9:14].ravel())


def test_no_bundle_is_a_clear_failure(tmp_path: Path, capsys) -> None:
    assert main(["--models", str(tmp_path), "--device", "cpu"]) == 4
    assert capsys.readouterr().err.startswith("E300")
