"""Sends the outbox of one archive and waits until it has confirmed every object."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import groupby

from pydicom.uid import generate_uid

from anomap.errors import AnomapError
from anomap.service.archive import DicomArchive, WebArchive
from anomap.service.database import Database
from anomap.service.log import log, log_failure
from anomap.service.outbox import Outbox
from anomap.service.pool import POLL_S
from anomap.service.settings import Destination
from anomap.service.spool import Spool, key_of
from anomap.service.types import Item

_ASK_AGAIN_S = 5.0  # an archive may index what it has taken a little later


class Sender(threading.Thread):
    """One archive's thread.

    Args:
        destination: The archive.
        ae_title: Ours.
        spool: Where the objects lie.
        database: Of the node.
        stop: Set when the node stops.

    Raises:
        AnomapError: E200 when keys or secrets can't be used.
    """

    def __init__(
        self, destination: Destination, ae_title: str, spool: Spool, database: Database, stop: threading.Event
    ) -> None:
        super().__init__(name=f"sender-{destination.name}")
        self.destination, self.spool, self.database, self.stop = destination, spool, database, stop
        self.outbox = Outbox(database, destination.name, destination.attempts, destination.backoff_s)
        asks_web = destination.confirm == "qido"
        self._web = WebArchive(destination) if asks_web or destination.kind == "dicomweb" else None
        self._dicom = DicomArchive(destination, ae_title) if destination.kind == "dicom" else None

    def run(self) -> None:
        """Send and confirm until the node stops."""
        try:
            while not self.stop.is_set():
                try:
                    busy = self.send_due() + self.confirm_due()
                except Exception as error:  # a bug or a broken disk must not silently end the sending
                    log_failure("sender_failed", error, destination=self.destination.name)
                    busy = 0
                    self.stop.wait(1.0)
                if not busy:
                    self.stop.wait(POLL_S)
        finally:
            self.database.close()

    def send_due(self) -> int:
        """Send what is due of one job, each object for itself: a refused one holds up no other. How many were due."""
        items = self.outbox.due(time.time())
        if not items:
            return 0
        archive = self._dicom or self._web
        assert archive is not None  # noqa: S101 (one of them is there, as the settings say)
        left = list(items)
        try:
            with archive.session([item.sop_class for item in items]) as session:
                while left and not self.stop.is_set():
                    item = left.pop(0)
                    self._one(archive, session, item)
        except AnomapError as error:
            for item in left:
                self._failed(item, error)
        return len(items)

    def _one(self, archive: DicomArchive | WebArchive, session: object, item: Item) -> None:
        try:
            archive.send(session, self.spool.root / item.path, item.sop_class)
        except AnomapError as error:
            self._failed(item, error)
            return
        except Exception as error:
            log_failure("object_unreadable", error, job=item.job, object=key_of(item.uid))
            self._failed(item, AnomapError("E601", f"the object can't be sent ({type(error).__name__})"))
            return
        now = time.time()
        self.outbox.sent(item, now, ask_at=now)
        if self.destination.confirm == "none":
            self.outbox.confirmed(item.id, now)
        self.database.count("sent", self.destination.name)
        log("object_sent", job=item.job, object=key_of(item.uid), destination=self.destination.name)

    def confirm_due(self) -> int:
        """Ask about what was sent; how many objects were settled."""
        items = self.outbox.unconfirmed(time.time())
        if not items:
            return 0
        if self.destination.confirm == "commitment":
            return self._ask_commitment(items)
        return sum(self._ask_web(item) for item in items)

    def _ask_web(self, item: Item) -> bool:
        now = time.time()
        assert self._web is not None  # noqa: S101 (confirm is "qido")
        try:
            if self._web.has(item.study_uid, item.uid):
                self._confirmed(item, now)
                return True
            problem = AnomapError("E602", "the archive doesn't list the object")
        except AnomapError as error:
            problem = error
        self._not_yet(item, problem, now)
        return False

    def _ask_commitment(self, items: Sequence[Item]) -> int:
        """Ask once for all that was sent of a job; the answer comes by `committed`."""
        assert self._dicom is not None  # noqa: S101 (as the settings say)
        now = time.time()
        for _, group in groupby(items, key=lambda item: item.job):
            waiting = []
            for item in group:
                if item.transaction_uid is not None and now - (item.sent_at or 0.0) > self.destination.confirm_s:
                    self._failed(item, AnomapError("E602", "the archive didn't answer the storage commitment"))
                else:
                    waiting.append(item)
            if not waiting:
                continue
            transaction = str(generate_uid(prefix=None))
            # Written down first: the answer may be quicker than the end of the question.
            self.outbox.asked(waiting, now, transaction, now + self.destination.confirm_s / 3)
            try:
                self._dicom.ask(transaction, [(item.sop_class, item.uid) for item in waiting])
            except AnomapError as error:
                for item in waiting:
                    self._not_yet(item, error, now)
        return 0

    def committed(self, transaction: str, there: Sequence[str], missing: Sequence[str]) -> None:
        """The archive's answer to a storage commitment, on the listener's thread."""
        now = time.time()
        for item in self.outbox.of_transaction(transaction):
            if item.uid in there:
                self._confirmed(item, now)
            elif item.uid in missing:
                self._failed(item, AnomapError("E602", "the archive doesn't commit itself to the object"))

    def _confirmed(self, item: Item, now: float) -> None:
        self.outbox.confirmed(item.id, now)
        self.database.count("confirmed", self.destination.name)
        log("object_confirmed", job=item.job, object=key_of(item.uid), destination=self.destination.name)

    def _not_yet(self, item: Item, problem: AnomapError, now: float) -> None:
        """Ask again, or send again when the archive has had its time."""
        if now - (item.sent_at or now) > self.destination.confirm_s:
            self._failed(item, problem)
        else:
            self.outbox.ask_later(item, now, now + min(_ASK_AGAIN_S, self.destination.confirm_s / 3))

    def _failed(self, item: Item, error: AnomapError) -> None:
        self.outbox.failed(item, time.time(), error)
        self.database.count("send_errors", error.code)
        log(
            "object_not_sent", "warning", job=item.job, object=key_of(item.uid), destination=self.destination.name,
            attempt=item.attempts + 1, code=error.code, message=error.message,
        )  # fmt: skip
