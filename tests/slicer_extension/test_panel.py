"""The panel, driven with a logic that does as the test says: what is clicked arrives, what happens is shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from tests.slicer_extension import standins
from tests.slicer_extension.fake import FakeLogic, add_volume, apply, finish, make_outcome, say, shown

PICTURE = Path(__file__).parents[2] / "slicer_extension" / "Screenshots" / "panel.png"
WIDTH = 430  # of Slicer's module panel, pixels


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


@pytest.fixture
def database(panel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for Slicer's DICOM database and the function that fills it."""
    database = SimpleNamespace(taken=[], takes=True)
    database.fileForInstance = {"1.2.3": "/dicom/1.dcm"}.get

    def importDicom(folder: str, into: object, copyFiles: bool = False) -> bool:
        database.taken.append((folder, into is database, copyFiles))
        return database.takes

    library = ModuleType("DICOMLib")
    library.DICOMUtils = SimpleNamespace(importDicom=importDicom)
    monkeypatch.setitem(sys.modules, "DICOMLib", library)
    monkeypatch.setattr(slicer, "dicomDatabase", database)
    return database


def test_the_files_of_a_volume_are_those_of_the_database(panel: SimpleNamespace, database: SimpleNamespace):
    assert panel.module.fileOfInstance("1.2.3") == "/dicom/1.dcm"
    slicer.dicomDatabase = None  # not opened yet
    assert panel.module.fileOfInstance("1.2.3") == ""


def test_a_database_that_takes_nothing_is_said(panel: SimpleNamespace, database: SimpleNamespace):
    finish(panel)
    database.takes = False
    panel.ui.exportButton.click()
    assert panel.ui.statusLabel.text.startswith("Slicer's DICOM database did not take the files")


def test_export_needs_a_volume_from_dicom(panel: SimpleNamespace, database: SimpleNamespace):
    finish(panel, dicomFiles=[])
    assert not panel.ui.exportButton.enabled
    assert "DICOM database" in panel.ui.exportButton.toolTip
    finish(panel)
    panel.ui.exportButton.click()
    assert database.taken == [("a folder", True, True)], "a copy: the folder is removed afterwards"
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
