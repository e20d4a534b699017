import json
from pathlib import Path

import pytest
import torch

from benchmarks.generator import StepTimes, main, report, step


def test_every_case_is_timed_three_ways_and_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    threads = torch.get_num_threads()
    try:
        assert main(["--cases", "32:512:1", "32:512:3", "--repeats", "1", "--output", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    content = json.loads((tmp_path / "generator-cpu.json").read_text())
    assert [(row["size_px"], row["channel_base"], row["batch"]) for row in content["steps"]] == [
        (32, 512, 1),
        (32, 512, 3),
    ]
    for row in content["steps"]:
        assert set(row["milliseconds"]) == {"plain", "scaled", "fast"}
        assert all(value > 0 for value in row["milliseconds"].values())
        assert row["image_gap"] < 1e-5
        assert row["gradient_gap"] < 1e-4
    assert content["machine"]["threads"] == 1
    assert content["allocator"]["MALLOC_MMAP_MAX_"] == "0"


def test_a_step_gives_the_gradient_of_half_the_squared_norm() -> None:
    image, gradient = step(lambda w: 3 * w, torch.tensor([[2.0]]))
    assert (image.item(), gradient.item()) == (6.0, 18.0)


def test_the_report_has_a_line_for_every_case() -> None:
    row = StepTimes(
        size_px=64,
        channel_base=4096,
        batch=8,
        milliseconds={"plain": 300.0, "scaled": 150.0, "fast": 100.0},
        scaled_ratio=2.0,
        fast_ratio=3.0,
        image_gap=0.0,
        gradient_gap=0.0,
    )
    assert report([row, row]).splitlines()[1].split() == ["64", "4096", "8", "300.0", "150.0", "100.0", "2.00", "3.00"]
