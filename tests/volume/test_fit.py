"""Out of memory: smaller batches first, the CPU last, and the same result in the end."""

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
    """`analyze_series` with room for so many images on each device; keeps what was tried."""

    def __init__(self, monkeypatch, error, **room: int) -> None:
        self.error, self.room = error, room
        self.tried: list[tuple[str, int]] = []
        self.said: list[str] = []
        self.loaded: list[str] = []
        monkeypatch.setattr(fit, "analyze_series", self.analyze)
        monkeypatch.setattr(fit, "_forget", lambda device: None)

    def analyze(self, series, device, config, progress, choice):
        self.tried.append((device, config.batch_size))
        if config.batch_size > self.room[device]:
            raise self.error()
        return "analysed"

    def load(self, device):
        self.loaded.append(device)
        return device

    def run(self, series, device, config=CONFIG):
        return analyze_within_memory(series, self.load, device, config, print, "why", self.said.append)


def device_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def own_error():
    return AnomapError("E400", "out of memory with a batch of 5 images")


def cpu_memory():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**46)  # what torch says where there is no device's own error
    return refused.value


@pytest.mark.parametrize("error", [device_memory, own_error, MemoryError, cpu_memory])
def test_the_batch_is_halved_until_it_fits(series, monkeypatch, error) -> None:
    memory = Memory(monkeypatch, error, cuda=1, cpu=0)
    assert memory.run(series, "cuda") == "analysed"
    assert memory.tried == [("cuda", 5), ("cuda", 2), ("cuda", 1)]  # five images; a batch of 16 holds no more
    assert len(memory.said) == 2
    assert "again with 2 images at a time" in memory.said[0]
    assert "again with 1 image at a time" in memory.said[1]
    assert "memory" in memory.said[0]


def test_then_the_cpu_gets_all_of_it(series, monkeypatch) -> None:
    memory = Memory(monkeypatch, device_memory, **{"cuda:1": 0}, cpu=5)
    assert memory.run(series, "cuda:1") == "analysed"
    assert memory.tried == [("cuda:1", 5), ("cuda:1", 2), ("cuda:1", 1), ("cpu", 5)]
    assert memory.loaded[-1] == "cpu"
    assert "again on the CPU" in memory.said[-1]


def test_the_end_is_one_image_on_the_cpu(series, monkeypatch) -> None:
    memory = Memory(monkeypatch, own_error, cuda=0, cpu=0)
    with pytest.raises(AnomapError) as refused:
        memory.run(series, "cuda")
    assert refused.value.code == "E400"
    assert memory.tried[-3:] == [("cpu", 5), ("cpu", 2), ("cpu", 1)]
    assert len(memory.tried) == 6


def test_the_presets_batch_is_where_it_begins(series, monkeypatch) -> None:
    memory = Memory(monkeypatch, own_error, cpu=99)
    memory.run(series, "cpu", AnalyzeConfig(preset="fast", device="cpu"))
    memory.run(series, "cpu", AnalyzeConfig(batch_size=3, device="cpu"))
    assert memory.tried == [("cpu", 5), ("cpu", 3)]
    assert memory.said == []


@pytest.mark.parametrize(
    "error", [AnomapError("E114", "no body"), AnomapError("E402", "time"), ValueError("x"), RuntimeError("y"),
              KeyboardInterrupt()], ids=repr,
)  # fmt: skip
def test_other_errors_pass_at_once_and_as_they_are(series, monkeypatch, error) -> None:
    memory = Memory(monkeypatch, lambda: error, cuda=0)
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
        if config.batch_size > 1:
            raise error() from ValueError("a cause with frames of its own")
        return "analysed"

    monkeypatch.setattr(fit, "analyze_series", analyze)
    assert analyze_within_memory(series, str, "cpu", CONFIG, print, "", print) == "analysed"
    assert len(kept) == 3


def test_a_halved_batch_gives_the_result_of_the_whole_one(series, bundle, monkeypatch) -> None:
    """Out of memory in the real pipeline, for more than two images together."""
    whole = analyze_series(series, bundle, CONFIG)
    project, tried = pipeline.project, []

    def narrow(prepared, bundle, config, device, progress):
        tried.append(config.batch_size)
        if config.batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return project(prepared, bundle, config, device, progress)

    monkeypatch.setattr(pipeline, "project", narrow)
    stages: list[tuple[str, int, int]] = []
    said: list[str] = []
    halved = analyze_within_memory(
        series, lambda device: bundle, "cpu", CONFIG, lambda *stage: stages.append(stage), "why", said.append
    )
    assert tried == [5, 2]
    assert said == ["the memory did not suffice; again with 2 images at a time"]
    assert halved.choice == "why"
    assert stages.count(("project", 0, 1)) == 2
    for name, scores in whole.score_map.per_image.items():
        np.testing.assert_allclose(halved.score_map.per_image[name], scores, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(halved.reconstruction.images, whole.reconstruction.images, atol=1e-4)
    np.testing.assert_array_equal(halved.reconstruction.seeds, whole.reconstruction.seeds)
    np.testing.assert_array_equal(halved.result.labels, whole.result.labels)
    assert halved.result.provenance["config_sha256"] == whole.result.provenance["config_sha256"]
