"""Training and evaluation images, prepared exactly as they will be when the model is used.

Two layouts are read:

* a folder with ``manifest.csv`` (columns ``file, split, category, patient``): 8-bit pictures (PNG, WebP) for
  radiographs; ``.npz`` archives with ``hu`` ``(K, R, C)`` int16 and the columns ``index, pixel_spacing_mm`` for CT
  (slices without spacing are left out), and ``z_mm``, where a slice lies among the others of its patient, if known;
* a folder of DICOM files with one folder a patient, all of which count as normal; one patient in `HELD_OUT` is kept
  out of training, for the reference cohort.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from anomap.errors import AnomapError
from anomap.preprocessing import prepare
from anomap.preprocessing.positions import slice_positions
from anomap.types import Float32, Float64, ImageSeries, Prepared, PreprocessSpec

COLUMNS = {"file", "split", "category", "patient"}
HELD_OUT = 5  # of so many patients in a DICOM folder one is "val"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Prepared images with the labels evaluation needs.

    Attributes:
        prepared: N images.
        names: N names (file and index).
        patients: N pseudonymous patient labels.
        categories: N categories; "normal" for normal ones.
        sources: N datasets of origin.
        stacks: N names of the stacks of slices they come from; "" for an image that has no place in one.
        positions_mm: ``(N,)`` where they lie in it, along the normal of the slices.
    """

    prepared: Prepared
    names: tuple[str, ...]
    patients: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[str, ...]
    stacks: tuple[str, ...]
    positions_mm: Float64

    @property
    def images(self) -> Float32:
        """``(N, 1, H, W)`` in [-1, 1]."""
        return self.prepared.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What is known of one source image; the fields are those of `ImageSet`."""

    name: str
    patient: str
    category: str
    source: str
    stack: str = ""


Labelled = tuple[Prepared, Label, Float64]  # images of one source, and where each lies


def series_from_picture(pixels: np.ndarray, name: str) -> ImageSeries:
    """An 8-bit grey picture ``(R, C)`` as a radiograph without physical spacing."""
    return ImageSeries(
        pixels=(pixels / 255).astype(np.float32)[None],
        unit="1",
        affine=np.eye(4),
        modality="DX",
        frame_ids=(name,),
        valid=np.ones((1, *pixels.shape), bool),
    )


def series_from_hu(hu: np.ndarray, spacing_mm: float, name: str, z_mm: float = 0.0) -> ImageSeries:
    """One CT slice ``(R, C)`` in HU with square pixels at a height of `z_mm`."""
    affine = np.zeros((4, 4))
    affine[:, 0] = (0, 0, 1, 0)
    affine[:, 1] = (0, spacing_mm, 0, 0)
    affine[:, 2] = (spacing_mm, 0, 0, 0)
    affine[:, 3] = (0, 0, z_mm, 1)
    return ImageSeries(
        pixels=hu.astype(np.float32)[None],
        unit="HU",
        affine=affine,
        modality="CT",
        frame_ids=(name,),
        valid=np.ones((1, *hu.shape), bool),
    )


def _manifest_series(root: Path, rows: list[dict[str, str]]) -> Iterator[tuple[ImageSeries, Label]]:
    for file, group in groupby(sorted(rows, key=lambda row: row["file"]), key=lambda row: row["file"]):
        members = list(group)
        try:
            hu = np.load(root / file)["hu"] if file.endswith(".npz") else None
            picture = np.asarray(Image.open(root / file).convert("L")) if hu is None else None
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            lines = ", ".join(row["line"] for row in members[:3])
            raise AnomapError("E102", f"the file of manifest.csv, line {lines}, is missing or can't be read") from error
        for row in members:
            name = f"{file}#{row['index']}" if hu is not None else file
            source = row.get("dataset") or row.get("collection", "")
            label = Label(name=name, patient=row["patient"], category=row["category"], source=source)
            if picture is not None:
                yield series_from_picture(picture, name), label
            elif hu is not None and row["pixel_spacing_mm"]:  # without it a slice has no size, and no place on the grid
                spacing, height = _millimetres(row, "pixel_spacing_mm"), _millimetres(row, "z_mm")
                label = replace(label, stack="" if height is None else row["patient"])
                yield series_from_hu(hu[int(row["index"])], spacing or 0.0, name, height or 0.0), label


def _millimetres(row: Mapping[str, str], column: str) -> float | None:
    """A length of the manifest; None where none is stated."""
    text = row.get(column) or ""
    try:
        length = float(text) if text else None
    except ValueError:
        length = math.nan
    if length is not None and not math.isfinite(length):
        raise AnomapError("E100", f"{column} in manifest.csv, line {row['line']}, is no number")
    return length


def _dicom_series(root: Path, split: str) -> Iterator[tuple[ImageSeries, Label]]:
    from anomap.dicom.read import ReadConfig, read_study

    folders = sorted({path.parent for path in root.rglob("*") if path.is_file()})
    chosen = patients_of(sorted({_patient(root, folder) for folder in folders}), split)
    # Several patients belong into a training set; each folder is read on its own.
    for folder in folders:
        patient = _patient(root, folder)
        if patient in chosen:
            for series in read_study(folder, ReadConfig(allow_gaps=True)).series:
                name = series.frame_ids[0]
                label = Label(name=name, patient=chosen[patient], category="normal", source="DICOM", stack=name)
                yield series, label


def _patient(root: Path, folder: Path) -> str:
    return (*folder.relative_to(root).parts, "")[0]


def by_hash(name: str) -> bytes:
    """A key to sort names by, for choices that follow neither the alphabet nor the looks and are always the same."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def patients_of(folders: Sequence[str], split: str) -> dict[str, str]:
    """The patients of a split with the labels that stand for them: folder names may be names of people.

    Args:
        folders: One name a patient.
        split: "val" gives one in `HELD_OUT`, "train" the others. Hashes of the names decide which, so that the
            choice neither follows the alphabet nor changes from call to call.

    Raises:
        AnomapError: E100 when there is only one patient: nobody could be held out.
    """
    if len(folders) == 1:
        raise AnomapError(
            "E100",
            "the DICOM folder holds one patient, and training needs others to hold out",
            "Give a folder with one folder a patient, or a manifest.csv.",
        )
    order = sorted(folders, key=by_hash)
    labels = {name: f"p{number:05d}" for number, name in enumerate(order)}
    count = -(-len(order) // HELD_OUT)
    return {name: labels[name] for name in (order[:count] if split == "val" else order[count:])}


def manifest_rows(manifest: Path) -> list[dict[str, str]]:
    """The rows of a ``manifest.csv``, each with the number of its "line".

    Raises:
        AnomapError: E100 when a column is missing.
    """
    with manifest.open(newline="") as file:
        reader = csv.DictReader(file)
        lacking = COLUMNS - set(reader.fieldnames or ())
        if lacking:
            raise AnomapError("E100", f"manifest.csv lacks the columns {', '.join(sorted(lacking))}", "Add them.")
        return [{**row, "line": str(number)} for number, row in enumerate(reader, start=2)]


def load_images(root: Path, spec: PreprocessSpec, split: str, category: str | None = None) -> ImageSet:
    """Read and prepare all images of a split.

    Args:
        root: Folder with ``manifest.csv``, or of DICOM files (one folder a patient).
        spec: Preprocessing.
        split: "train", "val" or "test".
        category: Only this category; all when None.

    Raises:
        AnomapError: E100 when nothing fits, a column is missing, a length is no number or there is one patient only;
            E102 for a file that can't be read; as `anomap.preprocessing.prepare` for unusable images.
    """
    manifest = root / "manifest.csv"
    if manifest.is_file():
        rows = manifest_rows(manifest)
        wanted = [row for row in rows if row["split"] == split and category in (None, row["category"])]
        pairs = _manifest_series(root, wanted)
    else:
        pairs = _dicom_series(root, split)
    labelled = [labelled_images(series, spec, label) for series, label in pairs]
    if not labelled:
        raise AnomapError("E100", f"no {split!r} images found for training")
    return assemble(labelled)


def labelled_images(series: ImageSeries, spec: PreprocessSpec, label: Label) -> Labelled:
    """Prepared images of a series for `assemble`.

    Raises:
        AnomapError: As `anomap.preprocessing.prepare`.
    """
    prepared = prepare(series, spec)
    return prepared, label, slice_positions(series)[prepared.frame]


def assemble(labelled: list[Labelled]) -> ImageSet:
    """One set of prepared images, at least one; all images of a part get its label."""
    labels = [label for part, label, _ in labelled for _ in part.images]
    return ImageSet(
        prepared=concatenate([part for part, _, _ in labelled]),
        names=tuple(label.name for label in labels),
        patients=tuple(label.patient for label in labels),
        categories=tuple(label.category for label in labels),
        sources=tuple(label.source for label in labels),
        stacks=tuple(label.stack for label in labels),
        positions_mm=np.concatenate([positions for _, _, positions in labelled]),
    )


def concatenate(parts: list[Prepared]) -> Prepared:
    """Join prepared images of one preprocessing; `frame` then counts images."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "valid", "body", "to_source", "gain", "offset")
    }
    count = len(joined["images"])
    return Prepared(
        **joined,
        frame=np.arange(count, dtype=np.int64),
        frame_ids=tuple(name for part in parts for name in part.frame_ids),
        spec=parts[0].spec,
    )
