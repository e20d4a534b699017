"""A listener of its own, and the ways in which peers come to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE

from anomap.service.receiver import Receiver
from anomap.service.settings import Disk, ServiceConfig
from tests.service.clinic import free_port
from tests.service.parts import State, settings

VERIFICATION = "1.2.840.10008.1.1"


@dataclass
class Listener:
    """A receiver without workers."""

    state: State
    folder: Path
    words: str = ""
    committed: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        text = f"port = {self.port}\nsilence_s = 2.0\n{self.words}"
        self.config: ServiceConfig = replace(settings(self.folder, text), disk=Disk(min_free_gb=0.01))

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """While it listens."""
        state = self.state
        receiver = Receiver(self.config, state.spool, state.database, state.jobs, lambda *w: self.committed.append(w))
        receiver.start()
        try:
            yield self
        finally:
            receiver.stop()

    def counters(self) -> dict[tuple[str, str], int]:
        """What it has counted."""
        return {(row["name"], row["label"]): row["value"] for row in self.state.rows("SELECT * FROM counters")}

    def files(self) -> list[Path]:
        """Images that lie in the spool."""
        return sorted(path for path in (self.state.root / "images").rglob("*") if path.is_file())


@contextmanager
def association(
    port: int, contexts: Sequence[tuple[str, list[str]]], calling: str = "MODALITY", called: str = "ANOMAP", **more: Any
) -> Iterator[Any]:
    """An association of a peer, established or not."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 15
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, syntaxes)
    made = entity.associate("127.0.0.1", port, ae_title=called, **more)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()
        made.abort()


def send(port: int, *datasets: Dataset | Path, **more: Any) -> list[int | None]:
    """Send objects over one association; the statuses, None without an answer."""
    objects = [dcmread(item) if isinstance(item, Path) else item for item in datasets]
    contexts = {(str(item.SOPClassUID), str(item.file_meta.TransferSyntaxUID)) for item in objects}
    with association(port, [(name, [syntax]) for name, syntax in contexts], **more) as made:
        assert made.is_established
        return [made.send_c_store(item).get("Status") for item in objects]
