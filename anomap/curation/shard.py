"""One shard: its rows read, measured, and written as one file that appears whole.

Loading needs no network and measuring no file, so that the next shard can be loaded while this one is measured. With
triage there are two rounds: a first look at every image, and then, above a threshold that the whole repository sets,
the projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from anomap import __version__
from anomap.bundle import BundleInfo, list_bundles
from anomap.curation.index import shard_rows
from anomap.curation.load import Item, load
from anomap.curation.measure import Models, first_look, projected
from anomap.curation.schema import IMAGES, Row, table_of
from anomap.curation.settings import CHEAP_FOLDER, INDEX_FILE, SHARD_FOLDER, Book, CurateConfig
from anomap.errors import AnomapError
from anomap.output import appearing, writing
from anomap.study import resolve_device

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a run does with every shard; it can be sent to another process.

    Attributes:
        root: The repository.
        out: The curation's folder.
        models: Folder of bundles.
        expected: Name -> sha256 of the bundles that may be used, the same on every machine.
        config: How images are measured.
        cheap: First look alone.
        threshold: With triage, after the first look: cheap score above which images are projected.
        version: Of anomap, the same on every machine.
    """

    root: Path
    out: Path
    models: Path
    expected: Mapping[str, str]
    config: CurateConfig
    cheap: bool = False
    threshold: float | None = None
    version: str = __version__

    @property
    def name(self) -> str:
        """For people, in progress."""
        return "first look" if self.cheap else "score"

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return shard_path(self.out, number, cheap=self.cheap)

    def open_models(self) -> Models:
        """The models of this round, none of them loaded yet.

        Raises:
            AnomapError: E700 when this machine has other ones or another anomap, E401 when it lacks the device; as
                `anomap.bundle.list_bundles`.
        """
        infos = tuple(info for info in list_bundles(self.models) if info.name in self.expected)
        if self.version != __version__ or {info.name: info.sha256 for info in infos} != dict(self.expected):
            raise AnomapError("E700", "models or anomap are not those that the repository was indexed for")
        return Models(infos=infos, config=self.config, device=resolve_device(self.config.device))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDone:
    """What became of a shard.

    Attributes:
        number: Which.
        images: Rows that were dealt with.
        errors: Of them, rows without a score.
    """

    number: int
    images: int
    errors: int


def shard_path(out: Path, number: int, *, cheap: bool = False) -> Path:
    """The file of a shard, of its first look if `cheap`."""
    return out / (CHEAP_FOLDER if cheap else SHARD_FOLDER) / f"{number:05d}.parquet"


def round_of(root: Path, out: Path, models: Path, book: Book) -> Round:
    """What is to be done next: the first look while triage has no threshold, else the projection."""
    triage = book.config.triage is not None
    return Round(
        root=root,
        out=out,
        models=models,
        expected={name: model["sha256"] for name, model in book.models.items()},
        config=book.config,
        cheap=triage and book.triage_threshold is None,
        threshold=book.triage_threshold,
        version=book.version,
    )


def load_shard(task: Round, number: int, infos: Sequence[BundleInfo], stop: Stop = lambda: False) -> list[Item]:
    """The items of a shard: read and prepared, unless nothing is left to compute.

    Args:
        task: The round.
        number: Of the shard.
        infos: The bundles there are.
        stop: Asked after each image; the items are then incomplete and of no use.

    Raises:
        AnomapError: E703 when the index, or the first look that this round builds on, can't be read.
    """
    items: list[Item] = []
    for item in _items(task, number, infos):
        if stop():
            break
        items.append(item)
    return items


def measure_shard(task: Round, number: int, items: Sequence[Item], models: Models) -> ShardDone:
    """Measure what `load_shard` gave and write the shard's file.

    Raises:
        AnomapError: E202 when it can't be written; what concerns the whole run, as model and device.
    """
    if task.threshold is None:
        items = first_look(items, models)
    if not task.cheap:
        items = projected(items, models)
    rows = [item.row for item in items]
    path = task.path(number)
    with writing():
        path.parent.mkdir(exist_ok=True)
        with appearing(path, durable=True) as temporary:
            pq.write_table(table_of(rows, IMAGES), temporary)
    return ShardDone(number=number, images=len(rows), errors=sum(bool(row["error"]) for row in rows))


def _items(task: Round, number: int, infos: Sequence[BundleInfo]) -> Iterator[Item]:
    """The items of a shard. A file is read once, and only if one of its images is still to be projected."""
    looked = {} if task.threshold is None else _first_look_of(task, number)
    for path, of_file in groupby(shard_rows(task.out / INDEX_FILE, number), itemgetter("path")):
        rows = list(of_file)
        before = [row for row in (looked.get((path, row["frame"])) for row in rows) if row is not None]
        if before and not any(_above(row, task.threshold) for row in before):
            yield from (Item(row=row) for row in before)
            continue
        for item in load(rows, task.root, infos, task.config.model):
            seen = looked.get((path, item.row["frame"]))
            if seen is None or item.prepared is None:
                yield item
            else:
                yield Item(row=seen, prepared=item.prepared if _above(seen, task.threshold) else None)


def _above(row: Row, threshold: float | None) -> bool:
    return row["cheap"] is not None and threshold is not None and row["cheap"] > threshold


def _first_look_of(task: Round, number: int) -> dict[tuple[str, int], Row]:
    path = shard_path(task.out, number, cheap=True)
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise AnomapError("E703", f"the first look at shard {number} is missing or damaged") from error
    return {(row["path"], row["frame"]): row for row in rows}
