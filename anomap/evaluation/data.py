"""What `anomap evaluate` measures on: normal images, anomalous categories, and images to fit the baselines to.

Two layouts are read (docs/evaluation.md): a ``manifest.csv`` as for training, or folders anybody can make:

    DATA/normal/...        images as they should be, that the model was not trained on
    DATA/<category>/...    one folder a category
    DATA/train/...         optional: normal images for the baselines, best those the model was trained on

Below each lie DICOM files or 8-bit pictures. The first folder below the category names the patient; a file that
lies there directly is a patient of its own, named by its stem.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from anomap.dicom.read import ReadConfig, read_study
from anomap.errors import AnomapError
from anomap.evaluation.scores import subset
from anomap.training.data import (
    ImageSet,
    Label,
    Labelled,
    assemble,
    by_hash,
    labelled_images,
    load_images,
    manifest_rows,
    series_from_picture,
)
from anomap.types import ImageSeries, PreprocessSpec

NORMAL, TRAIN = "normal", "train"
PICTURES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationData:
    """The sets of one evaluation.

    Attributes:
        train: Normal images the baselines are fitted to.
        normal: Other normal images: the negatives.
        categories: One set a category, by name.
        origins: Name of an anomalous image -> name of the normal image it was computed from.
        left_out: Error code -> how many files of the folder layout could not be used.
        set_aside: `train` is half of the normal patients, because none were given for that.
    """

    train: ImageSet
    normal: ImageSet
    categories: tuple[ImageSet, ...]
    origins: Mapping[str, str]
    left_out: Mapping[str, int]
    set_aside: bool


def load_evaluation(root: Path, spec: PreprocessSpec, split: str = "test") -> EvaluationData:
    """Read a data folder in either layout.

    Args:
        root: The folder.
        spec: Preprocessing of the model.
        split: With a manifest: where categories come from. Normal images come from there too, or from "val" if there
            are none; without a manifest the split is not looked at.

    Raises:
        AnomapError: E100 when there are no normal images; the first reason when nothing of a category can be used;
            as `load_images`.
    """
    left_out: Counter[str] = Counter()
    if (root / "manifest.csv").is_file():
        train, normal, categories, origins = _of_manifest(root, spec, split)
    else:
        train, normal, categories, origins = *_of_folders(root, spec, left_out), {}
    set_aside = train is None
    if train is None:
        train, normal = halves(normal)
    return EvaluationData(
        train=train,
        normal=normal,
        categories=categories,
        origins=origins,
        left_out=dict(left_out),
        set_aside=set_aside,
    )


def halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Two sets of different patients, about equally many, chosen by the hash of the patients' labels.

    Raises:
        AnomapError: E200 with a single patient.
    """
    if len(set(images.patients)) < 2:
        raise AnomapError("E200", "one normal patient can't both fit the baselines and be compared with")
    first = first_half(images.patients)
    inside = np.array([patient in first for patient in images.patients])
    return subset(images, np.flatnonzero(inside)), subset(images, np.flatnonzero(~inside))


def first_half(patients: tuple[str, ...]) -> frozenset[str]:
    """Every second patient in the order of the hashes of their labels."""
    return frozenset(sorted(set(patients), key=by_hash)[::2])


def made_from(manifest: Path) -> dict[str, str]:
    """Image -> the normal image it was computed from, where the manifest's note says so.

    Notes read "SIMULATED on val_normal.npz index 7" (CT) or "derived: 255 - pixel of val_normal/name.png".
    """
    rows = manifest_rows(manifest)
    pictures = {str(Path(row["file"]).with_suffix("")): row["file"] for row in rows}
    origins = {}
    for row in rows:
        slice_note = re.search(r"on (\S+\.npz) index (\d+)", row.get("note") or "")
        picture_note = re.search(r"derived: .* of (\S+)", row.get("note") or "")
        if slice_note:
            origins[f"{row['file']}#{row['index']}"] = f"{slice_note[1]}#{slice_note[2]}"
        elif picture_note:
            stem = str(Path(picture_note[1]).with_suffix(""))
            origins[row["file"]] = pictures.get(stem, stem)
    return origins


_Sets = tuple[ImageSet | None, ImageSet, tuple[ImageSet, ...]]


def _of_manifest(root: Path, spec: PreprocessSpec, split: str) -> tuple[*_Sets, dict[str, str]]:
    held = {(row["split"], row["category"] == NORMAL) for row in manifest_rows(root / "manifest.csv")}
    train = load_images(root, spec, TRAIN, NORMAL) if (TRAIN, True) in held else None
    normal = load_images(root, spec, split if (split, True) in held else "val", NORMAL)
    categories: tuple[ImageSet, ...] = ()
    if (split, False) in held:
        everything = load_images(root, spec, split)
        labels = np.array(everything.categories)
        names = sorted(set(everything.categories) - {NORMAL})
        categories = tuple(subset(everything, np.flatnonzero(labels == name)) for name in names)
    return train, normal, categories, made_from(root / "manifest.csv")


def _of_folders(root: Path, spec: PreprocessSpec, left_out: Counter[str]) -> _Sets:
    if not (root / NORMAL).is_dir():
        raise AnomapError("E100", "the data folder holds neither manifest.csv nor a folder 'normal'", _LAYOUT)
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    train = _category(root / TRAIN, spec, left_out) if TRAIN in names else None
    odd = [_category(root / name, spec, left_out) for name in names if name not in (NORMAL, TRAIN)]
    return train, _category(root / NORMAL, spec, left_out), tuple(odd)


_LAYOUT = "See docs/evaluation.md for the two layouts."


def _category(folder: Path, spec: PreprocessSpec, left_out: Counter[str]) -> ImageSet:
    """All usable images of one folder; the others are counted by their reasons."""
    label = Label(name="", patient="", category=NORMAL if folder.name == TRAIN else folder.name, source="folder")
    labelled: list[Labelled] = []
    reason: AnomapError | None = None
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        patient = entry.name if entry.is_dir() else entry.stem
        for part in _parts(entry):
            try:
                prepared = _prepared(part, spec)
            except AnomapError as error:
                left_out[error.code] += 1
                reason = reason or error
                continue
            for image, of_source, position in prepared:
                name = f"{folder.name}/{patient}/{of_source.name}"
                of_patient = replace(label, name=name, patient=patient, stack=of_source.stack)
                labelled.append((image, of_patient, position))
    if not labelled:
        raise reason or AnomapError("E100", f"the folder of category {folder.name!r} is empty", _LAYOUT)
    return assemble(labelled)


def _parts(entry: Path) -> Iterator[Path]:
    """What is read together: each picture alone, and what else a patient has as one study."""
    files = sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    yield from pictures
    if len(pictures) < len(files):
        yield entry


def _prepared(path: Path, spec: PreprocessSpec) -> list[Labelled]:
    """The images of a picture or a study one by one, each with a name and its series."""
    label = Label(name=path.name, patient="", category="", source="")
    if path.suffix.lower() in PICTURES:
        return [labelled_images(_picture(path), spec, label)]
    images = []
    for series in read_study(path, ReadConfig(allow_gaps=True)).series:
        stack = str(series.headers[0].SeriesInstanceUID)
        for k, name in enumerate(series.frame_ids):
            of_slice = replace(label, name=name, stack=stack)
            try:
                images.append(labelled_images(series.frames(slice(k, k + 1)), spec, of_slice))
            except AnomapError as error:
                if error.code != "E114":  # slices above the head show no body, and are no image
                    raise
    return images


def _picture(path: Path) -> ImageSeries:
    try:
        with Image.open(path) as picture:
            return series_from_picture(np.asarray(picture.convert("L")), f"{path.parent.name}/{path.name}")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise AnomapError("E102", "a picture can't be read") from error
