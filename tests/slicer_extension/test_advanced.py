"""The model selector and the section "Advanced", with real bundles on the disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from anomap.bundle import list_bundles
from tests.slicer_extension.fake import add_volume, apply

ROOT = Path(__file__).parents[2]
MODELS = list_bundles(ROOT / "models")
SHIPPED = ["auto: by modality", *(f"{info.name} {info.version} ({', '.join(info.modalities)})" for info in MODELS)]
CT = 1 + [info.name for info in MODELS].index("ct-64")


def entries(panel: SimpleNamespace) -> list[str]:
    selector = panel.ui.modelSelector
    return [selector.itemText(index) for index in range(selector.count)]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of imported models ($ANOMAP_MODELS of the panel)."""
    return tmp_path / "models"


@pytest.fixture
def imported(panel: SimpleNamespace, toy_models: Path) -> SimpleNamespace:
    """The panel, after a bundle was imported with it."""
    panel.files.answer = str(toy_models / "toy-ct" / "configs" / "metadata.json")
    panel.ui.importModelButton.click()
    return panel


def test_shipped_models_can_be_chosen_but_not_deleted(panel: SimpleNamespace):
    assert entries(panel) == SHIPPED
    panel.ui.modelSelector.setCurrentIndex(CT)
    assert panel.logic.getParameterNode().model == "ct-64"
    assert "631 axial CT slices" in panel.ui.modelSelector.toolTip
    assert not panel.ui.deleteModelButton.enabled


@pytest.mark.parametrize(("index", "model"), [(0, "auto"), (CT, "ct-64")])
def test_the_analysis_is_told_where_the_model_lies(panel: SimpleNamespace, index: int, model: str):
    add_volume(panel.scene)
    panel.ui.modelSelector.setCurrentIndex(index)
    apply(panel)
    _, settings = panel.logic.last("start")
    assert (settings.model, settings.modelFolder) == (model, str(ROOT / "models"))


def test_an_imported_model_is_chosen_at_once(imported: SimpleNamespace, own: Path):
    assert imported.ui.statusLabel.text == "Imported toy-ct 0.0.1."
    assert entries(imported) == [*SHIPPED, "toy-ct 0.0.1 (CT)"]
    assert imported.ui.modelSelector.currentText == "toy-ct 0.0.1 (CT)"
    add_volume(imported.scene)
    apply(imported)
    _, settings = imported.logic.last("start")
    assert (settings.model, settings.modelFolder) == ("toy-ct", str(own))


def test_an_import_that_is_refused_or_given_up_changes_nothing(panel: SimpleNamespace, tmp_path: Path):
    panel.ui.importModelButton.click()
    assert panel.ui.statusLabel.text == "Choose a volume.", "the file dialog was closed"
    (tmp_path / "text.zip").write_text("text")
    panel.files.answer = str(tmp_path / "text.zip")
    panel.ui.importModelButton.click()
    assert panel.ui.statusLabel.text == "Not imported: this is neither a model bundle nor a zip of one"
    assert entries(panel) == SHIPPED


def test_an_imported_model_is_deleted_after_a_question(
    imported: SimpleNamespace, own: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: False)
    imported.ui.deleteModelButton.click()
    assert (own / "toy-ct").is_dir()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    imported.ui.deleteModelButton.click()
    assert not (own / "toy-ct").exists()
    assert entries(imported) == SHIPPED
    assert imported.logic.getParameterNode().model == "auto"
    assert imported.ui.statusLabel.text == "Deleted toy-ct."


def test_a_scene_may_name_a_model_that_is_not_here(panel: SimpleNamespace):
    panel.logic.getParameterNode().model = "mr-128"
    assert panel.ui.modelSelector.currentText == "mr-128 (not on this computer)"
    assert not panel.ui.deleteModelButton.enabled
    add_volume(panel.scene)
    apply(panel)
    assert panel.logic.last("start")[1].model == "mr-128", "anomap says that it is missing"


def test_another_folder_shows_its_models(panel: SimpleNamespace, toy_models: Path):
    panel.files.answer = str(toy_models)
    panel.ui.modelFolderButton.click()
    assert panel.ui.modelFolderEdit.text == str(toy_models)
    assert entries(panel) == [*SHIPPED, "toy-ct 0.0.1 (CT)", "toy-radiograph 0.0.1 (CR, DX)"]
    panel.ui.modelSelector.setCurrentIndex(len(SHIPPED))
    assert not panel.ui.deleteModelButton.enabled, "put there by hand"


def test_the_disk_is_looked_at_when_the_module_is_opened(panel: SimpleNamespace, toy_models: Path, own: Path):
    own.symlink_to(toy_models)
    assert entries(panel) == SHIPPED
    panel.widget.exit()
    panel.widget.enter()
    assert "toy-ct 0.0.1 (CT)" in entries(panel)


def test_the_folder_can_be_opened(panel: SimpleNamespace, own: Path):
    panel.ui.openModelFolderButton.click()
    assert panel.opened == [str(own)]
    assert own.is_dir()
