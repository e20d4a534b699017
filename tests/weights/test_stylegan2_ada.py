"""Whole files in the published format: what they hold, and files that are something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomap.errors import AnomapError
from anomap.weights.stylegan2_ada import MAX_DEPTH, read_networks
from tests.weights.published import Persistent, Shape, dump, snapshot


def write(path: Path, content, protocol: int = 4) -> Path:
    path.write_bytes(dump(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_tensor_comes_back_under_its_published_name(protocol, tmp_path: Path):
    made = snapshot(Shape())
    read = read_networks(write(tmp_path / "a.pkl", made, protocol))
    assert set(read) == {"G_ema", "D"}
    for name in read:
        wanted = made[name].flat()
        assert set(read[name].tensors) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(read[name].tensors[key], value.astype(np.float32), err_msg=key)
    assert read["G_ema"].modules["synthesis.b8"]["architecture"] == "skip"


def test_a_file_with_the_generator_alone_is_read(tmp_path: Path):
    made = snapshot(Shape())
    assert set(read_networks(write(tmp_path / "a.pkl", {"G_ema": made["G_ema"], "D": None}))) == {"G_ema"}


@pytest.mark.parametrize("content", [[1, 2], {"G_ema": 1}, {"G": 1}, "text"])
def test_a_file_without_generator_is_another_format(content, tmp_path: Path):
    with pytest.raises(AnomapError, match="E305 the file holds no generator"):
        read_networks(write(tmp_path / "a.pkl", content))


def test_no_file_or_an_empty_one_is_no_input(tmp_path: Path):
    (tmp_path / "empty.pkl").touch()
    for path in (tmp_path / "none.pkl", tmp_path / "empty.pkl", tmp_path):
        with pytest.raises(AnomapError, match="E100"):
            read_networks(path)


def module(**parts) -> Persistent:
    made = Persistent("Generator")
    made.state.update(parts)
    return made


def deep(levels: int) -> Persistent:
    made = module()
    for _ in range(levels):
        made = module(_modules={"x": made})
    return made


def wide() -> Persistent:
    """Shares its children: 100 modules in the file, 100^8 by their paths."""
    made = module()
    for _ in range(MAX_DEPTH - 1):
        made = module(_modules={f"x{i}": made for i in range(100)})
    return made


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (deep(MAX_DEPTH + 1), "nested too deep"),
        (wide(), "too many"),
        (module(_modules={"x": 1}), "'x' is no module"),
        (module(_parameters={"x": "text"}), "'x' is no tensor"),
        (module(_parameters={1: torch.zeros(1)}), "unusual names"),
        (module(_parameters=[1]), "unusual _parameters"),
        (module(_buffers={f"x{i}": None for i in range(500)}), "unusual _buffers"),
        (module(_buffers={"x": torch.tensor([1.0, float("nan")])}), "'x' has values that are not finite"),
    ],
)
def test_unusual_module_trees_are_refused(made, reason, tmp_path: Path):
    with pytest.raises(AnomapError, match=f"E304 .*{reason}"):
        read_networks(write(tmp_path / "a.pkl", {"G_ema": made}))


def test_a_shared_tensor_can_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("anomap.weights.stylegan2_ada.MAX_TENSOR_BYTES", 4000)
    big = torch.zeros(300)
    assert read_networks(write(tmp_path / "a.pkl", {"G_ema": module(_buffers={"a": big, "b": big})}))
    with pytest.raises(AnomapError, match="tensors have more than"):
        read_networks(write(tmp_path / "a.pkl", {"G_ema": module(_buffers=dict.fromkeys("abcd", big))}))


def test_a_file_of_half_precision_is_read_in_float32(tmp_path: Path):
    made = snapshot(replace(Shape(), seed=3))
    made["G_ema"].state["_modules"]["mapping"].buffer(w_avg=torch.ones(16, dtype=torch.float16))
    assert read_networks(write(tmp_path / "a.pkl", made))["G_ema"].tensors["mapping.w_avg"].dtype == np.float32
