"""What the tests look at from outside: memory, threads and files of the node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clinic.wire import echo
from tests.service.clinic import Node, eventually, running


@contextmanager
def clinic(folder: Path, models: Path, *, archives: Any = (), **settings: dict[str, Any]) -> Iterator[Node]:
    """A running node that answers; its limits are those of the harness unless stated."""
    node = Node(folder, models, archives, **settings)
    with running(node):
        eventually(lambda: echo(node.port), "the first C-ECHO")
        yield node


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (2**20 bytes)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def memory_mb(node: Node) -> float:
    """Of the node and its workers."""
    assert node.process is not None
    return rss_mb(node.process.pid) + sum(rss_mb(pid) for pid in node.workers())


def threads(node: Node) -> int:
    """Of the node."""
    assert node.process is not None
    return len(list(Path(f"/proc/{node.process.pid}/task").iterdir()))


def files(node: Node) -> list[str]:
    """Names below the node's folder, without results: another job may just be writing some."""
    found = [path.relative_to(node.folder) for path in node.folder.rglob("*")]
    return sorted(path.as_posix() for path in found if "results" not in path.parts and path.name[:7] != "node.db")


def counter(node: Node, metric: str) -> dict[str, float]:
    """A counter of the metrics page by its label."""
    found = re.findall(rf'^{metric}_total{{\w+="([^"]*)"}} ([0-9.]+)$', node.page("/metrics").decode(), re.MULTILINE)
    return {label: float(value) for label, value in found}


def jobs_of(node: Node) -> dict[str, list[dict[str, Any]]]:
    """Jobs by series key, the oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for job in reversed(node.status()["jobs"]):
        found.setdefault(job["series"], []).append(job)
    return found
