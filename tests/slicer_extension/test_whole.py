"""From Apply to the table: the module's own logic, runner and installer, a real process, a real scene, a toy model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.slicer_extension import standins
from tests.slicer_extension.fake import shown
from tests.slicer_extension.scene import Application, SliceView


@pytest.fixture
def whole(application: Application, tmp_path: Path, toy_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The panel with nothing replaced but Slicer's widgets; the analysis runs in the Python of the tests."""
    monkeypatch.setenv("ANOMAP_MODELS", str(toy_models))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    view = SliceView(application)
    with standins.application(tmp_path, application.scene) as slicer_like:
        import qt

        qt.QSettings().setValue("Anomap/Python", sys.executable)
        widget, window = standins.panel(slicer_like.module)
        window.show()
        widget.enter()
        yield SimpleNamespace(widget=widget, ui=widget.ui, logic=widget.logic, view=view, **vars(slicer_like))
        widget.cleanup()
        window.deleteLater()


def test_a_phantom_is_analysed_shown_cancelled_and_removed(whole: SimpleNamespace):
    ui, logic, State = whole.ui, whole.logic, whole.module.State
    volume = whole.module.phantom()
    whole.widget._parameters.model = "toy-ct"

    ui.applyButton.click()
    assert logic.state is State.RUNNING, ui.statusLabel.text
    standins.wait(whole.app, lambda: logic.state is not State.RUNNING, 120)
    assert logic.state is State.DONE, logic.message
    assert shown(ui.resultSection)
    assert ui.gateLabel.text.startswith("UNCALIBRATED · p = ")
    assert "toy-ct 0.0.1" in ui.detailsLabel.text
    assert "toy-ct 0.0.1: " in ui.logText.plainText
    rows = logic.outcome.rows
    assert ui.resultsTable.model().rowCount() == len(rows) >= 8
    assert whole.view.composite.GetForegroundVolumeID() == logic.outcome.overlayNode.GetID()
    assert whole.view.composite.GetForegroundOpacity() == pytest.approx(0.6)

    ui.opacitySlider.value = 0.2
    assert whole.view.composite.GetForegroundOpacity() == pytest.approx(0.2)
    ui.thresholdSlider.value = ui.thresholdSlider.maximum / 2
    lower = logic.outcome.overlayNode.GetDisplayNode().GetLowerThreshold()
    assert lower == pytest.approx(ui.thresholdSlider.value)
    ui.reconstructionCheckBox.click()
    assert whole.view.composite.GetBackgroundVolumeID() == logic.outcome.reconstructionNode.GetID()
    last = len(rows) - 1
    ui.resultsTable.selectRow(last)
    assert whole.view.node.GetSliceToRAS().GetElement(2, 3) == pytest.approx(rows[last].ras[2])
    assert not ui.exportButton.enabled, "the phantom is no DICOM"

    table = logic.outcome.tableNode
    ui.applyButton.click()
    ui.applyButton.click()
    standins.wait(whole.app, lambda: logic.state is State.CANCELLED)
    assert ui.applyButton.text == "Apply"
    assert shown(ui.resultSection), "the earlier result stays"

    ui.removeButton.click()
    assert not whole.scene.IsNodePresent(table)
    assert whole.scene.IsNodePresent(volume)


def test_reload_and_test_passes(whole: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    """The module's own test class."""
    test = whole.module.AnomapTest()
    said: list[str] = []
    monkeypatch.setattr(type(test), "delayDisplay", lambda self, text: said.append(text), raising=False)
    test.runTest()
    assert said == [], "nothing was missing, so it was analysed"


def test_a_python_without_anomap_is_said_before_anything_starts(whole: SimpleNamespace, tmp_path: Path):
    whole.module.phantom()
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    whole.files.answer = str(bare)
    whole.ui.pythonButton.click()
    whole.ui.applyButton.click()
    assert whole.ui.statusLabel.text == "the chosen Python lacks torch and anomap: install it there"
    assert whole.logic.state is whole.module.State.IDLE
