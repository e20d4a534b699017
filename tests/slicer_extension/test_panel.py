"""The panel, driven with a logic that does as the test says: what is clicked arrives, what happens is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.slicer_extension import standins

import slicer  # isort: skip - after standins, which chooses Qt's platform
from PySide6 import QtCore, QtGui, QtWidgets  # isort: skip

PICTURE = Path(__file__).parents[2] / "slicer_extension" / "Screenshots" / "panel.png"
WIDTH = 430  # of Slicer's module panel, pixels


class FakeInstaller:
    refusal = ""

    def chosen(self) -> str:
        return ""

    def ensure(self) -> None:
        if self.refusal:
            raise RuntimeError(self.refusal)


class FakeLogic:
    """Has the interface of AnomapLib.logic.AnomapLogic; `said` is what `update` finds next."""

    def __init__(self, module: Any) -> None:
        self.module, self.State = module, module.State
        self.installer = FakeInstaller()
        self.state, self.outcome = self.State.IDLE, None
        self.message, self.fraction, self.log = "", 0.0, []
        self.calls: list[tuple[Any, ...]] = []
        self.said: list[dict[str, Any]] = []

    def getParameterNode(self) -> Any:
        base = standins.ModuleLogic()
        base.moduleName = "Anomap"
        return self.module.AnomapParameterNode(base.getParameterNode())

    def reasonAgainst(self, volume: Any) -> str:
        return "The volume holds no voxels." if volume.GetName() == "empty" else ""

    def start(self, volume: Any, settings: Any) -> None:
        if volume.GetName() == "refused":
            raise ValueError("No axial slice view is there to say which slices are meant.")
        self.calls.append(("start", volume.GetName(), settings))
        self.state, self.message = self.State.RUNNING, "starting"

    def update(self) -> bool:
        if not self.said:
            return False
        for name, value in self.said.pop(0).items():
            setattr(self, name, value)
        return True

    def cancel(self) -> None:
        self.calls.append(("cancel",))
        if self.state is self.State.RUNNING:
            self.state, self.message = self.State.CANCELLING, "cancelling"

    def exportDicom(self, outcome: Any, importFolder: Any) -> int:
        self.calls.append(("exportDicom", len(outcome.dicomFiles)))
        return len(outcome.dicomFiles)

    def __getattr__(self, name: str) -> Any:
        known = {"show", "setOpacity", "setThreshold", "showReconstruction", "jumpTo", "remove", "close"}
        if name not in known:
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *(a for a in arguments if a is not self.outcome)))

    def last(self, name: str) -> tuple[Any, ...]:
        return [call for call in self.calls if call[0] == name][-1][1:]


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


def add_volume(scene: Any, name: str = "chest") -> Any:
    return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def apply(panel: SimpleNamespace) -> None:
    panel.ui.applyButton.click()


def say(panel: SimpleNamespace, **what: Any) -> None:
    """The analysis says something, and the timer of the panel comes by."""
    panel.logic.said.append(what)
    standins.wait(panel.app, lambda: not panel.logic.said)


def make_outcome(panel: SimpleNamespace, **changed: Any) -> Any:
    table = panel.scene.AddNewNodeByClass("vtkMRMLTableNode", "scores")
    rows = [
        ("region", 1, 31.2, "0.012", "3.1 ml"),
        ("region", 2, 24.7, "0.034", "0.8 ml"),
        ("slice", 1, 18.4, "0.2", ""),
    ]
    for title in ("kind", "number", "score", "p", "size", "R [mm]", "A [mm]", "S [mm]"):
        table.AddColumn().SetName(title)
    for line, row in enumerate(rows):
        table.AddEmptyRow()
        for column, value in enumerate((*row, 0.0, 0.0, 5.0 * line)):
            table.SetCellText(line, column, str(value))
    from AnomapLib.logic import Outcome, Row

    content = {
        "tableNode": table,
        "verdict": "UNCALIBRATED",
        "pValue": 0.012,
        "cohort": "631 axial CT slices of 28 adults of public collections",
        "cohortSize": 631,
        "reasons": ["No site calibration is there, so no verdict is given."],
        "warnings": ["The volume is tilted by 8 degrees."],
        "model": "ct-64 0.1.0",
        "unit": "HU",
        "threshold": 22.5,
        "maximum": 64.0,
        "rows": [
            Row(kind, number, (0.0, 0.0, 5.0 * line), score, float(p), size)
            for line, (kind, number, score, p, size) in enumerate(rows)
        ],
        "dicomFiles": ["sr.dcm", "seg.dcm", "pm.dcm"],
    }
    return Outcome(add_volume(panel.scene, "analysed"), **content | changed)


def finish(panel: SimpleNamespace, **changed: Any) -> Any:
    """Apply, and the analysis ends with an outcome."""
    add_volume(panel.scene)
    outcome = make_outcome(panel, **changed)
    apply(panel)
    say(panel, state=panel.logic.State.DONE, message="done", fraction=1.0, outcome=outcome)
    return outcome


def shown(widget: Any) -> bool:
    return widget.isVisibleTo(widget.window())


def test_apply_waits_for_a_volume_that_can_be_analysed(panel: SimpleNamespace):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "Choose a volume."
    empty = add_volume(panel.scene, "empty")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == panel.ui.applyButton.toolTip == "The volume holds no voxels."
    panel.ui.inputSelector.setCurrentNode(add_volume(panel.scene))
    assert panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == ""


def test_the_first_volume_of_the_scene_is_chosen(slicer_like: SimpleNamespace):
    add_volume(slicer_like.scene, "already loaded")
    slicer_like.module.AnomapLogic = lambda: FakeLogic(slicer_like.module)
    widget, _ = standins.panel(slicer_like.module)
    assert widget.ui.inputSelector.currentNode().GetName() == "already loaded"
    assert widget.ui.applyButton.enabled
    widget.cleanup()


def test_apply_starts_what_is_chosen_and_shows_how_far_it_is(panel: SimpleNamespace):
    add_volume(panel.scene)
    panel.ui.presetSelector.setCurrentIndex(1)
    panel.ui.deviceSelector.setCurrentIndex(1)
    panel.ui.onlyShownCheckBox.click()
    assert not shown(panel.ui.progressBar)
    apply(panel)
    name, settings = panel.logic.last("start")
    assert name == "chest"
    assert (settings.model, settings.preset, settings.device, settings.onlyShown) == ("auto", "paper", "cpu", True)
    assert panel.ui.applyButton.text == "Cancel"
    assert not panel.ui.inputsSection.enabled
    say(panel, message="project 40 %", fraction=0.4, log=["ct-64 0.1.0: CT of the chest", "device: cpu"])
    assert panel.ui.statusLabel.text == "project 40 %"
    assert panel.ui.progressBar.value == 40
    assert shown(panel.ui.progressBar)
    assert panel.ui.logText.plainText == "ct-64 0.1.0: CT of the chest\ndevice: cpu"
    say(panel, state=panel.logic.State.DONE, message="done", outcome=make_outcome(panel))
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.inputsSection.enabled
    assert not shown(panel.ui.progressBar)
    assert not panel.widget._timer.active, "an idle panel must not poll"


def test_the_button_cancels_and_waits_for_the_end(panel: SimpleNamespace):
    add_volume(panel.scene)
    apply(panel)
    apply(panel)
    assert panel.logic.last("cancel") == ()
    assert panel.ui.applyButton.text == "Cancelling..."
    assert not panel.ui.applyButton.enabled
    say(panel, state=panel.logic.State.CANCELLED, message="cancelled")
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "cancelled"
    assert not shown(panel.ui.resultSection)
    assert len([call for call in panel.logic.calls if call[0] == "start"]) == 1


def test_a_failure_is_said_in_the_panel(panel: SimpleNamespace):
    add_volume(panel.scene)
    apply(panel)
    say(panel, state=panel.logic.State.FAILED, message="E113 not axial. Load an axial series.")
    assert panel.ui.statusLabel.text == "E113 not axial. Load an axial series."
    assert panel.ui.applyButton.text == "Apply"
    assert not shown(panel.ui.resultSection)


def test_what_prevents_a_start_is_said_in_the_panel(panel: SimpleNamespace):
    add_volume(panel.scene, "refused")
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("No axial slice view")
    panel.logic.installer.refusal = "PyTorch was not installed: declined"
    apply(panel)
    assert panel.ui.statusLabel.text == "PyTorch was not installed: declined"
    assert not [call for call in panel.logic.calls if call[0] == "start"]


def test_the_outcome_is_shown(panel: SimpleNamespace):
    assert not shown(panel.ui.resultSection)
    finish(panel)
    assert shown(panel.ui.resultSection)
    assert panel.ui.gateLabel.text.startswith("UNCALIBRATED · p = 0.012 · against 631 images")
    for text in ("No site calibration", "tilted by 8 degrees", "ct-64 0.1.0", "HU"):
        assert text in panel.ui.detailsLabel.text
    assert panel.ui.resultsTable.model().rowCount() == 3
    assert panel.logic.last("show") == (0.6,)
    assert panel.ui.thresholdSlider.value == 22.5
    assert panel.ui.thresholdSlider.maximum == 64.0
    assert panel.logic.last("setThreshold") == (22.5,)


@pytest.mark.parametrize(
    ("verdict", "color"),
    [("PASS", "#2e7d32"), ("REVIEW", "#a65f00"), ("REJECT", "#c62828"), ("UNCALIBRATED", "#5f6368")],
)
def test_only_a_verdict_has_a_colour(panel: SimpleNamespace, verdict: str, color: str):
    finish(panel, verdict=verdict)
    assert color in panel.ui.gateLabel.styleSheet


def test_sliders_and_check_box_change_the_views(panel: SimpleNamespace):
    finish(panel)
    panel.ui.opacitySlider.value = 0.25
    assert panel.logic.last("setOpacity") == (0.25,)
    panel.ui.thresholdSlider.value = 40.0
    assert panel.logic.last("setThreshold") == (40.0,)
    panel.ui.reconstructionCheckBox.click()
    assert panel.logic.last("showReconstruction") == (True,)
    panel.ui.reconstructionCheckBox.click()
    assert panel.logic.last("showReconstruction") == (False,)


def test_the_next_outcome_brings_its_own_range(panel: SimpleNamespace):
    finish(panel)
    panel.ui.reconstructionCheckBox.click()
    calls = len(panel.logic.calls)
    second = finish(panel, threshold=0.02, maximum=0.5, unit="grey level")
    assert (panel.ui.thresholdSlider.value, panel.ui.thresholdSlider.maximum) == (0.02, 0.5)
    assert panel.ui.thresholdSlider.suffix == ""
    assert not panel.ui.reconstructionCheckBox.checked
    assert second.threshold == 0.02
    thresholds = [call for call in panel.logic.calls[calls:] if call[0] == "setThreshold"]
    assert thresholds == [("setThreshold", 0.02)], "setting the range must not move anything"


def test_a_row_jumps_also_when_the_table_is_sorted(panel: SimpleNamespace):
    outcome = finish(panel)
    table = panel.ui.resultsTable
    table.selectRow(1)
    assert panel.logic.last("jumpTo") == (outcome.rows[1],)
    table.sortByColumn(2, QtCore.Qt.SortOrder.AscendingOrder)
    table.clearSelection()
    table.selectRow(0)
    assert panel.logic.last("jumpTo") == (outcome.rows[2],)


def test_export_needs_a_volume_from_dicom(panel: SimpleNamespace):
    finish(panel, dicomFiles=[])
    assert not panel.ui.exportButton.enabled
    assert "DICOM database" in panel.ui.exportButton.toolTip
    finish(panel)
    panel.ui.exportButton.click()
    assert panel.logic.last("exportDicom") == (3,)
    assert panel.ui.statusLabel.text == "3 objects are in the DICOM database now."


def test_a_result_can_be_removed(panel: SimpleNamespace):
    finish(panel)
    panel.ui.removeButton.click()
    assert panel.logic.last("remove") == ()
    assert not shown(panel.ui.resultSection)
    calls = len(panel.logic.calls)
    panel.ui.opacitySlider.value = 0.1
    assert len(panel.logic.calls) == calls, "a removed result is not touched any more"


def test_panel_and_parameters_follow_each_other(panel: SimpleNamespace):
    parameters = panel.logic.getParameterNode()
    panel.ui.presetSelector.setCurrentIndex(1)
    assert parameters.preset == "paper"
    volume = add_volume(panel.scene, "by script")
    parameters.inputVolume = volume
    parameters.device = "cuda"
    parameters.onlyShown = True
    parameters.opacity = 0.3
    assert panel.ui.inputSelector.currentNode() is volume
    assert panel.ui.deviceSelector.currentText == "cuda"
    assert panel.ui.onlyShownCheckBox.checked
    assert panel.ui.opacitySlider.value == pytest.approx(0.3)
    finish(panel)
    parameters.threshold = 33.0
    assert panel.ui.thresholdSlider.value == 33.0
    assert panel.logic.last("setThreshold") == (33.0,)


def test_a_panel_that_is_not_shown_changes_nothing(panel: SimpleNamespace):
    panel.widget.exit()
    panel.ui.presetSelector.setCurrentIndex(1)
    assert panel.logic.getParameterNode().preset == "fast"
    panel.widget.enter()
    assert panel.ui.presetSelector.currentText == "fast"


def test_an_analysis_goes_on_while_another_module_is_shown(panel: SimpleNamespace):
    add_volume(panel.scene)
    apply(panel)
    panel.widget.exit()
    say(panel, state=panel.logic.State.DONE, message="done", outcome=make_outcome(panel))
    assert panel.logic.last("show") == ()
    panel.widget.enter()
    assert shown(panel.ui.resultSection)


def test_closing_the_scene_cancels_and_clears(panel: SimpleNamespace):
    finish(panel)
    panel.ui.presetSelector.setCurrentIndex(1)
    apply(panel)
    panel.scene.Clear(0)
    assert panel.logic.last("cancel") == ()
    assert not shown(panel.ui.resultSection)
    say(panel, state=panel.logic.State.CANCELLED, message="cancelled")
    assert panel.ui.statusLabel.text == "Choose a volume."
    assert panel.ui.presetSelector.currentText == "fast", "the new scene has its own parameters"
    add_volume(panel.scene)
    assert panel.ui.applyButton.enabled


def test_cleanup_ends_the_process(panel: SimpleNamespace):
    add_volume(panel.scene)
    apply(panel)
    panel.widget.cleanup()
    assert panel.logic.last("close") == ()
    assert not panel.widget._timer.active


def test_the_chosen_python_is_kept_in_the_settings(panel: SimpleNamespace):
    panel.files.answer = sys.executable
    panel.ui.pythonButton.click()
    assert panel.ui.pythonEdit.text == sys.executable
    assert slicer.util.settingsValue("Anomap/Python", "") == sys.executable


def test_the_notice_is_always_there(panel: SimpleNamespace):
    def there() -> bool:
        return shown(panel.ui.noticeLabel) and panel.ui.noticeLabel.text == (
            "Research use only. Not a diagnosis, not lesion detection."
        )

    assert there()
    finish(panel)
    assert there()


def test_the_panel_in_the_documentation_is_a_generated_page(panel: SimpleNamespace):
    """``make docs`` takes the picture; here it is the same panel at the width of Slicer's."""
    finish(panel)
    panel.ui.inputSelector.setCurrentNode(panel.scene.GetFirstNodeByName("chest"))
    panel.ui.statusLabel.setText("done")
    panel.app.setFont(QtGui.QFont("DejaVu Sans", 9))
    panel.window.resize(WIDTH, panel.window.sizeHint.height())
    panel.app.processEvents()
    picture = panel.window.grab()
    if os.environ.get("UPDATE_DOCS"):
        PICTURE.parent.mkdir(exist_ok=True)
        picture.save(str(PICTURE))
    assert picture.width() == WIDTH, "the panel doesn't fit the module panel of Slicer"
    kept = QtGui.QPixmap(str(PICTURE))
    assert (kept.width(), kept.height()) == (picture.width(), picture.height()), "run `make docs`"
    for button in panel.window.findChildren(QtWidgets.QPushButton):
        if shown(button):
            needed = QtGui.QFontMetrics(button.font).horizontalAdvance(button.text)
            assert needed < QtWidgets.QWidget.width(button), f"{button.text} is cut off"
