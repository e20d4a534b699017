"""Training and evaluation images, prepared exactly as they will be when the model is used.

Two layouts are read:

* a folder with ``manifest.csv`` (columns ``file, split, category, patient``): 8-bit pictures (PNG, WebP) for
  radiographs; ``.npz`` archives with ``hu`` ``(K, R, C)`` int16 and the columns ``index, pixel_spacing_mm`` for CT
  (slices without spacing are left out);
* a folder of DICOM files, all of which count as normal.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from anomap.errors import AnomapError
from anomap.preprocessing import prepare
from anomap.types import Float32, ImageSeries, Prepared, PreprocessSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Prepared images with the labels evaluation needs.

    Attributes:
        prepared: N images.
        names: N names (file and index).
        patients: N pseudonymous patient labels.
        categories: N categories; "normal" for normal ones.
        sources: N datasets of origin.
    """

    prepared: Prepared
    names: tuple[str, ...]
    patients: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[str, ...]

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


def series_from_hu(hu: np.ndarray, spacing_mm: float, name: str) -> ImageSeries:
    """One CT slice ``(R, C)`` in HU with square pixels."""
    affine = np.zeros((4, 4))
    affine[:, 0] = (0, 0, 1, 0)
    affine[:, 1] = (0, spacing_mm, 0, 0)
    affine[:, 2] = (spacing_mm, 0, 0, 0)
    affine[3, 3] = 1
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
        hu = np.load(root / file)["hu"] if file.endswith(".npz") else None
        for row in members:
            name = f"{file}#{row['index']}" if hu is not None else file
            source = row.get("dataset") or row.get("collection", "")
            label = Label(name=name, patient=row["patient"], category=row["category"], source=source)
            if hu is None:
                yield series_from_picture(np.asarray(Image.open(root / file).convert("L")), name), label
            elif row["pixel_spacing_mm"]:  # without it a slice has no size, and no place on the model's grid
                yield series_from_hu(hu[int(row["index"])], float(row["pixel_spacing_mm"]), name), label


def _dicom_series(root: Path) -> Iterator[tuple[ImageSeries, Label]]:
    from anomap.dicom.read import ReadConfig, read_study

    # Several patients belong into a training set; each is read on its own.
    for folder in sorted({path.parent for path in root.rglob("*") if path.is_file()}):
        for series in read_study(folder, ReadConfig(allow_gaps=True)).series:
            yield series, Label(name=series.frame_ids[0], patient=folder.name, category="normal", source="DICOM")


def load_images(root: Path, spec: PreprocessSpec, split: str, category: str | None = None) -> ImageSet:
    """Read and prepare all images of a split.

    Args:
        root: Folder with ``manifest.csv``, or of DICOM files (one folder a patient; `split` is then ignored).
        spec: Preprocessing.
        split: "train", "val" or "test".
        category: Only this category; all when None.

    Raises:
        AnomapError: E100 when nothing fits; as `anomap.preprocessing.prepare` for unusable images.
    """
    manifest = root / "manifest.csv"
    if manifest.is_file():
        with manifest.open(newline="") as file:
            rows = [
                row for row in csv.DictReader(file) if row["split"] == split and category in (None, row["category"])
            ]
        pairs = _manifest_series(root, rows)
    else:
        pairs = _dicom_series(root)
    labelled = [(prepare(series, spec), label) for series, label in pairs]
    if not labelled:
        raise AnomapError("E100", f"no {split!r} images found for training")
    return assemble(labelled)


def assemble(labelled: list[tuple[Prepared, Label]]) -> ImageSet:
    """One set of prepared images, at least one; all images of a part get its label."""
    labels = [label for part, label in labelled for _ in part.images]
    return ImageSet(
        prepared=concatenate([part for part, _ in labelled]),
        names=tuple(label.name for label in labels),
        patients=tuple(label.patient for label in labels),
        categories=tuple(label.category for label in labels),
        sources=tuple(label.source for label in labels),
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
