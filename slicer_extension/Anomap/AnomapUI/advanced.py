"""The model selector and the section "Advanced": which models, and which Python runs the analysis."""

from pathlib import Path

import qt
import slicer
from AnomapLib.install import SETTING
from AnomapLib.models import deleteModel, importModel, listModels, modelFolders, shippedFolder
from slicer.i18n import tr as _

AUTO = "auto"


class ModelSection:
    """Chooses a model and keeps the folder of imported ones.

    Args:
        ui: The widgets of the panel.
        say: Shows one line to the user.
    """

    def __init__(self, ui, say) -> None:
        self.ui = ui
        self.say = say
        self._parameters = None
        self._models = {}
        self._names = []  # of the selector, by index
        self._shown = None
        ui.modelSelector.connect("currentIndexChanged(int)", self.onSelected)
        ui.modelFolderButton.connect("clicked(bool)", self.onChooseFolder)
        ui.importModelButton.connect("clicked(bool)", self.onImport)
        ui.deleteModelButton.connect("clicked(bool)", self.onDelete)
        ui.openModelFolderButton.connect("clicked(bool)", self.onOpenFolder)

    def follow(self, parameters) -> None:
        """Show and change these parameters from now on; None when there are none."""
        self._parameters = parameters
        self._shown = None  # look at the disk again: the user may have been there
        self.refresh()

    def refresh(self) -> None:
        """Show the parameters. The disk is read only when the folder or the model is another than before."""
        if not self._parameters or self._shown == (self._parameters.modelFolder, self._parameters.model):
            return
        self._shown = (self._parameters.modelFolder, self._parameters.model)
        wanted = self._parameters.model
        shipped = shippedFolder()
        found = (listModels(shipped) if shipped else []) + listModels(self._folder())
        self._models = {model.name: model for model in found}  # an imported one wins over a shipped one of its name
        self._names = [AUTO, *self._models]
        if wanted not in self._names:
            self._names.append(wanted)  # a scene from elsewhere: stays chosen, and Apply says that it is missing
        selector = self.ui.modelSelector
        blocked = selector.blockSignals(True)
        selector.clear()
        for name in self._names:
            selector.addItem(self._label(name))
        selector.setCurrentIndex(self._names.index(wanted))
        selector.blockSignals(blocked)
        model = self._models.get(wanted)
        selector.setToolTip(model.population if model else _("Chosen by modality, among the models of anomap."))
        self.ui.deleteModelButton.setEnabled(bool(model and model.removable))

    def folderOfChosen(self) -> str:
        """The folder to look for the chosen model in; "" leaves it to anomap."""
        model = self._models.get(self._parameters.model)
        folder = model.path.parent if model else shippedFolder()
        return str(folder or "")

    def onSelected(self, index: int) -> None:
        """The entries change, so the selector can't be connected to the parameters by itself."""
        if self._parameters and 0 <= index < len(self._names):
            self._parameters.model = self._names[index]

    def onChooseFolder(self) -> None:
        """Choose where imported models lie."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder of models"), str(self._folder()))
        if folder:
            self._parameters.modelFolder = folder

    def onImport(self) -> None:
        """Import a bundle from a file; nothing is downloaded."""
        kinds = _("Model bundle") + " (*.zip metadata.json)"
        file = qt.QFileDialog.getOpenFileName(None, _("Import model"), "", kinds)
        if not file:
            return
        try:
            model = importModel(Path(file), self._folder())
        except ValueError as error:
            self.say(_("Not imported: {reason}").format(reason=error))
            return
        self._choose(model.name)
        self.say(_("Imported {name} {version}.").format(name=model.name, version=model.version))

    def onDelete(self) -> None:
        """Delete the chosen model from the disk, after a question."""
        model = self._models[self._parameters.model]
        question = _("Delete the model {name} from this computer?").format(name=model.name)
        if not slicer.util.confirmOkCancelDisplay(question):
            return
        try:
            deleteModel(model)
        except ValueError as error:
            self.say(str(error))
            return
        self._choose(AUTO)
        self.say(_("Deleted {name}.").format(name=model.name))

    def onOpenFolder(self) -> None:
        """Show the folder of imported models in the file manager."""
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))

    def _choose(self, name: str) -> None:
        self._shown = None  # what lies in the folder has changed
        self._parameters.model = name
        self.refresh()

    def _folder(self) -> Path:
        chosen = self._parameters.modelFolder.strip()
        return Path(chosen) if chosen else modelFolders()[0]

    def _label(self, name: str) -> str:
        model = self._models.get(name)
        if model:
            return f"{name} {model.version} ({', '.join(model.modalities)})"
        return _("auto: by modality") if name == AUTO else _("{name} (not on this computer)").format(name=name)


class PythonSection:
    """Chooses the Python that runs the analysis. Kept in the settings: it belongs to a computer, not to a scene.

    Args:
        ui: The widgets of the panel.
        chosen: The Python chosen so far, "" for Slicer's own.
    """

    def __init__(self, ui, chosen: str) -> None:
        self.ui = ui
        ui.pythonEdit.setText(chosen)
        ui.pythonEdit.connect("editingFinished()", self.onEdited)
        ui.pythonButton.connect("clicked(bool)", self.onChoose)

    def onEdited(self) -> None:
        """Keep what was typed."""
        qt.QSettings().setValue(SETTING, self.ui.pythonEdit.text.strip())

    def onChoose(self) -> None:
        """Choose an executable file."""
        file = qt.QFileDialog.getOpenFileName(None, _("Python that runs the analysis"))
        if file:
            self.ui.pythonEdit.setText(file)
            self.onEdited()
