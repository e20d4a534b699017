"""A repository, and what one uninterrupted curation makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomap.curation.run import curate
from anomap.curation.settings import CurateConfig
from tests.curation.trees import write_tree
from tests.curation.volumes import write_volumes

KEY = bytes(range(32))
CONFIG = CurateConfig(shard_size=4, steps=2, device="cpu")


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("repository") / "root")


@pytest.fixture(scope="session")
def whole(tree, toy_models, tmp_path_factory) -> Path:
    """The folder of a curation that nothing disturbed."""
    return _curated(tree, toy_models, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def volumes(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes") / "root")


@pytest.fixture(scope="session")
def curated_volumes(volumes, toy_models, tmp_path_factory) -> Path:
    """The folder of a curation of volumes that nothing disturbed."""
    return _curated(volumes, toy_models, tmp_path_factory.mktemp("curated"))


def _curated(root: Path, models: Path, folder: Path) -> Path:
    curate(root, folder / "out", models, CONFIG, lambda _: None, patient_key=KEY)
    return folder / "out"
