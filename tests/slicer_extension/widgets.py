"""Stand-ins for the widgets of Qt, CTK and MRML, with the manners of PythonQt on PySide6.

Signals are connected to methods and scenes observed by weak references: a function that held its widget would keep it
until the garbage collector finds both, and be called while it takes them apart, which crashes Qt.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

os.environ["QT_QPA_PLATFORM"] = "offscreen"  # read when the QApplication is made: no display is needed


class PythonQt:
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
    return type(name, (PythonQt, base), {"slicer_name": name})


_QT_WIDGETS = ("QLabel", "QPushButton", "QToolButton", "QComboBox", "QCheckBox", "QLineEdit", "QProgressBar", "QWidget")
QT = {name: _as_in_slicer(getattr(QtWidgets, name)) for name in (*_QT_WIDGETS, "QPlainTextEdit")}
QT["QTimer"] = _as_in_slicer(QtCore.QTimer)


class CollapsibleButton(PythonQt, QtWidgets.QWidget):
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


class SliderWidget(PythonQt, QtWidgets.QWidget):
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
        self._slider.sliderMoved.connect(self._moved)

    def _moved(self, tick: int) -> None:
        self._box.setValue(self._box.maximum() * tick / self.TICKS)

    def _changed(self, value: float) -> None:
        self._slider.setValue(round(self.TICKS * value / (self._box.maximum() or 1.0)))
        self.valueChanged.emit(value)

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, value: self._box.setDecimals(value))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, value: self._box.setSuffix(value))


def _weakly(method: Callable[[], None]) -> Callable[..., None]:
    """An observer that calls a method of a widget as long as there is one."""
    known = weakref.WeakMethod(method)

    def call(*_: Any) -> None:
        alive = known()
        if alive is not None and shiboken6.isValid(alive.__self__):
            alive()

    return call


class MrmlWidget(PythonQt, QtWidgets.QWidget):
    slicer_name = "qMRMLWidget"
    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class NodeComboBox(PythonQt, QtWidgets.QComboBox):
    """The nodes of a scene; without a scene it stays empty, as the real one does."""

    slicer_name = "qMRMLNodeComboBox"
    currentNodeChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene, self._kinds, self._nodes = None, [], []
        self.currentIndexChanged.connect(self._chosen)

    nodeTypes = Property("QStringList", lambda self: self._kinds, lambda self, kinds: setattr(self, "_kinds", kinds))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            scene.AddObserver(event, _weakly(self._fill))
        self._fill()

    def _chosen(self, _: int) -> None:
        self.currentNodeChanged.emit(self.currentNode())

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


class TableView(PythonQt, QtWidgets.QTableView):
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
        self.selectionModel().selectionChanged.connect(self._selected)

    def _selected(self, *_: Any) -> None:
        self.tableSelectionChanged.emit()

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
