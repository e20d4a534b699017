"""Orthanc and the node with the very files under ``docs/clinic``; only paths, ports and waiting times are replaced."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

from anomap.service.settings import read_config
from tests.service.clinic import ROOT, Node, Orthanc

SHIPPED = ROOT / "docs" / "clinic"
PASSWORD = "change-this"  # of orthanc.json


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with other words, each of which it must hold."""
    for old, new in changes.items():
        assert old in text, f"{old} isn't in the shipped file any more"
        text = text.replace(old, new)
    return text


class ShippedOrthanc(Orthanc):
    """Orthanc with ``orthanc.json`` and ``route.lua``, login included.

    Args:
        folder: For its files.
        node_port: Where the node listens.
        changes: Words of ``orthanc.json`` to replace, too.
    """

    title = "ORTHANC"

    def __init__(self, folder: Path, node_port: int, changes: dict[str, str] | None = None) -> None:
        super().__init__(folder, node_port)
        ours = {
            "/var/lib/orthanc/db": str(folder / "db"),
            "/etc/orthanc/route.lua": str(SHIPPED / "route.lua"),
            '"DicomPort" : 4242': f'"DicomPort" : {self.dicom}',
            '"HttpPort" : 8042': f'"HttpPort" : {self.http}',
            '"Port" : 11112': f'"Port" : {node_port}',
            '"StableAge" : 60': '"StableAge" : 1',
            "192.0.2.10": "127.0.0.1",
        }
        text = replaced((SHIPPED / "orthanc.json").read_text(), {**ours, **(changes or {})})
        (folder / "orthanc.json").write_text(text)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self._request(path), timeout=30) as answer:
            data = answer.read()
        return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data

    def post(self, path: str, content: Any) -> Any:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        with urllib.request.urlopen(self._request(path, data), timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def delete(self, path: str) -> None:
        """Its REST interface."""
        urllib.request.urlopen(self._request(path, method="DELETE"), timeout=30).close()

    def jobs(self) -> list[str]:
        """States of its jobs that send series to the node."""
        return [job["State"] for job in self.get("/jobs?expand") if job["Type"] == "DicomModalityStore"]

    def _request(self, path: str, data: bytes | None = None, method: str | None = None) -> urllib.request.Request:
        login = base64.b64encode(f"anomap:{PASSWORD}".encode()).decode()
        return urllib.request.Request(self.url + path, data, {"Authorization": f"Basic {login}"}, method=method)


class ShippedNode(Node):
    """The node with ``node.toml``.

    Args:
        folder: For settings, state and log.
        models: Folder of bundles.
        orthanc: Its archive.
        port: Where it listens.
        changes: Words of ``node.toml`` to replace, too.
    """

    def __init__(
        self, folder: Path, models: Path, orthanc: Orthanc, port: int, changes: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder, models, port=port)
        (folder / "orthanc.password").write_text(PASSWORD + "\n")
        ours = {
            '"/var/lib/anomap"': json.dumps(str(self.state)),
            '# models = "/srv/anomap/models"': f"models = {json.dumps(str(models))}",
            "port = 11112": f"port = {port}",
            "port = 8080": f"port = {self.web}",
            "port = 4242": f"port = {orthanc.dicom}",
            "http://127.0.0.1:8042": orthanc.url,
            "# steps = 30": "steps = 2",
            "quiet_s = 30.0": "quiet_s = 1.0",
            "min_free_gb = 5.0": "min_free_gb = 0.1",
            "backoff_s = 30.0": "backoff_s = 0.5",
        }
        self.settings.write_text(replaced((SHIPPED / "node.toml").read_text(), {**ours, **(changes or {})}))
        self.config = read_config(self.settings)
