"""The independent programs that read what we write, and an analysis whose regions are where the test wants them."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from anomap.dicom.phantom import ct_affine, nearest_voxel, write_ct_phantom
from anomap.dicom.read import read_study
from anomap.pipeline import Analysis
from anomap.types import ImageSeries, Region
from tests.made import made_analysis


def complaints(path: Path) -> list[str]:
    """Errors dciodvfy finds (its exit status is 0 even with errors)."""
    assert shutil.which("dciodvfy"), "dciodvfy is missing: apt-get install dicom3tools"
    run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False, errors="replace")
    return [line for line in (run.stderr + run.stdout).splitlines() if line.startswith(("Error", "Abort"))]


def dsrdump(path: Path) -> str:
    """The SR as dcmtk reads it; what it warns of stands in the first lines."""
    run = subprocess.run(["dsrdump", str(path)], capture_output=True, check=True)
    return (run.stderr + run.stdout).decode(errors="replace")


def dcmqi(program: str, *words: str | Path) -> str:
    """Run one of dcmqi's programs; what it says."""
    tool = Path(sys.executable).with_name(program)
    assert tool.exists(), f"{program} is missing: pip install dcmqi"
    run = subprocess.run([str(tool), *map(str, words)], capture_output=True, text=True, check=False, errors="replace")
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout + run.stderr


def segments(path: Path, folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """A SEG as dcmqi reads it: (values ``(K, R, C)``, affine of (k, row, col, 1) to LPS mm) of every segment group."""
    folder.mkdir()
    dcmqi("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "seg")
    return [read_nrrd(file) for file in sorted(folder.glob("seg-*.nrrd"))]


def parametric_map(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A Parametric Map as dcmqi, hence 3D Slicer, reads it."""
    folder.mkdir()
    dcmqi("paramap2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "--prefix", "map")
    (file,) = folder.glob("*.nrrd")
    return read_nrrd(file)


def tid1500(path: Path, folder: Path) -> dict:
    """An SR as dcmqi reads it."""
    folder.mkdir()
    dcmqi("tid1500reader", "--inputDICOM", path, "--outputMetadata", folder / "report.json")
    return json.loads((folder / "report.json").read_text())


def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(K, R, C)`` and affine to LPS mm of a NRRD file as ITK writes it."""
    head, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line and line[0] != "#")
    assert fields["space"] == "left-posterior-superior"
    if fields["encoding"] == "gzip":
        data = gzip.decompress(data)
    dtype = {"short": "<i2", "unsigned char": "u1", "float": "<f4", "double": "<f8", "unsigned short": "<u2"}
    sizes = [int(word) for word in fields["sizes"].split()]
    values = np.frombuffer(data, dtype[fields["type"]]).reshape(sizes[::-1])
    columns = [vector(word) for word in fields["space directions"].split()]
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns[::-1]).T
    affine[:3, 3] = vector(fields["space origin"])
    return values, affine


def vector(text: str) -> list[float]:
    """(1,2,3) in numbers."""
    return [float(word) for word in text.strip("()").split(",")]


def centroid(weights: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass in LPS mm."""
    index = np.argwhere(weights > 0)
    centre = np.average(index, axis=0, weights=weights[weights > 0])
    return (affine @ [*centre, 1.0])[:3]


def analysed(folder: Path, *boxes: tuple[int, int, int, int, int, int]) -> Analysis:
    """The study in `folder` with made-up scores and one region per inclusive box (k0, row0, col0, k1, row1, col1)."""
    return made_of(read_study(folder).series[0], *boxes)


def made_of(series: ImageSeries, *boxes: tuple[int, int, int, int, int, int]) -> Analysis:
    """The same for a series that was read already."""
    frames, rows, columns = series.pixels.shape
    made = made_analysis(modality=series.modality, frames=frames, rows=rows, columns=columns)
    labels = np.zeros(series.pixels.shape, np.uint16)
    regions = []
    for label, box in enumerate(boxes, 1):
        k0, row0, col0, k1, row1, col1 = box
        labels[k0 : k1 + 1, row0 : row1 + 1, col0 : col1 + 1] = label
        centre = series.affine @ [*(np.add(box[:3], box[3:]) / 2), 1.0]
        regions.append(
            Region(
                label=label, frame=k1, bbox=box, centroid_lps_mm=tuple(map(float, centre[:3])), area_mm2=40.0 + label,
                volume_ml=1.25 if series.modality == "CT" else None, score="wd_patch",
                peaks={"wd_patch": 60.5 - label}, mean_mse=900.0, p_value=0.02,
            )
        )  # fmt: skip
    result = replace(made.result, labels=labels, regions=tuple(regions))
    return replace(made, series=series, result=result)


def saved(dataset: pydicom.Dataset, path: Path) -> Path:
    """The object as the pipeline writes it."""
    dataset.save_as(path, enforce_file_format=True)
    return path


ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "upside down": (1, 0, 0, 0, -1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "turned": (0, 1, 0, -1, 0, 0),
    "oblique": (0.8, 0.6, 0, -0.6, 0.8, 0),
}
NEEDLE = (23.5, -46.0, 219.0)


def needle_phantom(
    folder: Path, orientation: Sequence[float], *, reverse: bool
) -> tuple[ImageSeries, np.ndarray, np.ndarray]:
    """A CT with a bead near `NEEDLE`, as it is read; the affine it was written with; the bead's exact LPS place."""
    spacing = (5.0, 3.0, 2.5)
    write_ct_phantom(
        folder, slices=9, rows=64, columns=72, spacing_mm=spacing, orientation=orientation, reverse=reverse,
        needle_lps_mm=NEEDLE,
    )  # fmt: skip
    written = ct_affine(9, 64, 72, spacing, orientation)
    (series,) = read_study(folder).series
    return series, written, written[:3] @ [*nearest_voxel(written, NEEDLE), 1.0]
