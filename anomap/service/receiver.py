"""The DICOM listener: Storage, Verification and the answers to storage commitments.

An image is answered with success only when it lies on the disk and in the job table. Headers are looked at just far
enough to file the image (`read_start`); pixels are decoded in a worker with limits. What anomap doesn't analyse, its
own results included, is taken, counted and dropped: a peer that sends whole studies must not get stuck on them.
"""

from __future__ import annotations

import hashlib
import io
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from anomap.dicom.header import check_class, quiet
from anomap.errors import AnomapError
from anomap.output import as_error
from anomap.service.database import Database
from anomap.service.jobs import Jobs
from anomap.service.log import Level, log, log_failure
from anomap.service.settings import ServiceConfig
from anomap.service.sockets import MAX_PDU, Listener, guard, server_context
from anomap.service.spool import Spool, key_of
from anomap.service.types import Image, Reception

# DIMSE statuses (PS3.4 B.2.3)
SUCCESS, NO_SPACE, NOT_UNDERSTOOD, MISMATCH = 0x0000, 0xA700, 0xC000, 0xA900
# Lossless ones that every installation decodes. Deflated is refused: a small message may unpack to any size.
TRANSFER_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLossless,
]
_LOOKED_AT = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Manufacturer",
]  # fmt: skip
_LIMIT_EXCEEDED = (2, 3, 2)  # transient, by the presentation service, local limit exceeded (PS3.8 9.3.4)
_CROWD = 4  # connections for each association that is allowed: those that were rejected linger for a moment
_POLITE_S = 1.0  # for associations to end in order when the node stops
_UID_FORM = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")

Committed = Callable[[str, list[str], list[str]], None]  # transaction, UIDs that the archive has, UIDs it hasn't


class Receiver:
    """The listener.

    Args:
        config: Of the node.
        spool: Where images go.
        database: For counters.
        jobs: What images set off.
        committed: Told of answers to storage commitments.
    """

    def __init__(
        self, config: ServiceConfig, spool: Spool, database: Database, jobs: Jobs, committed: Committed
    ) -> None:
        self.config, self.spool, self.database, self.jobs, self.committed = config, spool, database, jobs, committed
        _config.LOG_HANDLER_LEVEL = "none"  # what they print is thrown away, but costs time with every PDU
        _config.ENFORCE_UID_CONFORMANCE = True  # pynetdicom's own switch; else `../../x` reaches us as a UID
        listen = config.listen
        self._entity = AE(ae_title=listen.ae_title)
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(config.callers)
        self._entity.maximum_associations = 2**20  # see `_admit`
        self._entity.maximum_pdu_size = MAX_PDU
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = listen.silence_s
        for context in AllStoragePresentationContexts:
            self._entity.add_supported_context(context.abstract_syntax, TRANSFER_SYNTAXES)
        self._entity.add_supported_context(Verification)
        # The archive calls us to say what it has: it is the provider, on its own association (PS3.4 J.3.3).
        self._entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        self._thread: threading.Thread | None = None
        self._admitted: set[Any] = set()
        self._admission = threading.Lock()
        self._crowd, self._crowd_noted = 0, 0.0
        self._locks = tuple(threading.Lock() for _ in range(16))

    def start(self) -> None:
        """Listen.

        Raises:
            AnomapError: E200 when address, port or keys can't be used.
        """
        listen = self.config.listen
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, _wake),
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_ACCEPTED, _complete),
            (evt.EVT_DIMSE_RECV, _complete),
            (evt.EVT_REJECTED, lambda event: self._turned_away("rejected")),
            (evt.EVT_ABORTED, lambda event: self._turned_away("aborted")),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        try:
            server: Any = self._entity.make_server(
                (listen.address, listen.port), evt_handlers=handlers, ssl_context=server_context(listen.tls),
                server_class=Listener,
            )  # fmt: skip
        except OSError as error:
            raise AnomapError("E200", f"port {listen.port} can't be listened on: {error.strerror}") from error
        server.turned_away, server.crowded = self._turned_away, self._crowded
        server.most = _CROWD * (listen.max_associations + 2)
        self._entity._servers.append(server)  # as its own `start_server` does, so that `shutdown` finds it
        self._thread = threading.Thread(target=server.serve_forever, name="listener", daemon=True)
        self._thread.start()
        log("listening", ae_title=listen.ae_title, port=listen.port)

    @property
    def alive(self) -> bool:
        """Whether it still takes connections."""
        return self._thread is None or self._thread.is_alive()

    def stop(self) -> None:
        """End all associations; what was not answered with success stays with the peer."""
        for association in self._entity.active_associations:
            association.abort(block=False)
        until = time.monotonic() + _POLITE_S
        while self._entity.active_associations and time.monotonic() < until:
            time.sleep(0.02)
        for association in self._entity.active_associations:  # amid a PDU that doesn't end
            with suppress(OSError, AttributeError):
                association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        self._entity.shutdown()

    def _opened(self, event: Any) -> None:
        listen = self.config.listen
        event.assoc.complete = guard(event.assoc, listen.silence_s, listen.max_object_mb * 2**20)

    def _admit(self, event: Any) -> None:
        """Reject an association when enough are open.

        pynetdicom counts those that it is rejecting too, so that a few peers that ask again and again keep each other
        and everybody else out.
        """
        request = event.assoc.requestor.primitive
        if request.calling_ae_title not in self.config.callers:
            return  # it will be rejected for that, and takes no place
        with self._admission:
            self._admitted = {one for one in self._admitted if one.is_alive() and not _is_over(one)}
            if len(self._admitted) < self.config.listen.max_associations:
                self._admitted.add(event.assoc)
                return
        event.assoc.acse.send_reject(*_LIMIT_EXCEEDED)
        self._turned_away("rejected")
        event.assoc.kill()

    def _turned_away(self, how: str) -> None:
        self.database.count("associations", how)
        log(f"association_{how}", "warning")

    def _crowded(self) -> None:
        """Too many connections: noted once a second, since this is the thread that accepts them."""
        self._crowd += 1
        if time.monotonic() - self._crowd_noted > 1.0:
            self.database.count("associations", "crowded", by=self._crowd)
            log("association_crowded", "warning", connections=self._crowd)
            self._crowd, self._crowd_noted = 0, time.monotonic()

    def _store(self, event: Any) -> int:
        """Take one object; the status for the peer."""
        try:
            return self._keep(event)
        except Exception as error:
            log_failure("image_refused", error)
            full = isinstance(error, OSError | sqlite3.Error) or as_error(error).code == "E604"
            with suppress(sqlite3.Error):  # a full disk can't be counted on
                self.database.count("refused", "disk" if full else "unreadable")
            return NO_SPACE if full else NOT_UNDERSTOOD

    def _keep(self, event: Any) -> int:
        if self.spool.free_gb() < self.config.disk.min_free_gb:
            raise AnomapError("E604", "too little disk space")
        data = event.encoded_dataset()
        header = read_start(data)
        if str(header.get("SOPInstanceUID", "")) != str(event.request.AffectedSOPInstanceUID):
            self.database.count("refused", "mismatch")
            log("image_refused", "warning", message="the data set has another UID than the message")
            return MISMATCH
        try:
            check_class(header)
        except AnomapError as error:
            self.database.count("ignored", error.code)
            log("object_ignored", code=error.code, message=error.message)
            return SUCCESS
        reception, series_key = self._file(header, data, event.encoded_dataset(include_meta=False), event)
        level: Level = "error" if reception == "conflict" else "info"
        log(
            f"image_{reception}", level, series=series_key, image=key_of(str(header.SOPInstanceUID)), bytes=len(data),
            caller=event.assoc.requestor.ae_title,
        )  # fmt: skip
        return SUCCESS

    def _file(self, header: Dataset, data: bytes, content: bytes, event: Any) -> tuple[Reception, str]:
        """Put an image on the disk, unless it is there already, and record it."""
        uid, series_uid = str(header.SOPInstanceUID), str(header.SeriesInstanceUID)
        series_key = key_of(series_uid)
        image = Image(
            uid=uid,
            series_uid=series_uid,
            study_uid=str(header.StudyInstanceUID),
            modality=str(header.Modality),
            series_key=series_key,
            path=self.spool.image_path(series_key, uid),
            sha256=hashlib.sha256(content).hexdigest(),
            caller=event.assoc.requestor.ae_title,
        )
        with self._locks[hash(uid) % len(self._locks)]:  # of two that come at the same time, one is the first
            known = self.jobs.known(uid)
            # Only a first copy, or one whose file is gone, may touch the disk: the first content counts.
            if known is None or known == (image.sha256, False):
                self.spool.write_image(image.path, data)
            try:
                reception = self.jobs.receive(image, time.time())
            except sqlite3.Error:
                if known is None:  # what was refused must not be analysed with the rest of its series
                    self.spool.remove(image.path)
                raise
            if reception == "known" and not (self.spool.root / image.path).exists():  # cleaned away this moment
                self.spool.write_image(image.path, data)
            return reception, series_key

    def _report(self, event: Any) -> tuple[int, Dataset | None]:
        """An archive's answer to a storage commitment (PS3.4 J.3.3)."""
        try:
            with quiet():
                answer = event.event_information
                there, missing = (
                    [str(item.ReferencedSOPInstanceUID) for item in answer.get(keyword) or []]
                    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence")
                )
                self.committed(str(answer.TransactionUID), there, missing)
        except Exception as error:
            log_failure("commitment_unreadable", error)
            return 0x0110, None
        return SUCCESS, None


def _is_over(association: Any) -> bool:
    return bool(association.is_rejected or association.is_aborted or association.is_released)


def _complete(event: Any) -> None:
    """A message, or the request for the association, has come whole."""
    event.assoc.complete()


def _wake(event: Any) -> None:
    """A connection closed: give back what it holds.

    pynetdicom would keep half a message until its collection of garbage, and the slot for the whole silence if no
    association was asked for yet; None is what its reading of the request gives after that silence.
    """
    event.assoc.dimse.message = None
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def read_start(data: bytes) -> Dataset:
    """The few elements by which an image is filed, without its pixels.

    Args:
        data: A DICOM file as the peer sent it.

    Raises:
        AnomapError: E102 when it can't be read or a UID is not valid.
    """
    with quiet():
        try:
            header = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=_LOOKED_AT)
            values = {keyword: str(header.get(keyword, "") or "") for keyword in _LOOKED_AT}
        except Exception as error:
            raise AnomapError("E102", f"the object cannot be read ({type(error).__name__})") from None
    for keyword in _LOOKED_AT[:4]:
        if len(values[keyword]) > 64 or not _UID_FORM.fullmatch(values[keyword]):
            raise AnomapError("E102", f"{keyword} is missing or no UID")
    return header
