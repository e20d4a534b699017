"""Out of memory on a device: the CPU, and the result that it would have given anyway."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from anomap import pipeline
from anomap.bundle import load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.pipeline import analyze_series
from anomap.volume import fit
from anomap.volume.fit import analyze_within_memory

CONFIG = AnalyzeConfig(steps=2, batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_ct_phantom(folder, slices=5, rows=40, columns=44)
    return read_study(folder).series[0]


@pytest.fixture(scope="module")
def bundle(toy_models):
    return load_bundle(toy_models / "toy-ct", "cpu")


class Memory:
    """`analyze_series` on devices of which some have too little memory; keeps what was tried."""

    def __init__(self, monkeypatch, error, *full: str) -> None:
        self.error, self.full = error, full
        self.tried: list[str] = []
        self.said: list[str] = []
        monkeypatch.setattr(fit, "analyze_series", self.analyze)
        monkeypatch.setattr(fit, "_forget", lambda device: None)

    def analyze(self, series, device, config, progress, choice):
        self.tried.append(device)
        if device in self.full:
            raise self.error()
        return "analysed"

    def run(self, series, device):
        return analyze_within_memory(series, str, device, CONFIG, print, "why", self.said.append)


def device_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def own_error():
    return AnomapError("E400", "out of memory with a single image")


def cpu_memory():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**46)  # what torch says where there is no device's own error
    return refused.value


@pytest.mark.parametrize("error", [device_memory, own_error, MemoryError, cpu_memory])
def test_out_of_memory_it_goes_to_the_cpu(series, monkeypatch, error) -> None:
    memory = Memory(monkeypatch, error, "cuda:1")
    assert memory.run(series, "cuda:1") == "analysed"
    assert memory.tried == ["cuda:1", "cpu"]
    (said,) = memory.said
    assert "memory" in said
    assert "again on the CPU" in said


def test_where_there_is_memory_nothing_is_said(series, monkeypatch) -> None:
    memory = Memory(monkeypatch, own_error)
    assert memory.run(series, "cuda") == "analysed"
    assert memory.tried == ["cuda"]
    assert memory.said == []


@pytest.mark.parametrize(("device", "tried"), [("cuda", ["cuda", "cpu"]), ("cpu", ["cpu"])])
def test_the_cpu_is_the_end(series, monkeypatch, device, tried) -> None:
    memory = Memory(monkeypatch, own_error, "cuda", "cpu")
    with pytest.raises(AnomapError) as refused:
        memory.run(series, device)
    assert refused.value.code == "E400"
    assert memory.tried == tried


@pytest.mark.parametrize(
    "error", [AnomapError("E114", "no body"), AnomapError("E402", "time"), ValueError("x"), RuntimeError("y"),
              KeyboardInterrupt()], ids=repr,
)  # fmt: skip
def test_other_errors_pass_at_once_and_as_they_are(series, monkeypatch, error) -> None:
    memory = Memory(monkeypatch, lambda: error, "cuda")
    with pytest.raises(type(error)) as raised:
        memory.run(series, "cuda")
    assert raised.value is error
    assert len(memory.tried) == 1
    assert memory.said == []


@pytest.mark.parametrize("error", [device_memory, own_error])
def test_what_lay_in_the_memory_is_let_go_before_the_next_attempt(series, monkeypatch, error) -> None:
    """A traceback that is kept keeps all tensors of its frames."""
    kept: list[weakref.ref] = []

    def analyze(series, device, config, progress, choice):
        assert not [ref for ref in kept if ref() is not None], "the former attempt still holds its tensors"
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        if device != "cpu":
            raise error() from ValueError("a cause with frames of its own")
        return "analysed"

    monkeypatch.setattr(fit, "analyze_series", analyze)
    assert analyze_within_memory(series, str, "mps", CONFIG, print, "", print) == "analysed"
    assert len(kept) == 2


def test_the_cpus_result_is_that_of_a_cpu(series, bundle, monkeypatch) -> None:
    """Out of memory in the real pipeline."""
    whole = analyze_series(series, bundle, CONFIG)
    project, tried = pipeline.project, []

    def narrow(prepared, bundle, config, device, progress):
        tried.append(device)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return project(prepared, bundle, config, device, progress)

    monkeypatch.setattr(pipeline, "project", narrow)
    stages: list[tuple[str, int, int]] = []
    said: list[str] = []
    again = analyze_within_memory(
        series, lambda device: bundle, "cuda", CONFIG, lambda *stage: stages.append(stage), "why", said.append
    )
    assert said == ["the memory did not suffice; again on the CPU, which takes longer"]
    assert again.choice == "why"
    assert stages.count(("project", 0, 1)) == 2
    for name, scores in whole.score_map.per_image.items():
        np.testing.assert_array_equal(again.score_map.per_image[name], scores, err_msg=name)
    np.testing.assert_array_equal(again.result.labels, whole.result.labels)
    assert again.result.provenance["config_sha256"] == whole.result.provenance["config_sha256"]
