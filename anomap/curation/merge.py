"""All shards as one table in path order, streamed; and the threshold of a triage."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anomap.curation.schema import IMAGES
from anomap.curation.settings import CHEAP_FOLDER, IMAGES_FILE, SHARD_FOLDER, Json
from anomap.curation.shard import shard_path
from anomap.errors import AnomapError
from anomap.output import appearing, writing

_ORDER = [("path", "ascending"), ("frame", "ascending")]


def missing_shards(out: Path, shards: int, *, cheap: bool = False) -> list[int]:
    """Numbers of the shards that have no file yet."""
    return [number for number in range(shards) if not shard_path(out, number, cheap=cheap).is_file()]


def triage_threshold(out: Path, shards: int, quantile: float) -> float:
    """The cheap score at a quantile of all images that have one.

    Args:
        out: The curation's folder; every shard has had its first look.
        shards: Number of shards.
        quantile: In (0, 1).

    Raises:
        AnomapError: E703 when a first look is missing or damaged.
    """
    values = array("f")
    for number in range(shards):
        column = _read(shard_path(out, number, cheap=True), number, columns=["cheap"])["cheap"]
        values.extend(column.drop_null().to_numpy().tolist())
    return float(np.quantile(np.frombuffer(values, np.float32), quantile)) if values else 0.0


def merge(out: Path, shards: int) -> Json:
    """Write ``images.parquet``; what was left by workers that were killed goes.

    Shards begin at ever later paths, so that rows before the beginning of the next one are in their final order. What
    stays in memory is one shard, and those rows of series with slices in several places that still have to wait.

    Args:
        out: The curation's folder.
        shards: Number of shards.

    Returns:
        Counts for ``curate.json``.

    Raises:
        AnomapError: E703 when a shard is missing or damaged, E202 when the table can't be written.
    """
    lacking = missing_shards(out, shards)
    if lacking:
        raise AnomapError("E703", f"{len(lacking)} of {shards} shards are not there, the first is {lacking[0]}")
    counts = _Counts()
    with (
        writing(),
        appearing(out / IMAGES_FILE, durable=True) as temporary,
        pq.ParquetWriter(temporary, IMAGES) as writer,
    ):
        for table in _in_order(out, shards):
            writer.write_table(table)
            counts.add(table)
    for folder in (out / SHARD_FOLDER, out / CHEAP_FOLDER):
        for left in folder.glob(".*.parquet"):
            left.unlink(missing_ok=True)
    return counts.as_json()


def _in_order(out: Path, shards: int) -> Iterator[pa.Table]:
    waiting = IMAGES.empty_table()
    for number in range(shards):
        table = _read(shard_path(out, number), number)
        first = pc.min(table["path"]).as_py()
        ready = pc.less(waiting["path"], first)
        yield waiting.filter(ready).sort_by(_ORDER)
        waiting = pa.concat_tables([waiting.filter(pc.invert(ready)), table]).combine_chunks()
    yield waiting.sort_by(_ORDER)


def _read(path: Path, number: int, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise AnomapError("E703", f"shard {number} is missing or damaged: remove its file and run again") from error


class _Counts:
    """Sums over tables that pass by. Files and pictures that occur again are counted by 8 bytes of their hashes.

    A file counts once, however many images it holds: with the first.
    """

    def __init__(self) -> None:
        self.tiers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.files, self.pictures = array("Q"), array("Q")

    def add(self, table: pa.Table) -> None:
        for name, counter in (("tier", self.tiers), ("error", self.errors), ("looks", self.looks)):
            counter.update(table[name].to_pylist())
        files = table.filter(pc.equal(table["frame"], 0))["file_sha256"]
        for hashes, seen in ((files, self.files), (table["pixel_sha256"], self.pictures)):
            seen.extend(int(text[:16], 16) for text in hashes.to_pylist() if text)

    def as_json(self) -> Json:
        rows = sum(self.tiers.values())
        return {
            "rows": rows,
            "tiers": {name: count for name, count in sorted(self.tiers.items()) if name},
            "errors": {code: count for code, count in sorted(self.errors.items()) if code},
            "looks": {word: count for word, count in sorted(self.looks.items()) if word},
            "repeated_files": _repeated(self.files),
            "repeated_pictures": _repeated(self.pictures),
        }


def _repeated(values: array[int]) -> int:
    numbers = np.frombuffer(values, np.uint64) if values else np.zeros(0, np.uint64)
    return len(numbers) - len(np.unique(numbers))
