"""What the analysis needs beyond Slicer, and how it gets there: on Apply, after a question, never at import.

torch comes by the PyTorch extension, which picks the build for the graphics card. anomap comes by
`slicer.packaging` (Slicer 5.12) or `slicer.util.pip_install` (5.10). Both go into Slicer's own Python, unless another
Python was chosen under "Advanced": that one is only asked what it has, and is never changed.
"""

import importlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

SETTING = "Anomap/Python"
NEEDED = ("torch", "anomap")
TORCH = ">=2.9"  # anomap was tested with 2.13 only; a new Slicer may bring an older torch along, which is let be
REQUIREMENTS = Path(__file__).parents[1] / "Resources" / "requirements.txt"
ASK_SECONDS = 60.0


class Installer:
    """Knows the Python that runs the analysis.

    Args:
        slicerModule: The module ``slicer``; injected, so that tests can give a stand-in.
    """

    def __init__(self, slicerModule) -> None:
        self.slicer = slicerModule

    def chosen(self) -> str:
        """The Python chosen by the user, "" for Slicer's own."""
        return str(self.slicer.util.settingsValue(SETTING, "") or "").strip()

    def python(self) -> str:
        """The Python that runs the analysis.

        Raises:
            RuntimeError: One line, when it is not there.
        """
        python = self.chosen() or self._pythonSlicer()
        if not Path(python).is_file():
            raise RuntimeError(f"the Python that shall run the analysis does not exist: {python}")
        return python

    def environment(self) -> dict[str, str] | None:
        """The environment of that Python; None for Slicer's own, which needs the variables of its launcher."""
        return self.slicer.util.startupEnvironment() if self.chosen() else None

    def missing(self) -> list[str]:
        """What is not installed, of "torch" and "anomap".

        Raises:
            RuntimeError: One line, when the chosen Python can't be asked.
        """
        if not self.chosen():
            importlib.invalidate_caches()  # something may have been installed since the last look
            return [name for name in NEEDED if importlib.util.find_spec(name) is None]
        code = f"import importlib.util as u; print(*[n for n in {NEEDED!r} if u.find_spec(n) is None])"
        try:
            answer = subprocess.run(  # noqa: S603 - the user chose this Python
                [self.python(), "-c", code],
                env=self.environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=ASK_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"the chosen Python can't be started: {self.chosen()}") from error
        return answer.stdout.split()

    def ensure(self) -> None:
        """Install what is missing, after the user agreed. Does nothing when all is there.

        Raises:
            RuntimeError: One line: declined, failed, or the chosen Python lacks something.
        """
        missing = self.missing()
        if missing and self.chosen():
            raise RuntimeError(f"the chosen Python lacks {' and '.join(missing)}: install it there")
        if "torch" in missing:
            self._installTorch()
        if "anomap" in missing:
            self._installAnomap()
        left = self.missing() if missing else []
        if left:
            raise RuntimeError(f"{' and '.join(left)} could not be installed; see the Python console")

    def _pythonSlicer(self) -> str:
        name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
        return shutil.which(name) or str(Path(self.slicer.app.slicerHome) / "bin" / name)

    def _installTorch(self) -> None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise RuntimeError("install the extension PyTorch with the Extensions Manager, then restart") from error
        try:
            torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=TORCH)
        except Exception as error:  # pip and light-the-torch raise what they like
            raise RuntimeError(f"PyTorch was not installed: {_firstLine(error)}") from error
        if torch is None:
            raise RuntimeError("PyTorch was not installed: declined")

    def _installAnomap(self) -> None:
        packaging = self._packaging()
        question = "The Python package anomap will be installed into Slicer's Python. Continue?"
        if packaging is None and not self.slicer.util.confirmOkCancelDisplay(question):
            raise RuntimeError("anomap was not installed: declined")
        try:
            if packaging is None:
                self.slicer.util.pip_install(f'-r "{REQUIREMENTS.as_posix()}"')
            else:  # asks by itself
                packaging.pip_ensure(packaging.load_requirements(REQUIREMENTS), requester="Anomap")
        except Exception as error:  # pip raises what it likes
            raise RuntimeError(f"anomap was not installed: {_firstLine(error)}") from error

    def _packaging(self):
        """The module `slicer.packaging`, None before Slicer 5.12."""
        try:
            return importlib.import_module(f"{self.slicer.__name__}.packaging")
        except ImportError:
            return None


def _firstLine(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
