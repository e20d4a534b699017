"""A logic that does as the test says, and what a test does with a panel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.slicer_extension import standins


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
        importFolder("a folder")
        return len(outcome.dicomFiles)

    def __getattr__(self, name: str) -> Any:
        known = {"show", "setOpacity", "setThreshold", "showReconstruction", "jumpTo", "remove", "close"}
        if name not in known:
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *(a for a in arguments if a is not self.outcome)))

    def last(self, name: str) -> tuple[Any, ...]:
        return [call for call in self.calls if call[0] == name][-1][1:]


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
            Row(kind, number, (0.0, 0.0, 5.0 * line), score, "HU", float(p), size)
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
