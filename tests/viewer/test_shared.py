"""The logic is found where it lies, and nothing else becomes importable by that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anomap.errors import AnomapError
from anomap.viewer import shared
from tests.service.clinic import ROOT

LIBRARY = ROOT / "slicer_extension" / "Anomap" / "AnomapLib"


def test_a_checkout_has_it_in_the_extension():
    assert shared.folder() == LIBRARY


def test_a_wheel_has_its_own_copy(tmp_path, monkeypatch):
    copy = tmp_path / "AnomapLib"
    copy.mkdir()
    (copy / "__init__.py").write_text("")
    monkeypatch.setattr(shared, "PLACES", (copy, LIBRARY))
    assert shared.folder() == copy


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "PLACES", (tmp_path,))
    with pytest.raises(AnomapError, match="E203 AnomapLib is not part of this installation"):
        shared.folder()


def test_it_is_imported_under_its_own_name_and_the_path_stays():
    text = (
        "import sys; before = list(sys.path); from anomap.viewer import shared; logic = shared.part('logic'); "
        "assert sys.path == before; print(logic.__name__, shared.part('logic') is logic, "
        "sys.modules['AnomapLib'].__path__[0])"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AnomapLib.logic", "True", str(LIBRARY)]


def test_the_wheel_takes_it_along():
    import tomllib

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"][str(LIBRARY.relative_to(ROOT))] == "anomap/viewer/AnomapLib"
