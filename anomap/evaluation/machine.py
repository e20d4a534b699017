"""What must stand beside a measured figure: the machine, the software and the state of the source."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from anomap import __version__


def describe_machine(device: str, root: Path) -> dict[str, Any]:
    """Hardware, software, threads, commit and time as JSON values.

    Args:
        device: Torch device the figures are for.
        root: The source tree; its git commit is named, with "+" when files differ from it.
    """
    return {
        "device": device,
        "hardware": accelerator_name(device) or processor_name(),
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "anomap": __version__,
        "commit": commit(root),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def accelerator_name(device: str) -> str:
    """Name of the GPU behind a CUDA device, "" for others."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else ""


def processor_name() -> str:
    """Model name of the processor, or its architecture where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit(root: Path) -> str:
    """Short git commit of a source tree, "+" appended when tracked files differ from it; "" without git."""

    def git(*words: str) -> str:
        return subprocess.run(  # noqa: S603 (fixed words)
            ["git", "-C", str(root), *words],  # noqa: S607 (git of the path, as every developer's)
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def result_name(device: str) -> str:
    """File name stem for results of a device: "cpu", or the GPU's name, e.g. "nvidia-h200"."""
    name = accelerator_name(device) or device
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
