"""A scene of real MRML, a runner within this process, and a trunk with something in it."""

from __future__ import annotations

import pytest

from tests.slicer_extension.scene import Application


@pytest.fixture
def application() -> Application:
    return Application()
