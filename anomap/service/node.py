"""The node as a whole: start everything, wait, stop everything."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomap import __version__
from anomap.bundle import list_bundles, verify
from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from anomap.service.database import Database
from anomap.service.janitor import Janitor
from anomap.service.jobs import Jobs
from anomap.service.log import log, silence_libraries
from anomap.service.pool import Worker
from anomap.service.receiver import Receiver
from anomap.service.sender import Sender
from anomap.service.settings import ServiceConfig
from anomap.service.spool import Spool
from anomap.service.web import Page

_STOP_WAIT_S = 40.0


class Node:
    """Everything that runs.

    Args:
        config: What it is told.
        models: Folder of bundles.

    Raises:
        AnomapError: E3xx when a model is missing or was changed: a report must never name weights that weren't used;
            E200 when keys can't be used; E202 and E603 for the state folder.
    """

    def __init__(self, config: ServiceConfig, models: Path) -> None:
        silence_libraries()
        self.config, self.stop = config, threading.Event()
        digest = _digest(models, config.analysis)
        self.spool = Spool(config.state.absolute())
        self._lock = self.spool.lock()
        self.spool.prepare()
        self.database = Database(self.spool.database)
        self.jobs = Jobs(self.database, digest, config.work.quiet_s)
        self.janitor = Janitor(self.spool, self.database, self.jobs, config.disk, self.stop)
        self.senders = [
            Sender(place, config.listen.ae_title, self.spool, self.database, self.stop) for place in config.destination
        ]
        analysis = replace(config.analysis, time_limit_s=config.work.time_limit_s, overwrite=True)
        names = [place.name for place in config.destination]
        self.workers = [
            Worker(
                number, self.spool, self.database, self.jobs, models.absolute(), analysis, config.work, names, self.stop
            )
            for number in range(1, config.work.workers + 1)
        ]
        self.receiver = Receiver(config, self.spool, self.database, self.jobs, self._committed)
        self.page = Page(config.web, self.spool, self.database, lambda: self.alive) if config.web.port else None

    @property
    def alive(self) -> bool:
        """Whether every part still works."""
        return self.receiver.alive and all(thread.is_alive() for thread in self._threads)

    @property
    def _threads(self) -> list[threading.Thread]:
        return [self.janitor, *self.workers, *self.senders]

    def start(self) -> None:
        """Take up what the last run left, then listen.

        Raises:
            AnomapError: E200 when a port can't be listened on.
        """
        recovered = self.jobs.recover(time.time())
        swept = self.spool.sweep(self.jobs.paths())
        log("started", version=__version__, recovered=recovered, swept=swept, workers=len(self.workers))
        for thread in self._threads:
            thread.start()
        if self.page is not None:
            self.page.start()
        self.receiver.start()

    def close(self) -> None:
        """Stop: no new images, running analyses go back to the queue, what is sent is finished."""
        log("stopping")
        self.receiver.stop()
        self.stop.set()
        if self.page is not None:
            self.page.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_STOP_WAIT_S)
        self.database.close()
        self._lock.close()
        log("stopped")

    def _committed(self, transaction: str, there: list[str], missing: list[str]) -> None:
        for sender in self.senders:
            sender.committed(transaction, there, missing)


def serve(config: ServiceConfig, models: Path, wait: Callable[[Node], Any]) -> None:
    """Run a node until `wait` returns or raises; then stop it.

    Args:
        config: What it is told.
        models: Folder of bundles.
        wait: Called when everything runs.

    Raises:
        AnomapError: As `Node` and `Node.start` do.
    """
    node = Node(config, models)
    try:
        node.start()
        wait(node)
    finally:
        node.close()


def _digest(models: Path, config: AnalyzeConfig) -> str:
    """Hash of everything that can change a result: software, models, settings.

    Raises:
        AnomapError: E3xx when there is no model, or one does not match its hash.
    """
    infos = list_bundles(models)
    if not infos:
        raise AnomapError("E300", "the model folder holds no bundle")
    for info in infos:
        verify(info)
    parts = [__version__, config.sha256(config.device), *sorted(info.sha256 for info in infos)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
