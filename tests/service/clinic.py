"""A clinic on loopback: Debian's Orthanc as archive, dcmtk as sender, and the node as people start it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom

from anomap.service.settings import read_config
from anomap.service.status import open_state, snapshot

ROOT = Path(__file__).parents[2]
DICOMWEB = Path("/usr/lib/orthanc")  # where Debian puts plug-ins


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What `look` gives once it is true; fails with its last answer."""
    deadline, seen = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}; last seen {seen!r}")


def wait_for_port(port: int, process: subprocess.Popen[Any] | None = None) -> None:
    """Until somebody listens."""

    def listening() -> bool:
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(listening, f"port {port}")


class Orthanc:
    """Debian's Orthanc with the DICOMweb plug-in.

    Args:
        folder: For its files.
        node_port: Where the node listens.
        settings: Of its configuration, over ours.
        lua: A script.
    """

    title = "TESTPACS"

    def __init__(self, folder: Path, node_port: int, settings: dict[str, Any] | None = None, lua: str = "") -> None:
        assert shutil.which("Orthanc"), "Orthanc is missing: apt-get install orthanc orthanc-dicomweb"
        self.folder, self.http, self.dicom = folder, free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        self.web = f"{self.url}/dicom-web"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        modalities = {
            "anomap": {"AET": "ANOMAP", "Host": "127.0.0.1", "Port": node_port, "AllowStorageCommitment": True},
            "modality": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": 1},
        }
        plugin = sorted(DICOMWEB.glob("libOrthancDicomWeb.so*"))
        assert plugin, "the DICOMweb plug-in is missing: apt-get install orthanc-dicomweb"
        scripts = []
        if lua:
            (folder / "route.lua").write_text(lua)
            scripts.append(str(folder / "route.lua"))
        content = {
            "Name": "test archive", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "HttpPort": self.http,
            "DicomAet": self.title, "DicomPort": self.dicom, "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True, "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": False,
            "DicomModalities": modalities, "StableAge": 2, "OverwriteInstances": False,
            "UnknownSopClassAccepted": True, "LuaScripts": scripts, "Plugins": [str(plugin[-1])],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomScuTimeout": 10, **(settings or {}),
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(content))

    def start(self) -> None:
        """Start it, or start it again with what it has."""
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        wait_for_port(self.http, self.process)
        wait_for_port(self.dicom, self.process)

    def stop(self) -> None:
        """End it; what it holds stays."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def get(self, path: str) -> Any:
        """Its REST interface."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            data = answer.read()
        return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data

    def post(self, path: str, content: Any) -> Any:
        """Its REST interface; `content` is bytes or JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def upload(self, paths: Sequence[Path]) -> None:
        """Put files into it over HTTP."""
        for path in paths:
            self.post("/instances", path.read_bytes())

    def found(self, **filters: str) -> list[dict[str, Any]]:
        """Instances as QIDO-RS lists them."""
        query = "&".join(f"{name}={value}" for name, value in {**filters, "includefield": "all"}.items())
        return list(self.get(f"/dicom-web/instances?{query}") or [])

    def results(self) -> list[pydicom.Dataset]:
        """All objects it holds that anomap made."""
        return [dataset for dataset in self.objects() if str(dataset.get("Manufacturer", "")) == "anomap"]

    def objects(self) -> list[pydicom.Dataset]:
        """All objects it holds."""
        import io

        return [pydicom.dcmread(io.BytesIO(self.get(f"/instances/{name}/file"))) for name in self.get("/instances")]


class Node:
    """`anomap serve`, started as people start it.

    Args:
        folder: For settings, state and log.
        models: Folder of bundles.
        destinations: Tables of `[[destination]]`.
        port: Where it listens.
        settings: Tables by name: over ours.
    """

    title = "ANOMAP"

    def __init__(
        self,
        folder: Path,
        models: Path,
        destinations: Sequence[dict[str, Any]] = (),
        port: int | None = None,
        **settings: dict[str, Any],
    ) -> None:
        self.folder, self.port, self.web = folder, port or free_port(), free_port()
        self.state = folder / "state"
        self.settings = folder / "node.toml"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        tables: dict[str, dict[str, Any]] = {
            "listen": {"calling": ["MODALITY", Orthanc.title], "port": self.port, "silence_s": 5.0},
            "analysis": {"steps": 2},
            "work": {"quiet_s": 1.0, "backoff_s": 0.5, "attempts": 3},
            "disk": {"min_free_gb": 0.1},
            "web": {"port": self.web},
        }
        for name, table in settings.items():
            tables[name] = {**tables.get(name, {}), **table}
        lines = [f"state = {json.dumps(str(self.state))}", f"models = {json.dumps(str(models))}"]
        lines += [line for name, table in tables.items() for line in (f"[{name}]", *_toml(table))]
        lines += [line for table in destinations for line in ("[[destination]]", *_toml(table))]
        self.settings.write_text("\n".join(lines) + "\n")
        self.config = read_config(self.settings)

    def start(self, **environment: str) -> None:
        """Start it and wait until it listens."""
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", "anomap.cli", "serve", str(self.settings)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=variables)
        wait_for_port(self.port, self.process)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send it a signal and wait for its end; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(seconds)
        self.process = None
        return status

    def kill(self) -> None:
        """End it as a power cut does: at once, with its workers."""
        workers = self.workers()
        self.stop(signal.SIGKILL)
        for pid in workers:
            kill(pid)

    def workers(self) -> list[int]:
        """Process IDs of its workers."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task")
        return [int(word) for task in path.glob("*/children") for word in _read(task).split()]

    def status(self) -> dict[str, Any]:
        """Its own account of itself."""
        spool, database = open_state(self.state)
        try:
            return snapshot(spool, database, 1000)
        finally:
            database.close()

    def states(self) -> list[str]:
        """States of all jobs, the oldest first."""
        return [job["state"] for job in reversed(self.status()["jobs"])]

    def wait(self, *states: str, seconds: float = 90.0) -> dict[str, Any]:
        """Until its jobs have these states, the oldest first; its status."""
        eventually(lambda: self.states() == list(states) or None, f"jobs {states}; {self.log()[-1500:]}", seconds)
        return self.status()

    def log(self) -> str:
        """All that it said."""
        return (self.folder / "log").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def page(self, path: str = "/") -> bytes:
        """A page of its web server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=30) as answer:
            return bytes(answer.read())


@contextmanager
def running(*parts: Orthanc | Node) -> Iterator[None]:
    """Start some parts; end those that still run."""
    try:
        for part in parts:
            part.start()
        yield
    finally:
        for part in reversed(parts):
            if part.process is not None and part.process.poll() is None:
                part.stop()


def storescu(port: int, called: str, *paths: Path, calling: str = "MODALITY", words: Sequence[str] = ()) -> int:
    """Send files or folders with dcmtk; its exit status."""
    assert shutil.which("storescu"), "storescu is missing: apt-get install dcmtk"
    command = ["storescu", "-aec", called, "-aet", calling, *words, "127.0.0.1", str(port), "+sd", "+r"]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, check=False).returncode


def kill(pid: int) -> None:
    """SIGKILL to a process that may be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def dicom_archive(orthanc: Orthanc, **more: Any) -> dict[str, Any]:
    """Orthanc as a destination by C-STORE, asked by QIDO-RS."""
    return {
        "name": "archive", "kind": "dicom", "host": "127.0.0.1", "port": orthanc.dicom, "ae_title": orthanc.title,
        "url": orthanc.web, "confirm": "qido", "backoff_s": 0.5, "timeout_s": 10.0, "confirm_s": 20.0, **more,
    }  # fmt: skip


def _toml(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {_toml_value(value)}" for name, value in table.items()]


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(_toml(value)) + "}"
    return json.dumps(value)  # JSON's scalars and lists are TOML's


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
