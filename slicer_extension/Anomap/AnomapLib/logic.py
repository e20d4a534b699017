"""What the module does, without any window: a volume node in, nodes with the result out.

Everything it works with is given to it (scene, runner, the DICOM database's way to a file), so that it runs in
Slicer, in the browser viewer and in tests alike. All methods belong to the interface thread and return at once.
"""

import enum
import shutil
import tempfile
import time
from pathlib import Path

import slicer

from .geometry import affineOf, ownLps, toWorldOf, voxelsOf
from .job import Settings, VolumeFacts, readView, writeJob
from .results import Outcome, Row, build, gateText, setHeatDisplay

__all__ = ["AnomapLogic", "Outcome", "Row", "Settings", "State", "gateText"]

AXIAL_COSINE = 0.9  # a view within 25 degrees of axial counts as axial
# How far each stage brings the bar: projecting takes nearly all of the time.
_SHARES = {"read": 0.02, "load model": 0.05, "prepare": 0.08, "project": 0.9, "score": 0.95, "calibrate": 0.97}
_YIELD_S = 0.001


class State(enum.Enum):
    """What the logic is at."""

    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AnomapLogic:
    """One analysis at a time, and its result.

    Args:
        scene: A ``vtkMRMLScene``.
        runner: A `runner.Runner`.
        fileOfInstance: Path of the file of a SOP Instance UID, "" when there is none
            (``slicer.dicomDatabase.fileForInstance``).

    Attributes:
        state: A `State`.
        outcome: The newest `Outcome`, None before there is one.
        message: One line for people: how far it is, or why it failed.
        fraction: How far it is, 0 to 1.
        log: Lines about models, devices, warnings and retreats.
    """

    def __init__(self, scene, runner, fileOfInstance=lambda uid: ""):
        self.scene, self.runner, self.fileOfInstance = scene, runner, fileOfInstance
        self.state, self.outcome = State.IDLE, None
        self.message, self.fraction, self.log = "", 0.0, []
        self._input = self._facts = self._building = self._partial = None

    def reasonAgainst(self, volumeNode):
        """Why a volume can't be analysed, in one line; "" when it can."""
        if volumeNode is None:
            return "Choose a volume."
        if volumeNode.GetScene() is not self.scene:
            return "The volume is no longer in the scene."
        image = volumeNode.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            return "The volume holds no voxels."
        if image.GetNumberOfScalarComponents() != 1:
            return "The volume is in colour; anomap reads single-channel images only."
        if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
            return "The volume is a label map, not an image."
        return ""

    def start(self, volumeNode, settings):
        """Begin to analyse a volume.

        Raises:
            ValueError: With one line for people, when it can't be.
        """
        if self.state in (State.RUNNING, State.CANCELLING):
            raise ValueError("An analysis is running.")
        reason = self.reasonAgainst(volumeNode)
        if reason:
            raise ValueError(reason)
        facts = self._factsOf(volumeNode, settings)
        self._input, self._facts = volumeNode, facts
        self.runner.start(lambda folder: writeJob(folder, facts, settings), readView)
        self.state, self.message, self.fraction, self.log = State.RUNNING, "starting", 0.0, []

    def update(self):
        """Take in what has happened. Call it every 20 to 50 ms.

        Returns:
            Whether state, message, fraction, log or outcome have changed.
        """
        if self.state not in (State.RUNNING, State.CANCELLING):
            return False
        # Qt may keep the interpreter's lock while it waits; the runner's thread gets its turn here.
        time.sleep(_YIELD_S)
        events = self.runner.poll()
        for event in events:
            self._take(event)
        return self._buildOn() or bool(events)

    def cancel(self):
        """Give up the running analysis; its nodes, if any are there, go."""
        if self.state is not State.RUNNING:
            return
        if self._building is not None:
            self._end(State.CANCELLED, "cancelled")
            return
        self.state, self.message = State.CANCELLING, "cancelling"
        self.runner.cancel()

    def close(self):
        """The scene or the application ends."""
        self.runner.close()
        if self.state in (State.RUNNING, State.CANCELLING):
            self._end(State.CANCELLED, "cancelled")

    def show(self, outcome, opacity=0.6):
        """Show the overlay over the input in all slice views."""
        for composite in self._composites():
            composite.SetBackgroundVolumeID(outcome.inputNode.GetID())
            composite.SetForegroundVolumeID(outcome.overlayNode.GetID())
        self.setOpacity(outcome, opacity)

    def setOpacity(self, outcome, opacity):
        """Set the overlay's opacity, 0 to 1, in the views that show it."""
        for composite in self._composites():
            if composite.GetForegroundVolumeID() == outcome.overlayNode.GetID():
                composite.SetForegroundOpacity(opacity)

    def setThreshold(self, outcome, value):
        """Show the overlay only where the score is at least `value`. The regions stay what they are."""
        outcome.threshold = value
        setHeatDisplay(outcome)

    def showReconstruction(self, outcome, on):
        """Flip between the input and what the model makes of it."""
        wanted, other = outcome.reconstructionNode, outcome.inputNode
        if not on:
            wanted, other = other, wanted
        for composite in self._composites():
            if composite.GetBackgroundVolumeID() in (wanted.GetID(), other.GetID()):
                composite.SetBackgroundVolumeID(wanted.GetID())

    def jumpTo(self, row):
        """All slice views show the place of a row of the table."""
        slicer.vtkMRMLSliceNode.JumpAllSlices(self.scene, *row.ras)

    def exportDicom(self, outcome, importFolder):
        """Give the report, the regions and the map to a DICOM database.

        Args:
            outcome: What to export.
            importFolder: Takes the path of a folder and imports a copy of what is in it.

        Returns:
            The number of objects.

        Raises:
            ValueError: With one line for people, when there are none.
        """
        files = [Path(name) for name in outcome.dicomFiles]
        if not files:
            raise ValueError("There is no DICOM report: the volume was not loaded from DICOM, or was changed since.")
        if not all(path.is_file() for path in files):
            raise ValueError("The report's files are gone; analyse the volume again.")
        with tempfile.TemporaryDirectory(prefix="anomap-export-") as folder:
            for path in files:
                shutil.copyfile(path, Path(folder) / path.name)
            importFolder(folder)
        return len(files)

    def remove(self, outcome):
        """Take a result out of the scene."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        self.showReconstruction(outcome, False)
        self._removeNodes(outcome)
        if outcome.folderItem and hierarchy is not None:
            hierarchy.RemoveItem(outcome.folderItem)
        if self.outcome is outcome:
            self.outcome = None

    def _factsOf(self, volumeNode, settings):
        toWorld, nonlinear = toWorldOf(volumeNode)
        through = tuple(ownLps(volumeNode, point) for point in self._shown()) if settings.onlyShown else ()
        if settings.onlyShown and not through:
            raise ValueError("No axial slice view is there to say which slices are meant.")
        return VolumeFacts(
            voxels=voxelsOf(volumeNode),
            affine=affineOf(volumeNode),
            toWorld=toWorld,
            nonlinear=nonlinear,
            files=self._files(volumeNode),
            through=through,
        )

    def _files(self, volumeNode):
        """The DICOM files of a volume; none when one is missing, since half a series is another series."""
        uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
        files = tuple(self.fileOfInstance(uid) for uid in uids)
        return files if all(files) else ()

    def _shown(self):
        """World RAS of the middle of every axial slice view."""
        points = []
        for node in self._nodes("vtkMRMLSliceNode"):
            matrix = node.GetSliceToRAS()
            if abs(matrix.GetElement(2, 2)) >= AXIAL_COSINE:
                points.append(tuple(matrix.GetElement(row, 3) for row in range(3)))
        return points

    def _take(self, event):
        kind = event["event"]
        if kind == "stage":
            self._stage(event)
        elif kind == "model":
            self.log.append(f"{event['model']} {event['version']}: {event['reason']}")
        elif kind == "device":
            free = f", {event['free_gb']:g} GB free" if "free_gb" in event else ""
            self.log.append(f"device: {event['device']}, torch {event['torch']}{free}")
        elif kind == "note":
            self.log.append(event["text"])
        elif kind == "loaded" and self.state is State.RUNNING:
            self._partial = Outcome(self._input)
            self._building = build(self.scene, self._input, self._facts.affine, event["view"], self._partial)
            self.message = "showing"
        elif kind in ("cancelled", "loaded"):
            self._end(State.CANCELLED, "cancelled")
        elif kind == "error":
            self._end(State.FAILED, f"{event['code']} {event['message']}. {event['remedy']}")

    def _stage(self, event):
        done = event["done"] / max(event["total"], 1)
        stages = list(_SHARES)
        index = stages.index(event["stage"]) if event["stage"] in stages else len(stages)
        before = _SHARES[stages[index - 1]] if index else 0.0
        after = _SHARES.get(event["stage"], 1.0)
        self.fraction = max(self.fraction, before + done * (after - before))
        if self.state is State.RUNNING:
            self.message = f"{event['stage']} {100 * done:.0f} %" if event["total"] > 1 else event["stage"]

    def _buildOn(self):
        """Make one more node of a result that has come."""
        if self._building is None:
            return False
        if self._input.GetScene() is not self.scene:
            self._end(State.FAILED, "the volume is no longer in the scene")
            return True
        if next(self._building, self) is self:
            self.outcome, self._partial, self._building = self._partial, None, None
            self._end(State.DONE, "done")
            self.fraction = 1.0
        return True

    def _end(self, state, message):
        if self._partial is not None:
            self._removeNodes(self._partial)
        self.state, self.message = state, message
        self._input = self._facts = self._building = self._partial = None

    def _removeNodes(self, outcome):
        """Remove a result's nodes with the display nodes that only they have."""
        for node in outcome.nodes:
            displays = []
            if node.IsA("vtkMRMLDisplayableNode"):
                displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
            for gone in (node, *displays):
                self.scene.RemoveNode(gone)

    def _composites(self):
        return self._nodes("vtkMRMLSliceCompositeNode")

    def _nodes(self, kind):
        return [self.scene.GetNthNodeByClass(n, kind) for n in range(self.scene.GetNumberOfNodesByClass(kind))]
