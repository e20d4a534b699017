"""Between the page's state and the logic: what each button does, and what the page is told.

A handler returns at once: trame takes one message after the other, and Cancel must get through. What takes time is a
task (reading images) or another process (the analysis).
"""

from __future__ import annotations

import asyncio
import functools
import io
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trame.app.asynchronous import create_task

from anomap.bundle import list_bundles
from anomap.output import as_error
from anomap.viewer import shared
from anomap.viewer.open import Images, label, open_images
from anomap.viewer.views import Views
from anomap.viewer.volume import add_volume, remove_volume

_TICK_S = 0.05
NO_RESULT: dict[str, Any] = {
    "verdict": "", "gate": "", "cohort": "", "reasons": [], "warnings": [], "rows": [], "jumped": -1, "reports": [],
    "threshold": 0.0, "maximum": 1.0, "unit": "", "reconstruction": False,
}  # fmt: skip
START: dict[str, Any] = {
    "path": "", "opening": False, "error": "", "left_out": [], "series": [], "chosen": None, "loaded": False,
    "model": "auto", "models": ["auto"], "preset": "fast", "device": "auto", "only_shown": False,
    "running": False, "cancelling": False, "message": "", "progress": 0, "log": [], "opacity": 0.6, **NO_RESULT,
}  # fmt: skip


def _told(handler: Callable[..., None]) -> Callable[..., None]:
    """A handler of the page whose failure becomes a line on the page; trame would print a traceback."""

    @functools.wraps(handler)
    def guarded(self: Application, *words: Any) -> None:
        try:
            handler(self, *words)
        except Exception as error:
            self.tell(error)

    return guarded


class Application:
    """One person's session: the images opened, the analysis that runs, the result shown.

    Args:
        server: Of the page; its state is the page's.
        views: Where images are shown.
        models: Folder of bundles.
        debug: Print tracebacks.
    """

    def __init__(self, server: Any, views: Views, models: Path, *, debug: bool = False) -> None:
        logic, runner = shared.part("logic"), shared.part("runner")
        self._state, self._views, self._models, self._debug = server.state, views, models, debug
        self._settings = logic.Settings
        self._logic = logic.AnomapLogic(views.scene, runner.LocalRunner(sys.executable), self._file_of)
        self._images: Images | None = None
        self._node: Any = None
        self._outcome: Any = None
        self._shown: int | None = None
        self._uploads = Path(tempfile.mkdtemp(prefix="anomap-viewer-"))
        self._state.update(START | {"models": ["auto", *(info.name for info in list_bundles(models))]})
        for name, handler in (
            ("chosen", self._on_chosen),
            ("opacity", self._on_opacity),
            ("threshold", self._on_threshold),
            ("reconstruction", self._on_reconstruction),
        ):
            self._state.change(name)(functools.partial(_ignoring_state, handler))

    @property
    def busy(self) -> bool:
        """Whether an analysis runs or images are read."""
        return bool(self._state.running or self._state.opening)

    def upload_folder(self) -> Path:
        """A new, empty folder for files from the browser."""
        return Path(tempfile.mkdtemp(dir=self._uploads))

    def open(self, source: Path) -> asyncio.Task[None] | None:
        """Begin to read images, of which the first series is then shown; the task, None while something else runs."""
        if self.busy:
            return None
        with self._state:
            self._state.update({"opening": True, "error": ""})
        task: asyncio.Task[None] = create_task(self._open(source))
        return task

    @_told
    def open_typed(self) -> None:
        """Open the path in the page's field."""
        path = str(self._state.path or "").strip()
        if path:
            self.open(Path(path).expanduser())

    @_told
    def run(self) -> None:
        """Start the analysis of the volume shown; returns at once."""
        if self.busy or self._node is None:
            return
        self._state.error = ""
        self._forget()
        state = self._state
        settings = self._settings(
            model=state.model,
            preset=state.preset,
            device=state.device,
            onlyShown=bool(state.only_shown),
            modelFolder=str(self._models),
        )
        self._logic.start(self._node, settings)
        self._report_progress()
        create_task(self._follow())

    @_told
    def cancel(self) -> None:
        """End the analysis."""
        self._logic.cancel()

    @_told
    def jump(self, index: int) -> None:
        """Show the place of a row of the table in all views."""
        if self._outcome is not None and 0 <= index < len(self._outcome.rows):
            self._logic.jumpTo(self._outcome.rows[index])
            self._state.jumped = index
            self._views.refresh()

    def report(self) -> bytes | None:
        """The DICOM objects of the result as a zip; None when there are none."""
        if self._outcome is None or not self._outcome.dicomFiles:
            return None
        content = io.BytesIO()

        def pack(folder: str) -> None:
            with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(Path(folder).glob("*.dcm")):
                    archive.write(path, path.name)

        self._logic.exportDicom(self._outcome, pack)
        return content.getvalue()

    def tell(self, error: Exception) -> None:
        """Show a failure as one line; the logic's own refusals (ValueError) are made for people already."""
        if self._debug:
            traceback.print_exception(error)
        text = str(error) if isinstance(error, ValueError) else str(as_error(error))
        self._state.error = " ".join(text.splitlines())

    def close(self) -> None:
        """End the analysis if one runs, and remove what was uploaded or unpacked."""
        self._logic.close()
        if self._images is not None:
            self._images.close()
        shutil.rmtree(self._uploads, ignore_errors=True)

    async def _open(self, source: Path) -> None:
        try:
            images = await asyncio.to_thread(open_images, source)
        except Exception as error:
            with self._state:
                self.tell(error)
        else:
            with self._state:
                self._take(images)
                self._discard_uploads(source)
        finally:
            with self._state:
                self._state.opening = False

    def _take(self, images: Images) -> None:
        before, self._images, self._shown = self._images, images, None
        choice = [{"title": label(series), "value": number} for number, series in enumerate(images.series)]
        self._state.update({"series": choice, "left_out": list(images.left_out), "chosen": 0, "message": "", "log": []})
        self._show_series(0)
        if before is not None:
            before.close()

    def _discard_uploads(self, source: Path) -> None:
        """Remove what was sent before."""
        for folder in self._uploads.iterdir():
            if folder not in (source, source.parent):
                shutil.rmtree(folder, ignore_errors=True)

    def _show_series(self, number: int) -> None:
        if self._images is None or number == self._shown:
            return
        self._forget()
        series = self._images.series[number]
        former, self._node = self._node, add_volume(self._views.scene, series, label(series))
        self._views.show(self._node)
        if former is not None:
            remove_volume(self._views.scene, former)
        self._shown = number
        self._state.update({"loaded": True, "error": self._logic.reasonAgainst(self._node)})

    async def _follow(self) -> None:
        while self._state.running:
            await asyncio.sleep(_TICK_S)
            with self._state:
                try:
                    if self._logic.update():
                        self._report_progress()
                except Exception as error:
                    self.tell(error)
                    self._state.running = False

    def _report_progress(self) -> None:
        logic, state = self._logic, self._logic.state.value
        self._state.update(
            {
                "running": state in ("running", "cancelling"),
                "cancelling": state == "cancelling",
                "message": "" if state == "failed" else logic.message,
                "progress": round(100 * logic.fraction),
                "log": list(logic.log),
            }
        )
        if state == "failed":
            self._state.error = logic.message
        if state == "done" and logic.outcome is not None and logic.outcome is not self._outcome:
            self._show_result(logic.outcome)

    def _show_result(self, outcome: Any) -> None:
        self._outcome = outcome
        self._logic.show(outcome, self._state.opacity)
        outcome.overlayNode.GetDisplayNode().SetWindowLevelLocked(True)  # dragging means the image, not the colours
        self._state.update(
            {
                "verdict": outcome.verdict,
                "gate": outcome.verdict if outcome.pValue is None else f"{outcome.verdict} · p = {outcome.pValue:.3g}",
                "cohort": f"{outcome.model} against {outcome.cohort}"
                if outcome.cohort
                else f"{outcome.model}, no cohort",
                "reasons": list(outcome.reasons),
                "warnings": list(outcome.warnings),
                "rows": [_row(index, row, outcome.unit) for index, row in enumerate(outcome.rows)],
                "reports": [Path(name).name for name in outcome.dicomFiles],
                "threshold": outcome.threshold,
                "maximum": outcome.maximum,
                "unit": outcome.unit,
                "jumped": -1,
                "reconstruction": False,
            }
        )
        self._views.refresh()

    def _forget(self) -> None:
        """The result leaves the page and the scene."""
        if self._outcome is not None:
            self._logic.remove(self._outcome)
        self._outcome = None
        self._state.update(NO_RESULT)

    @_told
    def _on_chosen(self) -> None:
        if self._state.chosen is not None and not self.busy:
            self._show_series(int(self._state.chosen))

    @_told
    def _on_opacity(self) -> None:
        if self._outcome is not None:
            self._logic.setOpacity(self._outcome, float(self._state.opacity))
            self._views.refresh()

    @_told
    def _on_threshold(self) -> None:
        if self._outcome is not None:
            self._logic.setThreshold(self._outcome, float(self._state.threshold))
            self._views.refresh()

    @_told
    def _on_reconstruction(self) -> None:
        if self._outcome is not None:
            self._logic.showReconstruction(self._outcome, bool(self._state.reconstruction))
            self._views.refresh()

    def _file_of(self, uid: str) -> str:
        return "" if self._images is None else self._images.file_of(uid)


def _ignoring_state(handler: Callable[[], None], **_: Any) -> None:
    """Call a handler as trame calls listeners: with all of the state, which it has already."""
    handler()


def _row(index: int, row: Any, unit: str) -> dict[str, Any]:
    """A row of the results as the table shows it; scores without a unit have that of the map."""
    return {
        "index": index,
        "what": f"{row.kind} {row.number}",
        "score": f"{row.score:.3g}" + (f" {row.unit}" if row.unit != unit else ""),
        "p": "" if row.p is None else f"{row.p:.3g}",
        "size": row.size,
    }
