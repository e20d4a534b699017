"""A whole curation: index, rounds over the shards, the merged table. Everything that is there already is kept."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from anomap.bundle import list_bundles
from anomap.curation.index import build_index, tree_sha256
from anomap.curation.load import Item
from anomap.curation.merge import merge, missing_shards, triage_threshold
from anomap.curation.settings import (
    IMAGES_FILE,
    INDEX_FILE,
    Book,
    CurateConfig,
    new_book,
    open_output,
    read_book,
    write_book,
)
from anomap.curation.shard import Round, ShardDone, load_shard, measure_shard, round_of
from anomap.errors import AnomapError

Event = dict[str, Any]
Listener = Callable[[Event], None]
Engine = Callable[[Round, Sequence[int]], Iterator[ShardDone]]


def curate(
    root: Path,
    out: Path,
    models: Path,
    config: CurateConfig,
    listener: Listener,
    *,
    engine: Engine | None = None,
    patient_key: bytes | None = None,
    overwrite: bool = False,
) -> Book:
    """Curate a repository; the same call goes on where an earlier one ended.

    Args:
        root: The repository; never written to.
        out: The curation's folder.
        models: Folder of bundles.
        config: How.
        listener: Told of every step.
        engine: Where shards are measured; in this process if None.
        patient_key: Of the patients' labels; thrown away after the index if None.
        overwrite: Begin anew.

    Returns:
        The finished book.

    Raises:
        AnomapError: E100, E200, E201, E700: nothing was changed; else the reason why the run ended: finished shards
            are kept.
    """
    book = indexed(root, out, models, config, listener, patient_key=patient_key, overwrite=overwrite)
    while book.result is None or not (out / IMAGES_FILE).is_file():
        task = round_of(root, out, models, book)
        run_round(task, book.shards, engine or in_this_process, listener)
        book = concluded(out, book)
    return book


def indexed(
    root: Path,
    out: Path,
    models: Path,
    config: CurateConfig,
    listener: Listener,
    *,
    patient_key: bytes | None = None,
    overwrite: bool = False,
) -> Book:
    """The book of a repository whose index is complete: made now, or found and still true.

    Raises:
        AnomapError: As `curate`.
    """
    if not root.is_dir():
        raise AnomapError("E100", "the repository is no folder", "Check the path.")
    if out.resolve() == root.resolve():
        raise AnomapError("E201", "the output is the repository itself", "Choose another folder.")
    book = open_output(out, new_book(root, config, list_bundles(models)), overwrite=overwrite)
    if book.index is not None:
        digest, files = tree_sha256(root, out)
        if digest != book.index["tree_sha256"]:
            found = f"{files} files now, {book.index['files']} when it was indexed"
            raise AnomapError("E700", f"the repository is not the one that was indexed ({found})")
        return book
    listener({"event": "stage", "stage": "index", "done": 0, "total": None})
    facts = build_index(
        root,
        out / INDEX_FILE,
        patient_key or secrets.token_bytes(32),
        config.shard_size,
        lambda done: listener({"event": "stage", "stage": "index", "done": done, "total": None}),
        out,
    )
    listener({"event": "index", **asdict(facts)})
    book = replace(book, index=asdict(facts))
    write_book(out, book)
    return book


def one_shard(root: Path, out: Path, models: Path, number: int, device: str | None, listener: Listener) -> None:
    """Measure one shard of a curation whose index is complete, unless its file is there.

    Args:
        root: The repository.
        out: The curation's folder.
        models: Folder of bundles; the same ones as the index was made for.
        number: Of the shard, from 0.
        device: Instead of that of the settings.
        listener: Told of the outcome.

    Raises:
        AnomapError: E200 for a number that is none, E700 for other models, E703 without a complete index; what concerns
            the whole run.
    """
    book = read_book(out)
    config = book.config if device is None else replace(book.config, device=device)
    if not 0 <= number < book.shards:
        raise AnomapError("E200", f"there are shards 0 to {book.shards - 1}, got {number}")
    task = replace(round_of(root, out, models, book), config=config)
    if task.path(number).is_file():
        return
    for outcome in in_this_process(task, [number]):
        listener({"event": "shard", "stage": task.name, **asdict(outcome)})


def run_round(task: Round, shards: int, engine: Engine, listener: Listener) -> None:
    """Let an engine deal with the shards that have no file yet, and tell how far it is.

    Raises:
        AnomapError: What concerns the whole run.
    """
    missing = missing_shards(task.out, shards, cheap=task.cheap)
    progress = _Progress(stage=task.name, shards=shards, done=shards - len(missing))
    listener({"event": "stage", "stage": task.name, "done": progress.done, "total": shards})
    for outcome in engine(task, missing):
        listener(progress.after(outcome))
        listener({"event": "stage", "stage": task.name, "done": progress.done, "total": shards})


def concluded(out: Path, book: Book) -> Book:
    """What follows when a round is complete: the threshold of the triage, or the merged table.

    Raises:
        AnomapError: E703 when shards are missing.
    """
    config = book.config
    if config.triage is not None and book.triage_threshold is None:
        lacking = missing_shards(out, book.shards, cheap=True)
        if lacking:
            raise AnomapError("E703", f"{len(lacking)} shards had no first look, the first is {lacking[0]}")
        book = replace(book, triage_threshold=triage_threshold(out, book.shards, config.triage))
    else:
        book = replace(book, result=merge(out, book.shards))
    write_book(out, book)
    return book


def in_this_process(task: Round, numbers: Sequence[int]) -> Iterator[ShardDone]:
    """Measure shards one after the other; meanwhile the next one is read and prepared by a thread."""
    models = task.open_models()
    stop = threading.Event()
    with ThreadPoolExecutor(1, "anomap-load") as pool:

        def loading(number: int) -> Future[list[Item]]:
            return pool.submit(load_shard, task, number, models.infos, stop.is_set)

        try:
            ahead = loading(numbers[0]) if numbers else None
            for place, number in enumerate(numbers):
                assert ahead is not None  # noqa: S101 (there is a number)
                items = ahead.result()
                ahead = loading(numbers[place + 1]) if place + 1 < len(numbers) else None
                yield measure_shard(task, number, items, models)
        finally:
            stop.set()


@dataclass(kw_only=True)
class _Progress:
    """Counts of a round as it goes on; what an earlier call did doesn't count for the rate."""

    stage: str
    shards: int
    done: int
    images: int = 0
    new: int = 0
    errors: int = 0
    start: float = field(default_factory=time.monotonic)

    def after(self, outcome: ShardDone) -> Event:
        self.done += 1
        self.new += 1
        self.images += outcome.images
        self.errors += outcome.errors
        seconds = max(time.monotonic() - self.start, 1e-9)
        return {
            "event": "shard",
            "stage": self.stage,
            "number": outcome.number,
            "done": self.done,
            "of": self.shards,
            "images": self.images,
            "errors": self.errors,
            "images_per_s": round(self.images / seconds, 3),
            "eta_s": round((self.shards - self.done) * seconds / self.new),
        }
