"""Fixtures shared by all tests: a toy model that loads in milliseconds, and no network but loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from anomap.types import PreprocessSpec

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


# The same examples every time: a commit is green or red, never by chance. HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_configure() -> None:
    """One thread: the toy networks are too small to share, and results don't depend on the machine."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs the real images or a GPU where there is none (make test says how many)."""
    for item in items:
        if "data" in item.keywords and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="../shared/data is not here"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be fetched at run time: a connection to anything but this machine fails the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        assert str(host) in {"127.0.0.1", "::1", "localhost"}, f"a test reached for {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images (tests that use it are marked ``data``)."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with one bundle for CT and one for radiographs."""
    from tests.toy import write_toy_bundle

    models = tmp_path_factory.mktemp("models")
    ct = PreprocessSpec(kind="ct", size=32, fit="body", mask_outside_body=True)
    write_toy_bundle(models / "toy-ct", ct, ("CT",), "")
    radiograph = PreprocessSpec(kind="radiograph", size=32, fit="squeeze")
    write_toy_bundle(models / "toy-radiograph", radiograph, ("CR", "DX"), "CHEST")
    return models


@pytest.fixture(scope="session")
def toy_bundle(toy_models: Path):
    """The toy radiograph bundle, loaded."""
    from anomap.bundle import load_bundle

    return load_bundle(toy_models / "toy-radiograph")
