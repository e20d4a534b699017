"""Small parts of a node for tests of one module: a state folder, rows, settings, an archive that can misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from werkzeug.serving import make_server

from anomap.service.database import Database
from anomap.service.jobs import Jobs
from anomap.service.settings import ServiceConfig, read_config
from anomap.service.spool import Spool, key_of
from anomap.service.types import Image, Lease, Output
from tests.service.clinic import free_port

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def write_settings(folder: Path, text: str = "", calling: str = '["MODALITY"]') -> Path:
    """A settings file with the least that is needed, and `text` after it."""
    path = folder / "node.toml"
    path.write_text(f'state = "state"\n[listen]\ncalling = {calling}\n{text}')
    return path


def settings(folder: Path, text: str = "") -> ServiceConfig:
    """Settings as a file gives them."""
    return read_config(write_settings(folder, text))


@dataclass
class State:
    """A prepared state folder with its job table."""

    root: Path
    digest: str = "digest"
    spool: Spool = field(init=False)
    database: Database = field(init=False)
    jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        self.spool = Spool(self.root)
        self.spool.prepare()
        self.reopen()

    def reopen(self, digest: str | None = None) -> None:
        """What a restart of the node does with the job table."""
        if hasattr(self, "database"):
            self.database.close()
        self.digest = digest or self.digest
        self.database = Database(self.spool.database)
        self.jobs = Jobs(self.database, self.digest, quiet_s=10.0)

    def rows(self, question: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the job table."""
        return [dict(row) for row in self.database.connection.execute(question, values)]

    def states(self) -> list[str]:
        """States of all jobs, the oldest first."""
        return [row["state"] for row in self.rows("SELECT state FROM jobs ORDER BY id")]

    def running(self, series: str = "1.2.3", now: float = 100.0) -> Lease:
        """A job of a new series that a worker has just leased."""
        self.jobs.receive(image(f"{series}.1", series), now - 20)
        self.jobs.promote(now)
        lease = self.jobs.lease(now, 60.0)
        assert lease is not None
        return lease

    def to_send(self, *uids: str, series: str = "1.2.3", archives: tuple[str, ...] = ("archive",)) -> Lease:
        """A finished job whose objects wait in the outbox; their files exist."""
        lease = self.running(series)
        folder = self.spool.result(lease.job, lease.run)
        outputs = [Output(uid=uid, sop_class=BASIC_TEXT_SR, path=f"{folder}/01/{uid}.dcm") for uid in uids]
        for output in outputs:
            write_object(self.root / output.path, output.uid)
        self.jobs.finish(lease, 101.0, {"folder": folder, "verdict": "REVIEW", "p_value": 0.01}, outputs, archives)
        return lease


def image(uid: str, series: str = "1.2.3", content: str = "content") -> Image:
    """A received image; nothing of it is on the disk."""
    key = key_of(series)
    return Image(
        uid=uid, series_uid=series, study_uid="1.2", modality="CT", series_key=key, path=f"images/{key}/{uid}.dcm",
        sha256=hashlib.sha256(content.encode()).hexdigest(), caller="MODALITY",
    )  # fmt: skip


def write_object(path: Path, uid: str) -> Path:
    """A DICOM object of the least content, in Explicit VR Little Endian."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID = BASIC_TEXT_SR, uid, "1.2"
    dataset.SeriesInstanceUID, dataset.Modality, dataset.PatientName = "1.2.9", "SR", "ZZPHI^CANARY"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


class Archive:
    """A real storage SCP that answers what it is told.

    Args:
        classes: What it accepts.
        syntaxes: Transfer syntaxes it accepts.
    """

    def __init__(self, classes: tuple[str, ...] = (BASIC_TEXT_SR,), syntaxes: list[str] | None = None) -> None:
        self.port, self.answer = free_port(), 0x0000
        self.aborts, self.context = False, None  # or an ssl.SSLContext
        self._entity = AE(ae_title="PACS")
        self._entity.require_called_aet = True
        for name in (*classes, "1.2.840.10008.1.1"):
            self._entity.add_supported_context(name, syntaxes or ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        self.stored: list[Any] = []

    def _store(self, event: Any) -> int:
        if self.aborts:
            event.assoc.abort()
        self.stored.append(event.dataset)
        return self.answer

    @contextmanager
    def listening(self) -> Iterator[Archive]:
        """While it is there."""
        server = self._entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
            ssl_context=self.context,
        )
        try:
            yield self
        finally:
            server.shutdown()

    def words(self, **more: Any) -> str:
        """It as a destination of the settings."""
        table = {"name": "archive", "host": "127.0.0.1", "port": self.port, "ae_title": "PACS", "confirm": "none"}
        return destination(**{**table, **more})


def destination(**table: Any) -> str:
    """A table of the settings."""
    table = {"name": "archive", "backoff_s": 0.1, "timeout_s": 2.0, **table}
    return "\n".join(["[[destination]]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]) + "\n"


@contextmanager
def http(app: Any) -> Iterator[str]:
    """A WSGI application on loopback; its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
