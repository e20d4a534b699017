import json
from pathlib import Path

import pytest

from benchmarks.speed import STAGES, main


@pytest.fixture(scope="module")
def content(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    output = tmp_path_factory.mktemp("results")
    words = ["--models", toy_models, "--output", output, "--device", "cpu", "--slices", 2, "--radiographs", 1]
    words += ["--series", 2, 3]
    words += ["--repeats", 1, "--paper-steps", 2, "--sides", 32, 48, "--scipy-rows", 1]
    words += ["--networks", "64:256", "--batch", 2, "--batches", 1, 2]
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


def test_whole_series_have_seconds_by_stage_and_a_peak_of_memory(content: dict) -> None:
    assert [row["slices"] for row in content["series"]] == [2, 3]
    for row in content["series"]:
        assert {"start and read", "prepare", "project", "score", "overlays", "report"} <= set(row["stages"])
        assert row["seconds"] == pytest.approx(sum(row["stages"].values()), abs=0.2)
        assert 0.1 < row["peak_gb"] < 10


def test_scaled_figures_say_so(content: dict) -> None:
    for row in content["stages"]:
        assert (row["steps"], row["steps_timed"]) == ((1000, 2) if row["preset"] == "paper" else (30, 30))
    assert [row["scipy_rows_timed"] for row in content["scoring"]] == [1, 1]
    for row in content["scoring"]:
        assert row.pop("tensor_seconds") is None  # no graphics card asked for
        assert all(value > 0 for name, value in row.items() if name.endswith("seconds"))
    assert content["compiler_seconds"] >= 0  # 0 when an earlier test of this process has started it


def test_the_published_way_is_timed_beside_ours(content: dict) -> None:
    rows = content["projection"]
    assert [row["model"] for row in rows] == ["toy-ct", "toy-radiograph", "random, base 256"]
    for row in rows:
        assert row["steps_timed"] < 1000
        assert row["ratio"] == pytest.approx(row["paper_plain"] / row["fast"], rel=0.02)
        assert row["paper_plain"] > row["fast"]


def test_a_step_stands_beside_its_floor(content: dict) -> None:
    assert [(row["size_px"], row["batch"]) for row in content["steps"]] == [(32, 1), (32, 2)] * 2 + [(64, 1), (64, 2)]
    for row in content["steps"]:
        rates = content["rates"]
        floor = row["gflop"] / rates["matrix_gflops"] * 1e3 + row["megabytes"] / rates["copy_gbs"]
        assert row["floor_milliseconds"] == pytest.approx(floor, abs=0.02)
        assert 0 < row["share"] < 1


def test_machine_commit_and_date_stand_beside_the_figures(content: dict) -> None:
    assert {"hardware", "threads", "torch", "commit", "created", "device"} <= set(content["machine"])


def test_no_bundle_is_a_clear_failure(tmp_path: Path, capsys) -> None:
    assert main(["--models", str(tmp_path), "--device", "cpu"]) == 4
    assert capsys.readouterr().err.startswith("E300")
