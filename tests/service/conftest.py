"""A state folder with a job table, for tests of one module of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.parts import State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """An empty one."""
    made = State(tmp_path / "state")
    yield made
    made.database.close()
