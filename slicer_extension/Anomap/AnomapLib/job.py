"""The folder through which a volume goes to the analysis and its result comes back.

Nothing here imports anomap: the analysis may run in another Python than Slicer's. What the files hold is described in
``anomap/volume/job.py`` and ``anomap/volume/view.py`` of the anomap package.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

JOB_FORMAT = "anomap.volume/1"
VIEW_FORMAT = "anomap.view/1"


@dataclass(frozen=True)
class Settings:
    """What the user has chosen."""

    model: str = "auto"  # name of a bundle, or chosen by modality and body part
    preset: str = "fast"  # "fast" or "paper"
    device: str = "auto"  # "auto", "cpu" or "cuda"
    onlyShown: bool = False  # only the slices that axial views show
    modelFolder: str = ""  # folder of bundles; "": those that come with anomap


@dataclass(frozen=True)
class VolumeFacts:
    """A volume as it was when the analysis began.

    Attributes:
        voxels: ``(k, j, i)``, not copied.
        affine: ``(4, 4)`` index -> LPS mm of the volume itself.
        toWorld: ``(4, 4)`` LPS -> LPS, the linear transform it is under.
        nonlinear: It is under another kind of transform.
        files: The DICOM files it was loaded from.
        through: Points in LPS mm of the volume itself, one a slice shown.
    """

    voxels: np.ndarray
    affine: np.ndarray
    toWorld: np.ndarray
    nonlinear: bool
    files: tuple = ()
    through: tuple = ()


@dataclass
class View:
    """A result as it was read.

    Attributes:
        content: ``view.json``.
        heat, reconstruction: VTK arrays of the volume's size.
        masks: One ``(k, j, i)`` uint8 array a region, cut to its box.
        dicomFiles: Paths of the DICOM objects.
    """

    content: dict
    heat: vtk.vtkDataArray
    reconstruction: vtk.vtkDataArray
    masks: list = field(default_factory=list)
    dicomFiles: list = field(default_factory=list)


def writeJob(folder, facts, settings):
    """Write the job; to be run beside the interface thread.

    Args:
        folder: An empty folder.
        facts: The volume.
        settings: What to do.
    """
    np.save(folder / "voxels.npy", facts.voxels)
    content = {
        "format": JOB_FORMAT,
        "affine_lps": facts.affine.tolist(),
        "to_world": facts.toWorld.tolist(),
        "nonlinear": facts.nonlinear,
        "files": [str(path) for path in facts.files],
        "through_lps": [list(point) for point in facts.through],
        "models": settings.modelFolder,
        "config": {
            "model": settings.model,
            "preset": settings.preset,
            "device": settings.device,
            "outputs": ["sr", "seg", "pm"],
        },
    }
    (folder / "job.json").write_text(json.dumps(content), encoding="utf-8")


def readView(folder):
    """Read a result; to be run beside the interface thread.

    Raises:
        ValueError: When it is of another format.
    """
    content = json.loads((folder / "view.json").read_text(encoding="utf-8"))
    if content.get("format") != VIEW_FORMAT:
        raise ValueError(f"the result has format {content.get('format')!r}, expected {VIEW_FORMAT!r}")
    with np.load(folder / "regions.npz", allow_pickle=False) as masks:
        found = [masks[str(region["label"])] for region in content["regions"]]
    return View(
        content=content,
        heat=_vtkArray(folder / "wd.npy"),
        reconstruction=_vtkArray(folder / "reconstruction.npy"),
        masks=found,
        dicomFiles=[str(Path(folder) / name) for name in content["dicom"]],
    )


def _vtkArray(path):
    """An array file in memory that VTK owns; numpy copies without holding the interpreter's lock."""
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    array = vtk.vtkDataArray.CreateDataArray(get_vtk_array_type(values.dtype))
    array.SetNumberOfTuples(values.size)
    np.copyto(vtk_to_numpy(array), values.reshape(-1))
    return array
