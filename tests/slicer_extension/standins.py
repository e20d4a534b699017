"""Stand-ins for what only the Slicer application has: Qt under the name qt, CTK, MRML widgets, module base classes.

`application` puts them in place, with a real MRML scene from slicer-core, so that the module's own files run unmodified
on PySide6. They follow PythonQt where it differs from PySide6 (`_PythonQt`), so that code which works here has a good
chance there; but they are not Slicer's widgets, and prove nothing about them.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
import unittest
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

os.environ["QT_QPA_PLATFORM"] = "offscreen"  # before Qt is loaded

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtUiTools import QUiLoader

from tests.slicer_extension import parameters

MODULE = Path(__file__).parents[2] / "slicer_extension" / "Anomap"
OWN = ("Anomap", "AnomapLib", "AnomapUI")


class _PythonQt:
    """What PythonQt does: a Qt property is an attribute, not a method, and signals connect by signature, too."""

    def __getattribute__(self, name: str) -> Any:
        get = object.__getattribute__
        if not name.startswith("_") and get(self, "metaObject")().indexOfProperty(name) >= 0:
            return get(self, "property")(name)
        return get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if object.__getattribute__(self, "metaObject")().indexOfProperty(name) >= 0:
            self.setProperty(name, value)
        else:
            super().__setattr__(name, value)

    @property
    def name(self) -> str:
        return self.objectName

    def connect(self, *arguments: Any) -> Any:
        first = arguments[0]
        if not isinstance(first, str):  # PySide6 comes this way for `signal.connect`
            return QtCore.QObject.connect(*arguments)
        signal, _, types_ = first.rstrip(")").partition("(")
        if first not in {"selectionChanged()", "timeout()"}:
            assert self.metaObject().indexOfSignal(f"{signal}({types_})".replace(" ", "")) >= 0, f"no signal {first}"
        signal = {"selectionChanged": "tableSelectionChanged"}.get(signal, signal)
        return object.__getattribute__(self, signal).connect(arguments[1])


def _as_in_slicer(base: type, name: str = "") -> type:
    name = name or base.__name__
    return type(name, (_PythonQt, base), {"slicer_name": name})


_QT_WIDGETS = ("QLabel", "QPushButton", "QToolButton", "QComboBox", "QCheckBox", "QLineEdit", "QProgressBar", "QWidget")
QT = {name: _as_in_slicer(getattr(QtWidgets, name)) for name in (*_QT_WIDGETS, "QPlainTextEdit")}
QT["QTimer"] = _as_in_slicer(QtCore.QTimer)


class FileDialog:
    """Answers without a window, as PythonQt does: with a string."""

    answer = ""

    @classmethod
    def getOpenFileName(cls, *_: Any) -> str:
        return cls.answer

    @classmethod
    def getExistingDirectory(cls, *_: Any) -> str:
        return cls.answer


class DesktopServices:
    opened: ClassVar[list[str]] = []

    @classmethod
    def openUrl(cls, url: QtCore.QUrl) -> None:
        cls.opened.append(url.toLocalFile())


class CollapsibleButton(_PythonQt, QtWidgets.QWidget):
    """A title with content below that can be hidden."""

    slicer_name = "ctkCollapsibleButton"
    HEIGHT = 24

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, self.HEIGHT, 0, 0)

    def _set_text(self, value: str) -> None:
        self._text = value
        self.update()

    def _set_collapsed(self, value: bool) -> None:
        self._collapsed = value
        self.setMaximumHeight(self.HEIGHT if value else 16777215)

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < self.HEIGHT:
            self._set_collapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        rectangle = QtCore.QRect(0, 1, QtWidgets.QWidget.width(self) - 1, self.HEIGHT - 3)
        painter.setPen(self.palette.mid().color())
        painter.setBrush(self.palette.button())
        painter.drawRoundedRect(rectangle, 3, 3)
        painter.setPen(self.palette.buttonText().color())
        mark = "\N{BLACK RIGHT-POINTING TRIANGLE}" if self._collapsed else "\N{BLACK DOWN-POINTING TRIANGLE}"
        painter.drawText(rectangle.adjusted(8, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, f"{mark}  {self._text}")
        painter.end()


class SliderWidget(_PythonQt, QtWidgets.QWidget):
    """A slider with a spin box; as in CTK, a value is forced into the range."""

    slicer_name = "ctkSliderWidget"
    valueChanged = Signal(float)
    TICKS = 1000

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal)
        self._slider.setMaximum(self.TICKS)
        self._box = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._changed)
        self._slider.sliderMoved.connect(lambda tick: self._box.setValue(self._box.maximum() * tick / self.TICKS))

    def _changed(self, value: float) -> None:
        self._slider.setValue(round(self.TICKS * value / (self._box.maximum() or 1.0)))
        self.valueChanged.emit(value)

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, value: self._box.setDecimals(value))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, value: self._box.setSuffix(value))


class MrmlWidget(_PythonQt, QtWidgets.QWidget):
    slicer_name = "qMRMLWidget"
    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class NodeComboBox(_PythonQt, QtWidgets.QComboBox):
    """The nodes of a scene; without a scene it stays empty, as the real one does."""

    slicer_name = "qMRMLNodeComboBox"
    currentNodeChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene, self._kinds, self._nodes = None, [], []
        self.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    nodeTypes = Property("QStringList", lambda self: self._kinds, lambda self, kinds: setattr(self, "_kinds", kinds))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            scene.AddObserver(event, lambda *_: self._fill())
        self._fill()

    def _fill(self) -> None:
        current = self.currentNode()
        found = [self._scene.GetNthNodeByClass(n, kind) for kind in self._kinds for n in range(self._count(kind))]
        blocked = self.blockSignals(True)
        self.clear()
        self._nodes = found
        for node in found:
            self.addItem(node.GetName())
        self.setCurrentIndex(found.index(current) if current in found else min(0, len(found) - 1))
        self.blockSignals(blocked)
        if self.currentNode() is not current:
            self.currentNodeChanged.emit(self.currentNode())

    def _count(self, kind: str) -> int:
        return self._scene.GetNumberOfNodesByClass(kind)

    def currentNode(self) -> Any:
        index = self.currentIndex
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def setCurrentNode(self, node: Any) -> None:
        if self._scene is not None:
            self.setCurrentIndex(self._nodes.index(node) if node in self._nodes else -1)


class TableView(_PythonQt, QtWidgets.QTableView):
    """The cells of a table node, behind a sorting proxy. As in Slicer, titles are a first row unless the node says."""

    slicer_name = "qMRMLTableView"
    tableSelectionChanged = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = None
        self._cells = QtGui.QStandardItemModel()
        self._proxy = QtCore.QSortFilterProxyModel()
        self._proxy.setSourceModel(self._cells)
        self.setModel(self._proxy)
        self.selectionModel().selectionChanged.connect(lambda *_: self.tableSelectionChanged.emit())

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def sortFilterProxyModel(self) -> QtCore.QSortFilterProxyModel:
        return self._proxy

    def setMRMLTableNode(self, node: Any) -> None:
        self._cells.clear()
        if node is None or self._scene is None:
            return
        table = node.GetTable()
        columns = range(table.GetNumberOfColumns())
        titles = [table.GetColumnName(column) for column in columns]
        rows = [[node.GetCellText(row, column) for column in columns] for row in range(table.GetNumberOfRows())]
        if not node.GetUseColumnTitleAsColumnHeader():
            rows.insert(0, titles)
        for row in rows:
            self._cells.appendRow([QtGui.QStandardItem(text) for text in row])
        self._cells.setHorizontalHeaderLabels(titles)


WIDGETS = {
    widget.slicer_name: widget
    for widget in (*QT.values(), CollapsibleButton, SliderWidget, MrmlWidget, NodeComboBox, TableView)
    if issubclass(widget, QtWidgets.QWidget)
}


class _Loader(QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []  # Python must not collect them while Qt puts them together

    def createWidget(self, kind: str, parent: Any = None, name: str = "") -> Any:
        widget = WIDGETS[kind](parent)  # a KeyError is a widget that the stand-ins don't know
        widget.setObjectName(name)
        self.made.append(widget)
        return widget


def load_ui(path: str) -> Any:
    """As `slicer.util.loadUI`. PySide6 can't connect ``vtkMRMLScene*``, so those lines of the file are obeyed here."""
    root = ElementTree.parse(path).getroot()
    connections = root.find("connections")
    wanted = [tuple(c.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")) for c in connections]
    connections.clear()
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(root))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    loader = _Loader()
    widget = loader.load(buffer)
    parts = vars(child_widgets(widget)) | {widget.objectName: widget}
    for sender, signal, receiver, slot in wanted:
        source = object.__getattribute__(parts[sender], signal.partition("(")[0])
        source.connect(getattr(parts[receiver], slot.partition("(")[0]))
    return widget


def child_widgets(widget: Any) -> Any:
    """As `slicer.util.childWidgetVariables`."""
    found = (child for child in widget.findChildren(QtWidgets.QWidget) if isinstance(child, _PythonQt))
    return types.SimpleNamespace(**{child.objectName: child for child in found if child.objectName})


class Module:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ModuleWidget:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.layout = QtWidgets.QWidget.layout(parent)

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return str(MODULE / "Resources" / name)


class ModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        found = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if found is None:
            found = slicer.vtkMRMLScriptedModuleNode()
            found.SetSingletonTag(self.moduleName)
            found.SetModuleName(self.moduleName)
            found = slicer.mrmlScene.AddNode(found)
        return found


class ModuleTest(unittest.TestCase):
    def delayDisplay(self, text: str) -> None: ...


def _module(name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


@contextmanager
def application(folder: Path, scene: Any = None) -> Iterator[types.SimpleNamespace]:
    """Put the stand-ins in place and load the module.

    Args:
        folder: Settings are kept here.
        scene: A ``vtkMRMLScene``; None makes one.

    Yields:
        ``module`` (Anomap.py), ``scene``, ``app`` (QApplication), ``files`` (what a file dialog answers), ``opened``.
    """
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["stand-in"])
    app.setStyle("Fusion")
    QtCore.QCoreApplication.setOrganizationName("anomap-tests")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(folder))
    scene = scene or slicer.vtkMRMLScene()
    names = {**vars(QtCore), **vars(QtGui), **vars(QtWidgets), **QT}
    qt = _module("qt", **names | {"QFileDialog": FileDialog, "QDesktopServices": DesktopServices})
    base = "slicer.ScriptedLoadableModule"
    classes = (Module, ModuleWidget, ModuleLogic, ModuleTest)
    suffixes = ("", "Widget", "Logic", "Test")
    modules = {
        "qt": qt,
        "ctk": _module("ctk", ctkCollapsibleButton=CollapsibleButton, ctkSliderWidget=SliderWidget),
        "slicer.i18n": _module("slicer.i18n", tr=str),
        "slicer.parameterNodeWrapper": parameters,
        base: _module(base, **{f"ScriptedLoadableModule{s}": c for s, c in zip(suffixes, classes, strict=True)}),
    }
    home = types.SimpleNamespace(slicerHome=str(folder), processEvents=app.processEvents, testingEnabled=lambda: True)
    attributes: list[tuple[Any, str, Any]] = [
        (slicer, "mrmlScene", scene),
        (slicer, "app", home),
        (slicer, "dicomDatabase", None),
        (slicer.util, "loadUI", load_ui),
        (slicer.util, "childWidgetVariables", child_widgets),
        (slicer.util, "confirmOkCancelDisplay", lambda *_, **__: True),
        (slicer.util, "startupEnvironment", lambda: dict(os.environ)),
    ]
    FileDialog.answer, DesktopServices.opened = "", []
    with _replaced(modules, attributes):
        module = importlib.import_module("Anomap")
        yield types.SimpleNamespace(
            module=module, scene=scene, app=app, files=FileDialog, opened=DesktopServices.opened
        )


@contextmanager
def _replaced(modules: dict[str, types.ModuleType], attributes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    missing = object()
    before = [(owner, name, getattr(owner, name, missing)) for owner, name, _ in attributes]
    loaded = {name: sys.modules.get(name) for name in modules}
    sys.path.insert(0, str(MODULE))
    own = _forget()
    sys.modules.update(modules)
    for owner, name, value in attributes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        _forget()
        sys.modules.update(own)
        sys.path.remove(str(MODULE))
        for name, module in loaded.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        for owner, name, value in before:
            if value is missing:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _forget() -> dict[str, types.ModuleType]:
    """The module's own files are loaded anew by each test, as they hold the stand-ins that they were loaded with."""
    names = [name for name in sys.modules if name.split(".")[0] in OWN]
    return {name: sys.modules.pop(name) for name in names}


def panel(module: Any) -> tuple[Any, Any]:
    """The module's widget in a window of the module panel's width, and that window."""
    window = WIDGETS["QWidget"]()
    window.setLayout(QtWidgets.QVBoxLayout())
    widget = module.AnomapWidget(window)
    widget.setup()
    return widget, window


def wait(app: Any, until: Callable[[], bool], seconds: float = 10.0) -> None:
    """Let Qt work until something is so."""
    timer = QtCore.QElapsedTimer()
    timer.start()
    while not until():
        assert timer.elapsed() < 1000 * seconds, "it did not come"
        app.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)


__all__ = ["MODULE", "application", "panel", "vtk", "wait"]
