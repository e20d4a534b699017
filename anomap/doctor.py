"""`anomap doctor`: what this installation can do, and what it lacks."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import anomap
from anomap.errors import AnomapError

MIN_FREE_GB = 1.0
# Transfer syntaxes that images arrive in, and whether anomap must read them (UID, name, needed).
TRANSFER_SYNTAXES = (
    ("1.2.840.10008.1.2.4.50", "JPEG baseline", False),
    ("1.2.840.10008.1.2.4.51", "JPEG extended", False),
    ("1.2.840.10008.1.2.4.57", "JPEG lossless", True),
    ("1.2.840.10008.1.2.4.70", "JPEG lossless SV1", True),
    ("1.2.840.10008.1.2.4.80", "JPEG-LS lossless", True),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS near-lossless", True),
    ("1.2.840.10008.1.2.4.90", "JPEG 2000 lossless", True),
    ("1.2.840.10008.1.2.4.91", "JPEG 2000", True),
    ("1.2.840.10008.1.2.5", "RLE lossless", True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was checked.

    Attributes:
        name: What.
        ok: Whether it is there.
        detail: Version, place or reason.
        needed: Whether anomap can't do its job without.
    """

    name: str
    ok: bool
    detail: str
    needed: bool = True


def examine(models: Path) -> list[Finding]:
    """Check everything; nothing is changed and nothing leaves this machine."""
    return [*_python(), *_torch(), *_codecs(), *_bundles(models), *_disk()]


def _python() -> Iterator[Finding]:
    yield Finding(name="anomap", ok=True, detail=f"{anomap.__version__}, Python {platform.python_version()}")
    for package in ("pydicom", "highdicom", "numpy", "scipy"):
        try:
            yield Finding(name=package, ok=True, detail=metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(name=package, ok=False, detail="not installed")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(name="torch", ok=False, detail=f"can't be imported ({type(error).__name__})")
        return
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding(name="torch", ok=True, detail=f"{torch.__version__}, {cuda}, {torch.get_num_threads()} threads")
    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    detail = ", ".join(devices) or "none; the CPU works, more slowly"
    yield Finding(name="accelerator", ok=bool(devices), detail=detail, needed=False)


def _codecs() -> Iterator[Finding]:
    from pydicom.pixels import get_decoder

    for uid, name, needed in TRANSFER_SYNTAXES:
        decoder = get_decoder(uid)
        plugins = ", ".join(decoder.available_plugins)
        yield Finding(name=name, ok=decoder.is_available, detail=plugins or "no decoder installed", needed=needed)


def _bundles(models: Path) -> Iterator[Finding]:
    from anomap.bundle import list_bundles, verify

    try:
        infos = list_bundles(models)
    except AnomapError as error:
        yield Finding(name="models", ok=False, detail=str(error))
        return
    if not infos:
        yield Finding(name="models", ok=False, detail="the model folder holds no bundle")
    for info in infos:
        try:
            verify(info)
            yield Finding(name=f"model {info.name}", ok=True, detail=f"{info.version}, all files match their sha256")
        except AnomapError as error:
            yield Finding(name=f"model {info.name}", ok=False, detail=str(error))


def _disk() -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"anomap")
        free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
        yield Finding(name="temporary folder", ok=True, detail="writable")
        yield Finding(name="free space", ok=free >= MIN_FREE_GB, detail=f"{free:.1f} GB in the temporary folder")
    except OSError as error:
        yield Finding(name="temporary folder", ok=False, detail=error.strerror or "not writable")
