"""`anomap viewer` before it serves: what is missing is said in one line, and help stays fast."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from anomap.cli import main
from anomap.errors import ExitStatus
from anomap.viewer import commands
from tests.service.clinic import ROOT


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    """No display, and no choice made yet."""
    for name in ("DISPLAY", "VTK_DEFAULT_OPENGL_WINDOW"):
        monkeypatch.setenv(name, "")  # so that it is restored also when it wasn't set
        monkeypatch.delenv(name)


def test_a_missing_extra_is_one_line_with_the_way_to_it(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trame_slicer" else find(name))
    assert main(["viewer"]) == ExitStatus.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "E203 trame_slicer not installed. pip install 'anomap[viewer]'"


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_impossible_port_is_refused(port, capsys):
    assert main(["viewer", "--port", port]) == ExitStatus.USAGE
    assert "E200 --port must lie between 0 and 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "window"),
    [("libEGL.so.1", "vtkEGLRenderWindow"), ("libOSMesa.so.8", "vtkOSOpenGLRenderWindow")],
)
def test_without_a_display_vtk_draws_with_what_is_there(there, window, monkeypatch):
    def load(name):
        if name != there:
            raise OSError(name)

    monkeypatch.setattr(commands.ctypes, "CDLL", load)
    commands._choose_window()
    assert os.environ["VTK_DEFAULT_OPENGL_WINDOW"] == window


def test_without_anything_to_draw_with_it_says_what_to_install(monkeypatch, capsys):
    def load(name):
        raise OSError(name)

    monkeypatch.setattr(commands.ctypes, "CDLL", load)
    assert main(["viewer"]) == ExitStatus.USAGE
    assert capsys.readouterr().err == (
        "E203 neither EGL nor OSMesa is there to draw with. apt-get install libegl1 libosmesa6\n"
    )


@pytest.mark.parametrize(("name", "value"), [("DISPLAY", ":0"), ("VTK_DEFAULT_OPENGL_WINDOW", "vtkOther")])
def test_a_display_or_a_choice_is_left_alone(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    commands._choose_window()
    assert os.environ.get("VTK_DEFAULT_OPENGL_WINDOW") == (value if name != "DISPLAY" else None)


@pytest.mark.parametrize("words", [["--help"], ["viewer", "--help"], ["info"]])
def test_other_commands_load_none_of_it(words):
    text = (
        "import sys; from anomap.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "met = {name.split('.')[0] for name in sys.modules} & "
        "{'trame', 'trame_server', 'slicer', 'vtkmodules', 'aiohttp', 'torch'}\n"
        "assert not met, met"
    )
    done = subprocess.run([sys.executable, "-c", text, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
