"""An archive with moods: a pynetdicom C-STORE provider on loopback that is down, slow, full or picky when told so."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    Comprehensive3DSRStorage,
    ParametricMapStorage,
    SegmentationStorage,
    Verification,
)

from tests.service.clinic import free_port

CLASSES = (Comprehensive3DSRStorage, ParametricMapStorage, SegmentationStorage, Verification)
FULL = 0xA700


class Moody:
    """Keeps every object it took, with all copies that came.

    Args:
        name: Of the destination.
    """

    title = "MOODY"

    def __init__(self, name: str = "moody") -> None:
        self.name, self.port = name, free_port()
        self.status, self.pause_s = 0x0000, 0.0
        self.got: dict[str, list[bytes]] = {}
        self.asked = 0  # objects offered
        self._lock, self._entity = threading.Lock(), None

    def start(self, classes: Sequence[Any] = CLASSES, tls: Any = None) -> Moody:
        """Listen."""
        entity = AE(ae_title=self.title)
        for sop_class in classes:
            entity.add_supported_context(sop_class)
        entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)], ssl_context=tls
        )
        self._entity = entity
        return self

    def stop(self) -> None:
        """Be down."""
        if self._entity is not None:
            self._entity.shutdown()
            self._entity = None

    def destination(self, **more: Any) -> dict[str, Any]:
        """Its table in the settings; it isn't asked for confirmation."""
        return {
            "name": self.name, "kind": "dicom", "host": "127.0.0.1", "port": self.port, "ae_title": self.title,
            "confirm": "none", "backoff_s": 0.3, "timeout_s": 2.0, **more,
        }  # fmt: skip

    def _store(self, event: Any) -> int:
        self.asked += 1
        time.sleep(self.pause_s)
        if self.status == 0:
            with self._lock:
                content = event.encoded_dataset(include_meta=False)
                self.got.setdefault(str(event.request.AffectedSOPInstanceUID), []).append(content)
        return self.status
