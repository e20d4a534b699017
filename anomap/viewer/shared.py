"""Where the logic that anomap shares with its Slicer extension lies, and how it is imported.

`AnomapLib` lies beside the module file in Slicer. Here it is the copy inside the wheel, or the extension's folder of a
checkout, registered under its own name, so that `sys.path` stays as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from anomap.errors import AnomapError

_NAME = "AnomapLib"
_HERE = Path(__file__).resolve().parent
PLACES = (_HERE / _NAME, _HERE.parents[1] / "slicer_extension" / "Anomap" / _NAME)  # a wheel, a checkout


def folder() -> Path:
    """The package's folder.

    Raises:
        AnomapError: E203 when neither place has it.
    """
    for place in PLACES:
        if (place / "__init__.py").is_file():
            return place
    raise AnomapError("E203", f"{_NAME} is not part of this installation", "Install anomap again from its wheel.")


def part(name: str) -> ModuleType:
    """A module of `AnomapLib`.

    Args:
        name: "logic", "runner", ...
    """
    if _NAME not in sys.modules:
        _register(folder())
    return importlib.import_module(f"{_NAME}.{name}")


def _register(place: Path) -> None:
    spec = importlib.util.spec_from_file_location(_NAME, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None, place  # noqa: S101 (for mypy: a .py file always has one)
    assert spec.loader is not None, place  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
