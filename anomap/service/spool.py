"""The files of the node: received images, results, all below the state folder and named by us alone.

images/<series key>/<hash of the SOP Instance UID>.dcm
results/<job>-<run>/...            as `anomap analyze` writes them
node.db, lock
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from anomap.errors import AnomapError
from anomap.output import writing

_GB = 1e9


def key_of(uid: str) -> str:
    """The name of a UID outside the job table: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Spool:
    """Where everything lies.

    Attributes:
        root: The state folder.
    """

    root: Path

    @property
    def database(self) -> Path:
        """The job table."""
        return self.root / "node.db"

    def prepare(self) -> None:
        """Make the folders, for nobody else to read; remove images that a crash has left half-written.

        Only for whoever holds the lock.

        Raises:
            AnomapError: E202 when the state folder can't be written.
        """
        with writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("images", "results"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            for path in (self.root / "images").glob("*/.*.part"):
                path.unlink()

    def sweep(self, known: Collection[str]) -> int:
        """Remove images and results that the job table doesn't know; how many.

        A crash between the disk and the table leaves them, and nobody would ever come back to them. Their peers were
        promised nothing.

        Args:
            known: Paths below the state folder.
        """
        found = [path for kind in ("images/*/*.dcm", "results/*") for path in self.root.glob(kind)]
        unknown = {path.relative_to(self.root).as_posix() for path in found} - set(known)
        for relative in unknown:
            self.remove(relative)
        return len(unknown)

    def lock(self) -> IO[bytes]:
        """Make this process the only node of the state folder, until the file is closed or the process ends.

        Raises:
            AnomapError: E603 when another node has it; E202 when it can't be written.
        """
        with writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self.root / "lock").open("wb")
        patience_until = time.monotonic() + 1.0  # `is_locked` of somebody else holds it for a moment
        while True:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            if time.monotonic() > patience_until:
                file.close()
                raise AnomapError("E603", "another node uses the state folder")
            time.sleep(0.05)

    def is_locked(self) -> bool:
        """Whether a node runs on the state folder."""
        try:
            with (self.root / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def image_path(self, series_key: str, uid: str) -> str:
        """Where an image goes, relative to the state folder."""
        return f"images/{series_key}/{key_of(uid)}.dcm"

    def write_image(self, relative: str, data: bytes) -> None:
        """Put an image on the disk, whole and for good, before it is promised to anybody.

        Raises:
            OSError: When the disk is full or broken; nothing is left behind.
        """
        path = self.root / relative
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too
        finally:
            os.close(folder)

    def images(self, series_key: str) -> Path:
        """Folder of a series."""
        return self.root / "images" / series_key

    def result(self, job: int, run: int) -> str:
        """Folder of the results of one run, relative to the state folder; no two runs share one."""
        return f"results/{job:06d}-{run}"

    def remove(self, relative: str) -> None:
        """Remove a file or folder of ours."""
        path = self.root / relative
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def free_gb(self) -> float:
        """Free space of the state folder in GB (1e9 bytes)."""
        return shutil.disk_usage(self.root).free / _GB
