"""`anomap viewer`. Imports no trame, no VTK and no torch before it runs."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from anomap.errors import AnomapError, ExitStatus, require_extra

_NEEDED = ("trame", "trame_slicer", "slicer", "vtkmodules")
# What VTK can draw with where there is no screen: a library, and the window class that uses it.
_OFF_SCREEN = (("libEGL.so.1", "vtkEGLRenderWindow"), ("libOSMesa.so.8", "vtkOSOpenGLRenderWindow"))
_WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Look at images and results in the browser: slice views, overlay, regions. This machine only."""

    source: Annotated[Positional[Path | None], arg(metavar="INPUT", help="DICOM folder, zip or file to open")] = None
    port: int = 0  # of the page; 0: a free one
    open: bool = True  # open the browser
    models: Annotated[Path | None, arg(help="folder of model bundles; else $ANOMAP_MODELS, else those of anomap")] = (
        None
    )
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Serve the page until a signal comes; the exit status."""
        if not 0 <= self.port < 2**16:
            raise AnomapError("E200", f"--port must lie between 0 and 65535, got {self.port}")
        require_extra("viewer", *_NEEDED)
        _choose_window()
        from anomap.cli import model_folder
        from anomap.viewer.server import serve

        serve(self.source, self.port, model_folder(self.models), open_browser=self.open, debug=self.debug)
        return ExitStatus.OK


def _choose_window() -> None:
    """Tell VTK how to draw where there is no display: it decides when it is loaded."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get(_WINDOW):
        return
    for library, window in _OFF_SCREEN:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        os.environ[_WINDOW] = window
        return
    raise AnomapError("E203", "neither EGL nor OSMesa is there to draw with", "apt-get install libegl1 libosmesa6")
