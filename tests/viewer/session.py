"""`anomap viewer` as a process, as people start it, and its page in a browser."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.service.clinic import ROOT, eventually, free_port, wait_for_port

WAIT_MS = 120_000  # a bound for busy machines, not what it takes


class Session:
    """A running viewer.

    Args:
        folder: For its output.
        models: Folder of bundles.
        source: What to open at the start.
    """

    def __init__(self, folder: Path, models: Path, source: Path | None = None) -> None:
        self.port, self._output = free_port(), folder / "output"
        words = ["viewer", "--no-open", "--port", str(self.port), "--models", str(models)]
        words += [] if source is None else [str(source)]
        # The analysis starts in a folder of its own; it must find this checkout too.
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anomap.cli", *words], cwd=ROOT, stdout=output, stderr=output, env=variables
            )
        wait_for_port(self.port, self.process)

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def said(self) -> str:
        """What it has printed."""
        return self._output.read_text()

    def workers(self) -> list[int]:
        """Process IDs of its children."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(word) for path in tasks.glob("*/children") for word in path.read_text().split()]


@contextmanager
def viewing(folder: Path, models: Path, source: Path | None = None) -> Iterator[Session]:
    """A running viewer; it has ended in order when the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(folder, models, source)
    try:
        yield session
    finally:
        status = session.stop()
    assert status in (0, -signal.SIGKILL), session.said()


class Tab:
    """The page in a tab of the browser.

    Args:
        browser: Chromium.
        session: Whose page.
    """

    def __init__(self, browser: Browser, session: Session) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.page.set_default_timeout(WAIT_MS)
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.on("websocket", lambda socket: self.asked.add(socket.url))
        self.page.goto(session.url)
        self.page.wait_for_selector("#notice")

    def send(self, *paths: Path) -> None:
        """Send files from the browser, and wait until they are read or refused."""
        with self.page.expect_response("**/upload"):
            self.page.set_input_files("#files", [str(path) for path in paths])

    def type_path(self, path: Path) -> None:
        """Open a path by typing it."""
        self.page.fill("#path", str(path))
        self.page.press("#path", "Enter")

    def wait_for_volume(self, name: str) -> None:
        """Until a series with this in its name is shown."""
        self.page.locator(".v-select", has_text=name).wait_for()
        self.page.wait_for_selector("#run:not([disabled])")

    def choose(self, field: str, item: str) -> None:
        """Choose from a list."""
        self.page.locator(f".v-select:has(#{field})").click()
        self.page.locator(".v-overlay .v-list-item", has_text=item).click()

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.page.locator(selector).inner_text()

    def message(self, text: str) -> None:
        """Until the status line says something."""
        self.page.locator("#message", has_text=text).wait_for()

    def places(self) -> dict[str, str]:
        """Name of a view -> where it is."""
        names = [line.split() for line in self.page.locator(".view-name").all_inner_texts()]
        return {words[0]: " ".join(words[1:]) for words in names}

    def picture(self) -> np.ndarray[Any, Any]:
        """The views as they look now, ``(R, C, 3)``."""
        content = self.page.locator(".views").screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)

    def still(self) -> np.ndarray[Any, Any]:
        """The views once they stay as they are: three views are drawn one after the other, roughly at first."""
        seen = [self.picture()]

        def settled() -> bool:
            self.page.wait_for_timeout(700)
            seen.append(self.picture())
            return np.array_equal(seen[-2], seen[-1])

        self.until(settled, "the picture stays")
        return seen[-1]

    def coloured(self) -> float:
        """Share of coloured pixels in the views."""
        picture = self.picture()
        return float((picture.max(axis=2) - picture.min(axis=2) > 40).mean())

    def until(self, look: Any, what: str) -> Any:
        """What `look` gives once it is true; the browser goes on meanwhile."""

        def looked() -> Any:
            self.page.wait_for_timeout(100)
            return look()

        return eventually(looked, what, WAIT_MS / 1000)
