"""From a viewer's voxels to an `ImageSeries`, and the way back to the viewer's grid.

A volume that came from DICOM is read anew from its files: only they tell padding, the grey scale of a radiograph and
where a tilted slice truly lies, and only so a report can refer to the images. The viewer's voxels are compared with
them; if somebody has changed them, they themselves are analysed, and there is no DICOM report.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anomap.bundle import BundleInfo
from anomap.dicom.read import ReadConfig, read_study
from anomap.errors import AnomapError
from anomap.preprocessing.orientation import Turn, turn_towards
from anomap.types import Float64, ImageSeries
from anomap.volume.job import GATHERED_PREFIX, VolumeJob
from anomap.voxels import ct_from_voxels, radiograph_from_voxels, require_perpendicular

SAME_HU = 0.51  # readers round differently
SAME_P_VALUE = 2e-3

MISSING = "not all of the DICOM files are there any more: the voxels were analysed as they are, without report"
CHANGED = (
    "the voxels differ from the DICOM images they were loaded from: they were analysed as they are, without report"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What is analysed, and where it lies in the viewer's volume.

    Attributes:
        series: The chosen frames.
        turn: From the viewer's axes to those of the series.
        first: Index of the first chosen frame among all of the turned volume.
        shape: Of the viewer's volume, (k, j, i).
    """

    series: ImageSeries
    turn: Turn
    first: int
    shape: tuple[int, int, int]

    def given_back(self, frames: np.ndarray, fill: float) -> np.ndarray:
        """Values of the series' frames ``(K, R, C)`` on the viewer's grid ``(k, j, i)``; `fill` on other slices."""
        whole = np.full(self._turned_shape, fill, frames.dtype)
        whole[self.first : self.first + len(frames)] = frames
        return np.ascontiguousarray(self.turn.restored(whole))

    def index(self, point: Sequence[float] | Float64) -> Float64:
        """The viewer's index (k, j, i) of an index (k, row, col) of the series."""
        turned = np.array([point[0] + self.first, point[1], point[2], 1.0])
        result: Float64 = (self.turn.matrix(self.shape) @ turned)[:3]
        return result

    @property
    def _turned_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.turn.order)


def place(job: VolumeJob, voxels: np.ndarray, infos: Sequence[BundleInfo]) -> Placed:
    """The series to analyse.

    Args:
        job: What the viewer says.
        voxels: ``(k, j, i)``.
        infos: The models there are: the one that is asked for says what kind of image is expected.

    Raises:
        AnomapError: As `anomap.dicom.read.read_study` does for DICOM; E108 and E109 for voxels that can't be
            Hounsfield units, E112 for axes that are not perpendicular or a transform that can't be followed.
    """
    placed, notes = _from_files(job, voxels) if job.files else (None, ())
    if placed is None:
        placed = _from_voxels(job, voxels, infos)
    placed = replace(placed, series=replace(placed.series, warnings=(*notes, *placed.series.warnings)))
    return _chosen(placed, job) if job.through else placed


def _from_files(job: VolumeJob, voxels: np.ndarray) -> tuple[Placed | None, tuple[str, ...]]:
    """The series that the files hold and where it lies; None, with the reason, when the voxels are not its."""
    if not all(path.is_file() for path in job.files):  # half a series is another series
        return _without_files(job, MISSING)
    with _gathered(job) as folder:
        study = read_study(folder, ReadConfig(allow_gaps=job.config.allow_gaps))
    for series in study.series:
        turn = _turn_between(job.affine, series)
        turned = turn.turned(voxels)
        if turned.shape == series.pixels.shape and _same(turned, series):
            return Placed(series=series, turn=turn, first=0, shape=_three(voxels)), ()
    return _without_files(job, CHANGED)


def _without_files(job: VolumeJob, note: str) -> tuple[None, tuple[str, ...]]:
    """The voxels themselves will be analysed, and why."""
    if job.nonlinear:
        raise AnomapError("E112", f"{note.partition(':')[0]}, and a non-linear transform bends the volume", _HARDEN)
    return None, (note,)


_HARDEN = "Take the volume out of its transform, or harden it (Transforms module)."


@contextmanager
def _gathered(job: VolumeJob) -> Iterator[Path]:
    """A folder with links to files that may lie anywhere; copies where links are not allowed.

    It lies in the job folder, with which it goes also when the process is ended.
    """
    with tempfile.TemporaryDirectory(prefix=GATHERED_PREFIX, dir=job.folder, ignore_cleanup_errors=True) as name:
        for number, path in enumerate(job.files):
            target = Path(name) / f"{number:06d}.dcm"
            try:
                target.symlink_to(path.absolute())
            except OSError:
                shutil.copyfile(path, target)
        yield Path(name)


def _turn_between(affine: Float64, series: ImageSeries) -> Turn:
    """From the viewer's axes to those of a series that was loaded from the same files."""
    if series.unit != "HU":  # a radiograph has no place in space; viewers keep its rows and columns
        return Turn(order=(0, 1, 2), flip=(False, False, False))
    return turn_towards(affine, series.affine[:3, :3] / np.linalg.norm(series.affine[:3, :3], axis=0))


def _same(turned: np.ndarray, series: ImageSeries) -> bool:
    """Whether the viewer's voxels show the series."""
    if series.unit == "HU":
        return all(
            np.abs(np.asarray(mine, np.float32) - theirs, where=valid, out=np.zeros_like(theirs)).max() <= SAME_HU
            for mine, theirs, valid in zip(turned, series.pixels, series.valid, strict=True)
        )
    # The viewer shows stored values: P-values follow from them by a rising or a falling curve.
    valid = series.valid.ravel()
    curve = series.pixels.ravel()[valid][np.argsort(np.asarray(turned, np.float64).ravel()[valid], kind="stable")]
    return any(
        bool((np.maximum.accumulate(side) - side).max(initial=0.0) <= SAME_P_VALUE) for side in (curve, curve[::-1])
    )


def _from_voxels(job: VolumeJob, voxels: np.ndarray, infos: Sequence[BundleInfo]) -> Placed:
    """The voxels themselves, turned to the way the models know."""
    if job.nonlinear:
        raise AnomapError("E112", "the volume is under a non-linear transform, and has no DICOM files to read", _HARDEN)
    world = job.to_world @ job.affine
    require_perpendicular(world, _HARDEN)
    series, turn = (ct_from_voxels if _is_ct(job, voxels, infos) else radiograph_from_voxels)(world, voxels)
    return Placed(series=series, turn=turn, first=0, shape=_three(voxels))


def _is_ct(job: VolumeJob, voxels: np.ndarray, infos: Sequence[BundleInfo]) -> bool:
    """Whether the voxels are to be Hounsfield units: as the model says, else several slices are CT."""
    kinds = {info.spec.kind for info in infos if info.name == job.config.model}
    return kinds == {"ct"} if kinds else min(voxels.shape) > 1


def _chosen(placed: Placed, job: VolumeJob) -> Placed:
    """Only the frames from the lowest to the highest of the points that the viewer shows."""
    series = placed.series
    to_index = np.linalg.inv(placed.turn.affine(job.affine, placed.shape))
    found = [round(float((to_index @ (*point, 1.0))[0])) for point in job.through]
    inside = [k for k in found if 0 <= k < len(series.pixels)]
    if not inside:
        raise AnomapError("E200", "the slices shown lie outside of the volume")
    kept = slice(min(inside), max(inside) + 1)
    return replace(placed, series=series.frames(kept), first=kept.start)


def _three(voxels: np.ndarray) -> tuple[int, int, int]:
    k, j, i = voxels.shape
    return k, j, i
