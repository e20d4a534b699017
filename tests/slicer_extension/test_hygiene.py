"""What Slicer, and those who review extensions for it, expect of the source: checked without running the panel."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "slicer_extension" / "Anomap"
UI = MODULE / "Resources" / "UI" / "Anomap.ui"
FILES = sorted(path for path in MODULE.rglob("*.py") if "Testing" not in path.parts)
LIBRARY = [path for path in FILES if path.parent.name == "AnomapLib"]
OWN = {"AnomapLib", "AnomapUI"}
HOST = {"slicer", "vtk", "numpy"}
NETWORK = {
    "urllib",
    "http",
    "socket",
    "requests",
    "ssl",
    "ftplib",
    "smtplib",
    "xmlrpc",
    "asyncio",
    "webbrowser",
    "httpx",
}
HEAVY = ("torch", "anomap", "pydicom", "highdicom", "scipy", "PIL", "SimpleITK", "DICOMLib", "PyTorchUtils", "pandas")
MAX_LINES = 400


def name(path: Path) -> str:
    return str(path.relative_to(MODULE))


def imported(tree: ast.AST, everywhere: bool) -> set[str]:
    """Top-level packages imported at file scope, or anywhere; relative imports are own."""
    nodes = ast.walk(tree) if everywhere else ast.iter_child_nodes(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_what_slicer_brings_is_imported_at_file_scope(path: Path):
    allowed = set(sys.stdlib_module_names) | HOST | (set() if path in LIBRARY else OWN | {"qt"})
    assert imported(ast.parse(path.read_text()), everywhere=False) <= allowed


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_the_library_knows_no_qt_and_no_heavy_package(path: Path):
    everywhere = imported(ast.parse(path.read_text()), everywhere=True)
    assert everywhere <= set(sys.stdlib_module_names) | HOST | {"PyTorchUtils"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_can_be_sent(path: Path):
    tree = ast.parse(path.read_text())
    assert not imported(tree, everywhere=True) & NETWORK
    for node in ast.walk(tree):
        attribute = node.attr if isinstance(node, ast.Attribute) else ""
        assert attribute not in {"downloadFile", "downloadAndExtractArchive", "QNetworkAccessManager", "QTcpSocket"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_runs_when_a_file_is_imported(path: Path):
    """At file scope there are definitions, imports and plain values."""
    for node in ast.parse(path.read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign)
        assert docstring or isinstance(node, kinds), f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_stay_short_and_qt_neutral(path: Path):
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES
    for word in ("PythonQt", "PySide", "PyQt", "qt.Qt.", "exec_("):  # what differs between Qt 5 and Qt 6
        assert word not in text


def test_importing_the_module_loads_nothing_heavy():
    """In a new process, in which every heavy package is missing."""
    code = f"""
import sys, tempfile
from pathlib import Path
for name in {HEAVY!r}:
    sys.modules[name] = None
sys.path.insert(0, {str(ROOT)!r})
from tests.slicer_extension import standins
with standins.application(Path(tempfile.mkdtemp())) as application:
    assert application.module.Anomap
    import AnomapLib.models, AnomapLib.install
    assert AnomapLib.models.__name__
    heavy = [name for name in {HEAVY!r} if sys.modules.get(name)]
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def ui_root() -> ElementTree.Element:
    return ElementTree.parse(UI).getroot()


def widgets() -> dict[str, str]:
    """Class of every widget in the .ui file, by name."""
    found = [(str(widget.get("name")), str(widget.get("class"))) for widget in ui_root().iter("widget")]
    assert len(found) == len(dict(found)), "two widgets have one name"
    return dict(found)


def test_every_mrml_widget_gets_the_scene():
    root = ui_root()
    (top,) = root.findall("widget")
    assert top.get("class") == "qMRMLWidget"
    connected = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("sender") == top.get("name")
        and connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    mrml = {name for name, kind in widgets().items() if kind.startswith("qMRML") and name != top.get("name")}
    assert len(mrml) > 1
    assert connected == mrml


def parameters() -> dict[str, str]:
    """Members of the parameter node with their annotation as source, read without importing the module."""
    tree = ast.parse((MODULE / "Anomap.py").read_text())
    (node,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "AnomapParameterNode")
    members = (statement for statement in node.body if isinstance(statement, ast.AnnAssign))
    return {typing.cast(ast.Name, m.target).id: ast.unparse(m.annotation) for m in members}


def test_every_bound_widget_is_bound_to_a_parameter_it_can_show():
    """Slicer's connectors refuse a combo box without choices, and a slider without a range."""
    fits = {
        "qMRMLNodeComboBox": "vtkMRML",
        "QCheckBox": "bool",
        "QLineEdit": "str",
        "QComboBox": "Choice(",
        "ctkSliderWidget": "WithinRange(",
    }
    bound = {}
    for widget in ui_root().iter("widget"):
        for item in widget.findall("property[@name='SlicerParameterName']"):
            assert item.get("stdset") == "0", "a dynamic property"
            bound[item.findtext("string")] = widget.get("class")
    known = parameters()
    assert bound.keys() <= known.keys()
    assert known.keys() - bound.keys() == {"model", "threshold"}, "these two are connected by the panel itself"
    for parameter, kind in bound.items():
        assert fits[str(kind)] in known[str(parameter)], f"a {kind} can't show {parameter}: {known[str(parameter)]}"


def test_widgets_in_the_code_and_in_the_ui_file_are_the_same():
    used = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self.ui", "ui"}:
                used.add(node.attr)
    present = widgets()
    assert used <= present.keys()
    bound = {
        widget.get("name")
        for widget in ui_root().iter("widget")
        if widget.find("property[@name='SlicerParameterName']") is not None
    }
    # What only shows itself needs no code: labels of fields, sections that nothing changes, the notice, the top.
    silent = {n for n, kind in present.items() if kind in {"QLabel", "ctkCollapsibleButton", "qMRMLWidget"}}
    assert present.keys() - used - bound - silent == set(), "a widget that does nothing"


def test_custom_widgets_are_declared():
    declared = {item.findtext("class") for item in ui_root().iter("customwidget")}
    assert declared == {kind for kind in widgets().values() if not kind.startswith("Q")}


def test_what_is_shown_to_people_is_translated():
    """Text set from code goes through `_`."""
    for path in FILES:
        if path in LIBRARY:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in {"setText", "setToolTip", "say", "_say"}:
                texts = [a for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str) and a.value]
                assert not texts, f"{name(path)}:{node.lineno}"
