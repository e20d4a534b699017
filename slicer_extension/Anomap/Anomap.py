"""The 3D Slicer module: a thin panel over AnomapLib, which does the work and knows no Qt.

An analysis runs in a process of its own. The panel starts it, asks every 30 ms what became of it, and shows the
result; so Slicer stays usable, and Cancel always works. Nothing heavy is imported here: Slicer loads every module
when it starts.
"""

import time
from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from AnomapLib.install import Installer
from AnomapLib.logic import AnomapLogic as Analysis
from AnomapLib.logic import Settings, State
from AnomapLib.runner import LocalRunner
from AnomapUI.advanced import AUTO, ModelSection, PythonSection
from AnomapUI.result import ResultSection
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MS = 30


class Anomap(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Anomap")
        self.parent.categories = [_("Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["anomap contributors"]
        self.parent.helpText = _(
            "Shows what in a CT volume doesn't fit the images a generative model was trained on. "
            "Research use only. Not a diagnosis, not lesion detection. "
            'See <a href="https://github.com/anomap/anomap">the documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "The method is that of Woodland et al., Bioengineering 2025, 12(10):1106. Code and weights are our own."
        )


@parameterNodeWrapper
class AnomapParameterNode:
    """What is chosen in the panel; saved with the scene.

    Attributes:
        inputVolume: The volume to analyse.
        onlyShown: Analyse only the slices that axial slice views show.
        model: Name of a bundle, or "auto".
        preset: "fast" (about 30 steps) or "paper" (1000 steps).
        device: "auto", "cpu" or "cuda".
        modelFolder: Folder of imported models, "" for the usual one.
        opacity: Of the overlay, 0 to 1.
        threshold: Overlay values below it are transparent; in the unit of the result.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    onlyShown: bool = False
    model: str = AUTO
    preset: Annotated[str, Choice(["fast", "paper"])] = "fast"
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    modelFolder: str = ""
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.6
    threshold: float = 0.0


class AnomapLogic(Analysis, ScriptedLoadableModuleLogic):
    """The analysis of AnomapLib, tied to this application: its scene, its Python, its DICOM database."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.installer = Installer(slicer)
        self._runners = {}  # by Python: a runner keeps the files of its results until it is closed
        Analysis.__init__(self, slicer.mrmlScene, None, fileOfInstance)

    def getParameterNode(self) -> AnomapParameterNode:
        """The parameters in the scene."""
        return AnomapParameterNode(super().getParameterNode())

    def start(self, volumeNode, settings: Settings) -> None:
        """As `Analysis.start`, in the Python that is chosen now.

        Raises:
            ValueError: One line, when the volume can't be analysed.
            RuntimeError: One line, when that Python doesn't exist.
        """
        python = self.installer.python()
        if python not in self._runners:
            self._runners[python] = LocalRunner(python, self.installer.environment())
        self.runner = self._runners[python]
        super().start(volumeNode, settings)

    def close(self) -> None:
        """End the analysis, and remove the files of all results: the application ends."""
        for runner in self._runners.values():
            self.runner = runner
            super().close()

    def run(self, volumeNode, settings: Settings):
        """Analyse a volume and wait for the end: for scripts. Slicer's windows stay alive meanwhile.

        Returns:
            The outcome.

        Raises:
            ValueError: As `start`.
            RuntimeError: As `start`; one line, when the analysis failed or was cancelled.
        """
        self.start(volumeNode, settings)
        while self.state in (State.RUNNING, State.CANCELLING):
            slicer.app.processEvents()
            self.update()
            time.sleep(POLL_MS / 1000)
        if self.state != State.DONE:
            raise RuntimeError(self.message)
        return self.outcome


def fileOfInstance(uid: str) -> str:
    """The file of a DICOM image, "" when the database doesn't have it. The database may not be open yet."""
    database = slicer.dicomDatabase
    return database.fileForInstance(uid) if database else ""


class AnomapWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It keeps no state of the analysis; `update` shows that of the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._volume = None
        self._guiTag = None
        self._entered = False

    def setup(self) -> None:
        """Build the panel; called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Anomap.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = AnomapLogic()

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyOrCancel)
        self._modelSection = ModelSection(self.ui, self._say)
        self._pythonSection = PythonSection(self.ui, self.logic.installer.chosen())
        self._resultSection = ResultSection(self.ui, self.logic, self._say)

        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self.onTimer)
        self.initializeParameterNode()

    # Life of the panel

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.initializeParameterNode()

    def exit(self) -> None:
        """Another module is shown. A running analysis goes on."""
        self._entered = False
        self.setParameterNode(None)

    def cleanup(self) -> None:
        """Slicer ends, or the module is reloaded: the process of the analysis ends with it."""
        self._timer.stop()
        self.logic.close()
        self.setParameterNode(None)
        self.removeObservers()

    def onSceneStartClose(self, caller, event) -> None:
        """The nodes are about to go: so does the analysis that was to add to them."""
        self.logic.cancel()
        self._resultSection.clear()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """The scene is empty; a panel that is shown needs new parameters."""
        if self._entered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Follow the parameters of the scene; choose its first volume when none is chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameters.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first:
                self._parameters.inputVolume = first

    def setParameterNode(self, parameters) -> None:
        """Connect the panel to other parameters, or to none."""
        if self._parameters:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameters = parameters
        self._observeVolume(None)
        self._modelSection.follow(parameters)
        self._resultSection.follow(parameters)
        if parameters:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.onParametersModified()

    # Parameters to panel

    def onParametersModified(self, caller=None, event=None) -> None:
        """Show what the connected widgets don't show by themselves."""
        self._observeVolume(self._parameters.inputVolume)
        self._modelSection.refresh()
        self._resultSection.refresh()
        self._showState()

    def _observeVolume(self, volume) -> None:
        """Follow the voxels of the chosen volume: it may be chosen before they are read."""
        if volume is self._volume:
            return
        event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
        if self._volume:
            self.removeObserver(self._volume, event, self.onVoxelsModified)
        self._volume = volume
        if volume:
            self.addObserver(volume, event, self.onVoxelsModified)

    def onVoxelsModified(self, caller, event) -> None:
        """Perhaps the volume can be analysed now."""
        self._showState()

    # The analysis

    def onApplyOrCancel(self) -> None:
        """Apply starts the analysis; while one runs, the same button cancels it."""
        if self._busy():
            self.logic.cancel()
            self._showState()
            return
        try:
            self.logic.installer.ensure()
            self.logic.start(self._parameters.inputVolume, self._settings())
        except (ValueError, RuntimeError) as error:  # one line for people; no box to click away
            self._say(str(error))
            return
        self._timer.start()
        self._showState()

    def _settings(self) -> Settings:
        return Settings(
            model=self._parameters.model,
            preset=self._parameters.preset,
            device=self._parameters.device,
            onlyShown=self._parameters.onlyShown,
            modelFolder=self._modelSection.folderOfChosen(),
        )

    def onTimer(self) -> None:
        """Ask the logic what happened since the last call."""
        if not self.logic.update():
            return
        self._showState()
        if self._busy():
            return
        self._timer.stop()
        if self.logic.state == State.DONE:
            self._resultSection.show(self.logic.outcome)

    def _busy(self) -> bool:
        return self.logic.state in (State.RUNNING, State.CANCELLING)

    def _showState(self) -> None:
        """Button, progress, message and log."""
        volume = self._parameters.inputVolume if self._parameters else None
        against = self.logic.reasonAgainst(volume) if volume else _("Choose a volume.")
        running, busy = self.logic.state == State.RUNNING, self._busy()
        ui = self.ui
        ui.applyButton.setText(_("Cancel") if running else _("Cancelling...") if busy else _("Apply"))
        ui.applyButton.setEnabled(running or not (busy or against))
        ui.applyButton.setToolTip(against or _("Analyse the volume in a process of its own."))
        ui.inputsSection.setEnabled(not busy)
        ui.progressBar.setVisible(busy)
        ui.progressBar.setValue(round(100 * self.logic.fraction))
        self._say(self.logic.message if busy or not against else against)
        ui.logText.setPlainText("\n".join(self.logic.log))

    def _say(self, text: str) -> None:
        self.ui.statusLabel.setText(text)


class AnomapTest(ScriptedLoadableModuleTest):
    """What "Reload and Test" runs, on a volume made here."""

    def setUp(self) -> None:
        """Start with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests of the module."""
        self.setUp()
        self.test_phantom()

    def test_phantom(self) -> None:
        """Analyse a phantom; where anomap is not installed, say so."""
        logic = AnomapLogic()
        volume = phantom()
        self.assertEqual(logic.reasonAgainst(volume), "")
        missing = logic.installer.missing()
        if missing:
            self.delayDisplay(f"Not analysed. Not installed: {', '.join(missing)}")
            return
        self.assertGreater(len(logic.run(volume, Settings()).rows), 0)


def phantom():
    """A round body of water with a bright rod, as a CT volume of 8 slices of 64 x 64 voxels in the scene."""
    row, column = np.mgrid[-1:1:64j, -1:1:64j]
    body = np.where(row**2 + column**2 < 0.6, 0, -1000)  # HU
    rod = np.where((row - 0.2) ** 2 + column**2 < 0.02, 1000, body)
    voxels = np.stack([body] * 4 + [rod] * 4).astype(np.int16)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Anomap phantom")
    volume.SetSpacing(6.0, 6.0, 5.0)
    slicer.util.updateVolumeFromArray(volume, voxels)
    return volume
