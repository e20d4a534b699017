"""The tables of a curation: what stands in ``index.parquet``, in the shards and in ``images.parquet``.

One row is one image. Nothing in a row names a patient: identifiers are hashed, free text of a header is not kept.
The order of both tables is that of `path` as a string, then `frame`.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from anomap.calibration import COMBINED
from anomap.scoring import SCORES, SERIES_SCORES

# images are measured one by one, without the others of their series
SCORE_NAMES = (*(name for name in SCORES if name not in SERIES_SCORES), COMBINED)
LOOKS = ("as tagged", "inverted", "rotated90", "rotated180", "rotated270", "mirrored")
FORMATS = ("dicom", "png", "jpeg", "tiff", "webp", "nifti")
PROJECTED, CHEAP = "projected", "cheap"  # the tiers; "" for an image without a score

# What a header says. Identifiers are 16 hexadecimal digits of a hash, "" where there is none.
TAGS = (
    pa.field("patient", pa.string()),
    pa.field("study", pa.string()),
    pa.field("series", pa.string()),
    pa.field("image", pa.string()),
    pa.field("modality", pa.string()),
    pa.field("body_part", pa.string()),
    pa.field("view_position", pa.string()),
    pa.field("laterality", pa.string()),
    pa.field("photometric", pa.string()),
    pa.field("manufacturer", pa.string()),
    pa.field("rows", pa.int32()),
    pa.field("columns", pa.int32()),
    pa.field("pixel_spacing_mm", pa.float32()),
)
_FILE = (pa.field("path", pa.string()), pa.field("frame", pa.int32()), pa.field("shard", pa.int32()))
_SLICES = pa.field("slices", pa.int32())  # images of the same CT series or volume in the repository; 1 for all others
_ERROR = (pa.field("error", pa.string()), pa.field("message", pa.string()))

INDEX = pa.schema(
    [
        *_FILE,
        pa.field("raw_path", pa.binary()),  # only where the path is no valid UTF-8
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        *TAGS,
        _SLICES,
        *_ERROR,
    ]
)
IMAGES = pa.schema(
    [
        *_FILE,
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("file_sha256", pa.string()),
        pa.field("pixel_sha256", pa.string()),  # of the presented pixels, "" where there are none
        pa.field("phash", pa.uint64()),  # `perceptual_hash` of the prepared image
        *TAGS,
        _SLICES,
        pa.field("model", pa.string()),
        pa.field("tier", pa.string()),
        *(pa.field(name, pa.float32()) for name in SCORE_NAMES),
        pa.field("p_value", pa.float32()),
        *(pa.field(f"p_{name}", pa.float32()) for name in SCORE_NAMES),
        pa.field("cheap", pa.float32()),
        pa.field("looks", pa.string()),
        pa.field("looks_ratio", pa.float32()),
        pa.field("w", pa.list_(pa.float32())),
        pa.field("thumbnail", pa.binary()),
        *_ERROR,
    ]
)

Row = dict[str, Any]


def empty_row(schema: pa.Schema) -> Row:
    """A row that says nothing: "" for texts, None for the rest."""
    return {field.name: "" if field.type == pa.string() else None for field in schema}


def table_of(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows with the columns of a schema as a table of it."""
    return pa.Table.from_pylist(rows, schema=schema)
