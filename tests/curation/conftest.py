"""A repository, and what one uninterrupted curation makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomap.curation.run import curate
from anomap.curation.settings import CurateConfig
from tests.curation.trees import write_tree

KEY = bytes(range(32))
CONFIG = CurateConfig(shard_size=4, steps=2, device="cpu")


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("repository") / "root")


@pytest.fixture(scope="session")
def whole(tree, toy_models, tmp_path_factory) -> Path:
    """The folder of a curation that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    curate(tree, out, toy_models, CONFIG, lambda _: None, patient_key=KEY)
    return out
