"""Reconstructions on the disk, so that an evaluation that was cut off goes on where it was.

Projecting is what takes the time (up to half a minute an image with preset "paper"); every score and every map is
made from the reconstruction within milliseconds. One small file an image, named by the hash of all that decides it.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomap.output import appearing, writing
from anomap.projection.schedule import ProjectionConfig
from anomap.types import Int64, Prepared, Reconstruction

_ARRAYS = (
    "images",
    "w",
    "loss",
    "prior_distance",
    "feature_residual",
    "feature_distance",
    "feature_map",
    "converged",
    "seeds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Reconstructions of one model with one preset.

    Attributes:
        folder: Where the files lie; made when the first is written.
        bundle_sha256: Hash of the weights.
        projection: Settings; those of another number of steps are other files.
        device: The last digits depend on it.
    """

    folder: Path
    bundle_sha256: str
    projection: ProjectionConfig
    device: str

    def path(self, prepared: Prepared, row: int) -> Path:
        """The file of one image; its name is a hash of pixels, frame id, weights, settings and device."""
        digest = hashlib.sha256(f"{self.bundle_sha256}|{self.projection}|{self.device}".encode())
        digest.update(prepared.frame_ids[row].encode())
        digest.update(prepared.images[row].tobytes() + prepared.valid[row].tobytes())
        return self.folder / f"{digest.hexdigest()[:40]}.npz"

    def get(self, prepared: Prepared, row: int) -> Reconstruction | None:
        """The reconstruction of one image, or None when there is none that can be read."""
        try:
            with np.load(self.path(prepared, row), allow_pickle=False) as file:
                return Reconstruction(**{name: file[name] for name in _ARRAYS}, steps=int(file["steps"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, prepared: Prepared, row: int, fit: Reconstruction) -> None:
        """Keep row `row` of a reconstruction; the file appears whole or not at all.

        Raises:
            AnomapError: E202 when it can't be written.
        """
        with writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with appearing(self.path(prepared, row)) as temporary:
                np.savez(temporary, steps=fit.steps, **{name: getattr(fit, name)[row : row + 1] for name in _ARRAYS})


def rows_of(fit: Reconstruction, rows: Int64) -> Reconstruction:
    """Reconstructions of some of the images, in the order of `rows`."""
    return Reconstruction(**{name: getattr(fit, name)[rows] for name in _ARRAYS}, steps=fit.steps)


def joined(parts: list[Reconstruction]) -> Reconstruction:
    """Reconstructions of several images as one."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Reconstruction(**arrays, steps=parts[0].steps)
