"""From the index's rows to prepared images: everything about an image that needs no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomap.bundle import BundleInfo, file_sha256
from anomap.curation.formats import read_series
from anomap.curation.phash import perceptual_hash
from anomap.curation.repository import located
from anomap.curation.schema import IMAGES, Row, empty_row
from anomap.domain import choose_bundle
from anomap.errors import AnomapError
from anomap.output import as_error
from anomap.preprocessing import prepare
from anomap.types import ImageSeries, Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row on its way to the table.

    Attributes:
        row: What is known so far, with the columns of `anomap.curation.schema.IMAGES`.
        prepared: The image for the model, N = 1; None when there is nothing (more) to compute.
    """

    row: Row
    prepared: Prepared | None = None

    @property
    def model(self) -> str:
        """Name of the bundle."""
        return str(self.row["model"])

    def failed(self, error: AnomapError) -> Item:
        """The row of an image that could not be scored."""
        return Item(row={**self.row, "tier": "", "error": error.code, "message": error.message})


def load(rows: Sequence[Row], root: Path, infos: Sequence[BundleInfo], model: str) -> Iterator[Item]:
    """Read one file and prepare its images one by one; what prevents it becomes an error of a row.

    Args:
        rows: Of the index: all images of the file, in their order.
        root: The repository.
        infos: The bundles there are.
        model: A bundle's name, or "auto".

    Yields:
        An item for every image; a single one, for the first, when the file can't be read.
    """
    first = rows[0]
    path = located(root, first["path"], first["raw_path"])
    items = [Item(row=empty_row(IMAGES) | {name: row[name] for name in IMAGES.names if name in row}) for row in rows]
    try:
        file_hash = _unchanged(path, first)
        for item in items:
            item.row["file_sha256"] = file_hash
        series = None if first["error"] else read_series(path, first["format"], file_hash)
    except Exception as error:
        yield items[0].failed(as_error(error))
        return
    if series is None:
        yield items[0]
        return
    for k, item in enumerate(items):
        if first["format"] == "nifti":
            item.row["modality"] = series.modality  # no header states it: what the voxels were taken for
        yield _prepared(item, series.frames(slice(k, k + 1)), infos, model)


def _prepared(item: Item, series: ImageSeries, infos: Sequence[BundleInfo], model: str) -> Item:
    """The item of a series of one image, ready for its model."""
    try:
        item.row["pixel_sha256"] = pixel_sha256(series)
        info, _ = choose_bundle(series, infos, model)
        item.row["model"] = info.name
        prepared = prepare(series, info.spec)
        item.row["phash"] = perceptual_hash(prepared.images[0, 0])
    except Exception as error:
        return item.failed(as_error(error))
    return Item(row=item.row, prepared=prepared)


def pixel_sha256(series: ImageSeries) -> str:
    """SHA-256 of the presented pixels: equal for the same picture in other files, other syntaxes, other greys."""
    digest = hashlib.sha256(repr((series.unit, series.pixels.shape)).encode())
    digest.update(np.ascontiguousarray(series.pixels).tobytes())
    return digest.hexdigest()


def _unchanged(path: Path, row: Row) -> str:
    """The file's hash, if it is still the file that was indexed."""
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (row["bytes"], row["mtime_ns"]):
            return file_sha256(path)
    except OSError as error:
        raise AnomapError("E701", f"the file can't be read any more ({type(error).__name__})") from None
    raise AnomapError("E701", "the file is not the one that was indexed")
