"""Stand-ins for what only the Slicer application has: Qt under the name qt, CTK, MRML widgets, module base classes.

`application` puts them in place, with a real MRML scene from slicer-core, so that the module's own files run unmodified
on PySide6. They follow PythonQt where it differs from PySide6 (`PythonQt`), so that code which works here has a good
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

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtUiTools import QUiLoader

from tests.slicer_extension import parameters
from tests.slicer_extension.widgets import QT, WIDGETS, CollapsibleButton, PythonQt, SliderWidget

MODULE = Path(__file__).parents[2] / "slicer_extension" / "Anomap"
OWN = ("Anomap", "AnomapLib", "AnomapUI")


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
    found = (child for child in widget.findChildren(QtWidgets.QWidget) if isinstance(child, PythonQt))
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


def _of_qt(name: str) -> Any:
    """PySide6 makes its classes when they are asked for, so they can't be listed."""
    return next(getattr(part, name) for part in (QtCore, QtGui, QtWidgets) if hasattr(part, name))


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
    app = QtWidgets.QApplication.instance()
    if app is None:
        app = QtWidgets.QApplication(["stand-in"])
        app.setStyle("Fusion")  # once: it would also touch widgets of earlier tests, of which Python holds only halves
    QtCore.QCoreApplication.setOrganizationName("anomap-tests")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(folder))
    scene = scene or slicer.vtkMRMLScene()
    qt = _module("qt", **QT, QFileDialog=FileDialog, QDesktopServices=DesktopServices, __getattr__=_of_qt)
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
