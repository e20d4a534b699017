"""``index.parquet``: every image of the repository with its tags, and the shard that it belongs to.

A file is one image, or as many as a NIfTI volume has axial slices. Files are read one after the other and written in
blocks; what stays in memory is 16 bytes an image and the names of CT series and volumes. The slices of a series share a
shard, wherever they lie, as do those of a volume; everything else is cut by path order.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anomap.curation.repository import Found, walk
from anomap.curation.schema import INDEX, Row, table_of
from anomap.curation.tags import describe
from anomap.errors import AnomapError
from anomap.output import appearing, writing
from anomap.types import Int64

BLOCK = 4096  # rows written at once
Tell = Callable[[int], None]  # files so far


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """What the index found.

    Attributes:
        files: Files, each of one row or more.
        shards: Shards, numbered from 0.
        tree_sha256: Hash of all paths, sizes and times of change.
        errors: Code -> files that can't be used, as far as headers tell.
    """

    files: int
    shards: int
    tree_sha256: str
    errors: dict[str, int]


def build_index(root: Path, path: Path, key: bytes, shard_size: int, tell: Tell, leave_out: Path) -> IndexFacts:
    """Index a repository.

    Args:
        root: The repository; never written to.
        path: The Parquet file to make.
        key: Of the patients' labels.
        shard_size: Images a shard; a longer CT series or volume has a shard of its own.
        tell: Told how many files have been looked at.
        leave_out: A folder that isn't indexed.

    Raises:
        AnomapError: E100 when there are no files, E202 when the index can't be written.
    """
    groups, errors, digest, files = array("q"), Counter[str](), hashlib.sha256(), 0
    with writing(), TemporaryDirectory(dir=path.parent, prefix=".anomap-index-") as folder:
        plain = Path(folder) / path.name
        with pq.ParquetWriter(plain, INDEX) as writer:
            rows = _rows(root, walk(root, leave_out), key, groups, errors, digest)
            for block in _blocks(rows):
                writer.write_table(table_of(block, INDEX))
                files += sum(row["frame"] == 0 for row in block)
                tell(files)
        if not files:
            raise AnomapError("E100", "the repository holds no files", "Check the path.")
        shard, slices = assign(np.frombuffer(groups, np.int64), shard_size)
        with appearing(path) as complete:
            _complete(plain, complete, shard, slices)
    return IndexFacts(files=files, shards=int(shard.max()) + 1, tree_sha256=digest.hexdigest(), errors=dict(errors))


def tree_sha256(root: Path, leave_out: Path) -> tuple[str, int]:
    """The hash that an index of the repository would have now, and its number of files; no file is opened.

    Raises:
        AnomapError: E100 when the repository can't be read.
    """
    digest, count = hashlib.sha256(), 0
    for found in walk(root, leave_out):
        _note(digest, found)
        count += 1
    return digest.hexdigest(), count


def shard_rows(path: Path, number: int) -> list[Row]:
    """The index's rows of one shard.

    Raises:
        AnomapError: E703 when the index is damaged.
    """
    try:
        rows: list[Row] = pq.read_table(path, filters=[("shard", "==", number)]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise AnomapError("E703", "the index can't be read") from error
    return rows


def assign(groups: Int64, shard_size: int) -> tuple[Int64, Int64]:
    """The shard of every image, and how many images are of its group.

    Args:
        groups: ``(N,)`` number of each image's group, -1 for images that stand alone.
        shard_size: Images a shard.

    Returns:
        ``(N,)`` shards, filled in the order in which images or groups first appear; ``(N,)`` sizes of groups.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=1)
    slices = np.where(groups >= 0, sizes[np.maximum(groups, 0)], 1)
    shards, of_group = np.empty(len(groups), np.int64), np.full(len(sizes), -1, np.int64)
    shard, filled = 0, 0
    for place, (group, size) in enumerate(zip(groups.tolist(), slices.tolist(), strict=True)):
        if group >= 0 and of_group[group] >= 0:
            shards[place] = of_group[group]
            continue
        if filled and filled + size > shard_size:
            shard, filled = shard + 1, 0
        filled += size
        shards[place] = shard
        if group >= 0:
            of_group[group] = shard
    return shards, slices


def _rows(
    root: Path, files: Iterable[Found], key: bytes, groups: array[int], errors: Counter[str], digest: Any
) -> Iterator[Row]:
    """The rows without shards; fills `groups`, `errors` and `digest`."""
    numbers: dict[str, int] = {}
    for found in files:
        _note(digest, found)
        described = describe(found.within(root), key)
        group = described.group or (f"./{found.path}" if described.images > 1 else "")
        number = numbers.setdefault(group, len(numbers)) if group else -1
        error = described.error
        if error is not None:
            errors[error.code] += 1
        row = {
            **described.tags,
            "path": found.path,
            "raw_path": found.raw_path,
            "shard": 0,
            "format": described.kind,
            "bytes": found.size,
            "mtime_ns": found.mtime_ns,
            "slices": 1,
            "error": error.code if error else "",
            "message": error.message if error else "",
        }
        for frame in range(described.images):
            groups.append(number)
            yield {**row, "frame": frame}


def _note(digest: Any, found: Found) -> None:
    digest.update(f"{found.path}\0{found.size}\0{found.mtime_ns}\n".encode())


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    block: list[Row] = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _complete(plain: Path, complete: Path, shard: Int64, slices: Int64) -> None:
    """Copy the rows block by block, now with their shards."""
    start = 0
    with pq.ParquetFile(plain) as source, pq.ParquetWriter(complete, INDEX) as writer:
        for batch in source.iter_batches(BLOCK):
            table = pa.Table.from_batches([batch], INDEX)
            for name, values in (("shard", shard), ("slices", slices)):
                column = pa.array(values[start : start + len(batch)].astype(np.int32))
                table = table.set_column(INDEX.get_field_index(name), INDEX.field(name), column)
            writer.write_table(table)
            start += len(batch)
