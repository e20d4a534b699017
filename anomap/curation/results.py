"""Reading ``images.parquet``: small columns as a whole, latent vectors and thumbnails only for the rows asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anomap.curation.settings import IMAGES_FILE
from anomap.errors import AnomapError
from anomap.types import Float32, Int64

LARGE = ("w", "thumbnail")
NEEDED = (
    "path", "frame", "modality", "body_part", "view_position", "laterality", "photometric", "manufacturer", "patient",
    "pixel_sha256", "phash", "model", "tier", "combined", "cheap", "p_value", "looks", "error", *LARGE,
)  # fmt: skip


def read_images(output: Path, names: Sequence[str] | None = None) -> pa.Table:
    """All rows of a curation, in the order of their paths.

    Args:
        output: Folder of ``anomap curate``.
        names: Of the columns; all but `LARGE` when omitted.

    Raises:
        AnomapError: E703 when it holds no complete result.
    """
    with _opened(output) as file:
        lacking = [name for name in NEEDED if name not in file.schema_arrow.names]
        if lacking:
            raise AnomapError("E703", f"{IMAGES_FILE} lacks the columns {', '.join(lacking)}")
        return file.read(names or [name for name in file.schema_arrow.names if name not in LARGE]).combine_chunks()


def read_rows(output: Path, column: str, rows: Int64) -> list[Any]:
    """One of the `LARGE` columns at some rows; no more than one batch is in memory beside them.

    Args:
        output: Folder of ``anomap curate``.
        column: Its name.
        rows: ``(M,)`` row numbers, in any order.

    Returns:
        M values in the order of `rows`, None where the column is empty.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    found: list[Any] = [None] * len(rows)
    start = 0
    with _opened(output) as file:
        for batch in file.iter_batches(batch_size=4096, columns=[column]):
            first, last = np.searchsorted(ascending, [start, start + batch.num_rows])
            values = batch.column(0).take(pa.array(ascending[first:last] - start)).to_pylist()
            for place, value in zip(order[first:last], values, strict=True):
                found[place] = value
            start += batch.num_rows
    return found


def numbers(images: pa.Table, name: str) -> Float32:
    """A column of numbers, NaN where it is empty or the table has no such column. ``(N,)``."""
    if name not in images.column_names:
        return np.full(images.num_rows, np.nan, np.float32)
    values: Float32 = images[name].cast(pa.float32()).to_numpy().astype(np.float32)
    return values


def words(images: pa.Table, name: str) -> list[str]:
    """A column of text, "" where it is empty."""
    return [value or "" for value in images[name].to_pylist()]


def _opened(output: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(output / IMAGES_FILE)
    except FileNotFoundError as error:
        raise AnomapError("E703", f"the folder holds no {IMAGES_FILE}") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise AnomapError("E703", f"{IMAGES_FILE} can't be read") from error
