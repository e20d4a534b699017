"""A scene of real MRML, and a panel on stand-ins for Slicer's widgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6 import QtCore

from tests.slicer_extension import standins
from tests.slicer_extension.fake import FakeLogic
from tests.slicer_extension.scene import Application


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def slicer_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The module in its stand-in application."""
    monkeypatch.setenv("ANOMAP_MODELS", str(tmp_path / "models"))
    with standins.application(tmp_path) as application:
        yield application


@pytest.fixture
def panel(slicer_like: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The panel, opened, with a fake logic."""
    logic = FakeLogic(slicer_like.module)
    slicer_like.module.AnomapLogic = lambda: logic
    widget, window = standins.panel(slicer_like.module)
    window.show()
    widget.enter()
    yield SimpleNamespace(widget=widget, ui=widget.ui, logic=logic, window=window, **vars(slicer_like))
    widget.cleanup()
    window.deleteLater()
    # now, while everything is there, and not when the garbage collector comes by
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
