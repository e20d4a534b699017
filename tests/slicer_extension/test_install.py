"""What is missing is installed on Apply, in the way of the Slicer at hand; the chosen Python is never changed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "slicer_extension" / "Anomap"


class Host(SimpleNamespace):
    """A stand-in for the module ``slicer``: what is asked and installed is written down."""

    def __init__(self, folder: Path) -> None:
        super().__init__(calls=[], settings={}, agrees=True, fails="", installed={"torch", "anomap"})
        self.__name__ = "slicer_host"
        self.app = SimpleNamespace(slicerHome=str(folder))
        self.util = SimpleNamespace(
            settingsValue=lambda key, default: self.settings.get(key, default),
            startupEnvironment=lambda: {"PATH": "/usr/bin", "CLEAN": "1"},
            confirmOkCancelDisplay=self.confirm,
            pip_install=lambda what: self.install("pip_install", what, "anomap"),
        )

    def confirm(self, text: str) -> bool:
        self.calls.append(("confirm", text))
        return self.agrees

    def install(self, how: str, what: Any, name: str) -> Any:
        self.calls.append((how, what))
        if self.fails:
            raise ValueError(self.fails)
        self.installed.add(name)
        return object()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Slicer 5.10 with the PyTorch extension, and everything installed."""
    monkeypatch.syspath_prepend(str(MODULE))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    host = Host(tmp_path)
    find = importlib.util.find_spec

    def found(name: str) -> Any:
        if name in {"torch", "anomap"}:
            return object() if name in host.installed else None
        return find(name)

    monkeypatch.setattr(importlib.util, "find_spec", found)

    class Logic:
        def installTorch(self, askConfirmation: bool = False, torchVersionRequirement: str = "") -> Any:
            assert askConfirmation, "nothing is installed without a question"
            made = host.install("installTorch", torchVersionRequirement, "torch") if host.agrees else None
            return made

    torch_utils = ModuleType("PyTorchUtils")
    torch_utils.PyTorchUtilsLogic = Logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", torch_utils)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "PythonSlicer").touch()
    return host


def make_5_12(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer 5.12 has `slicer.packaging`."""
    packaging = ModuleType("slicer_host.packaging")

    def ensure(requirements: list[str], requester: str) -> None:
        if not host.agrees:
            raise RuntimeError("User declined package installation")
        host.install("pip_ensure", (requirements, requester), "anomap")

    packaging.load_requirements = lambda path: [
        line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")
    ]
    packaging.pip_ensure = ensure
    monkeypatch.setitem(sys.modules, "slicer_host", ModuleType("slicer_host"))
    monkeypatch.setitem(sys.modules, "slicer_host.packaging", packaging)


def installer(host: Host) -> Any:
    from AnomapLib.install import Installer

    return Installer(host)


def test_nothing_is_asked_when_all_is_there(host: Host):
    installer(host).ensure()
    assert host.calls == []


def test_slicer_5_12_installs_by_its_packaging(host: Host, monkeypatch: pytest.MonkeyPatch):
    make_5_12(host, monkeypatch)
    host.installed.clear()
    assert installer(host).missing() == ["torch", "anomap"]
    installer(host).ensure()
    assert host.calls == [
        ("installTorch", ">=2.9"),
        ("pip_ensure", (["anomap>=0.1"], "Anomap")),
    ]
    assert installer(host).missing() == []


def test_slicer_5_10_asks_and_installs_by_pip(host: Host):
    host.installed.remove("anomap")
    installer(host).ensure()
    assert [call[0] for call in host.calls] == ["confirm", "pip_install"]
    option, path = host.calls[1][1].split(" ", 1)
    assert option == "-r"
    assert "anomap>=0.1" in Path(path.strip('"')).read_text()


@pytest.mark.parametrize("release", ["5.10", "5.12"])
@pytest.mark.parametrize("lacks", ["torch", "anomap"])
def test_declining_installs_nothing(host: Host, monkeypatch: pytest.MonkeyPatch, release: str, lacks: str):
    if release == "5.12":
        make_5_12(host, monkeypatch)
    host.installed.remove(lacks)
    host.agrees = False
    with pytest.raises(RuntimeError, match=r"was not installed: .*declined"):
        installer(host).ensure()
    assert lacks not in host.installed


@pytest.mark.parametrize("release", ["5.10", "5.12"])
def test_a_failed_installation_is_one_line(host: Host, monkeypatch: pytest.MonkeyPatch, release: str):
    if release == "5.12":
        make_5_12(host, monkeypatch)
    host.installed.remove("anomap")
    host.fails = "no matching distribution\nlong log"
    with pytest.raises(RuntimeError, match=r"^anomap was not installed: no matching distribution$"):
        installer(host).ensure()


def test_an_installation_without_effect_is_noticed(host: Host):
    """Slicer skips `pip_ensure` in testing mode, and says nothing."""
    host.installed.remove("anomap")
    host.util.pip_install = lambda what: None
    with pytest.raises(RuntimeError, match="anomap could not be installed"):
        installer(host).ensure()


def test_without_the_pytorch_extension_it_is_named(host: Host, monkeypatch: pytest.MonkeyPatch):
    host.installed.remove("torch")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="install the extension PyTorch"):
        installer(host).ensure()


def test_slicers_own_python_is_found(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert installer(host).python() == str(tmp_path / "bin" / "PythonSlicer")
    assert installer(host).environment() is None, "it needs the variables of Slicer's launcher"
    first = tmp_path / "first"
    first.mkdir()
    (first / "PythonSlicer").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(first))
    assert installer(host).python() == str(first / "PythonSlicer")


def test_a_chosen_python_runs_outside_slicers_environment(host: Host):
    host.settings["Anomap/Python"] = f" {sys.executable} "
    assert installer(host).python() == sys.executable
    assert installer(host).environment() == {"PATH": "/usr/bin", "CLEAN": "1"}


def test_a_chosen_python_is_asked_and_not_changed(host: Host):
    host.installed.clear()  # of Slicer's own Python, which doesn't matter now
    host.settings["Anomap/Python"] = sys.executable
    assert installer(host).missing() == []
    installer(host).ensure()
    assert host.calls == []


def test_a_chosen_python_that_lacks_something_is_refused(host: Host, tmp_path: Path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    host.settings["Anomap/Python"] = str(bare)
    assert installer(host).missing() == ["torch", "anomap"]
    with pytest.raises(RuntimeError, match="lacks torch and anomap"):
        installer(host).ensure()
    assert host.calls == []


@pytest.mark.parametrize("content", [None, "", "#!/bin/sh\nexit 1\n"])
def test_a_chosen_python_that_is_none_is_one_line(host: Host, tmp_path: Path, content: str | None):
    path = tmp_path / "python"
    if content is not None:
        path.write_text(content)
        path.chmod(0o755)
    host.settings["Anomap/Python"] = str(path)
    with pytest.raises(RuntimeError, match=r"^the (chosen )?Python [^\n]+$"):
        installer(host).ensure()
