"""What a curation was told, and its book: ``curate.json``, by which a later call knows whether it may go on.

    OUT/curate.json        settings, models, what the index found, counts of the result
        index.parquet      one row an image
        cheap/NNNNN.parquet    first look at a shard, with --triage only
        shards/NNNNN.parquet   results of a shard
        images.parquet     all results in path order; there when everything is done

Every file appears whole, by rename. A call with the same settings and the same files goes on where the last one ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from anomap.output import appearing, writing

if TYPE_CHECKING:
    from anomap.bundle import BundleInfo

BOOK, INDEX_FILE, IMAGES_FILE = "curate.json", "index.parquet", "images.parquet"
CHEAP_FOLDER, SHARD_FOLDER = "cheap", "shards"
REPORT_FILE = "report.html"
FORMAT = "anomap.curation/1"
_MOST_BITS = 8  # of difference between hashes; beyond, nearly everything looks alike
_WITHOUT_EFFECT = ("device", "batch_size")  # they change the last digits only
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateConfig:
    """How a repository is curated."""

    model: str = "auto"  # name of a bundle, or "auto": chosen for each image by modality and body part
    preset: Literal["fast", "paper"] = "fast"  # see anomap analyze
    steps: int | None = None  # projection steps, instead of the preset's
    batch_size: int | None = None  # images fitted together; for speed and memory, results differ by rounding
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    shard_size: int = 256  # images a shard; what is computed again at most after a cut
    triage: float | None = None  # project only images whose cheap score is above this quantile, e.g. 0.8
    thumbnails: float = 1.0  # keep pictures of images with a p-value up to this; 0 keeps none

    def __post_init__(self) -> None:
        _ = self.analysis  # checks what they have in common
        if self.shard_size < 1:
            raise AnomapError("E200", f"a shard holds at least one image, got --shard-size {self.shard_size}")
        if self.triage is not None and not 0 < self.triage < 1:
            raise AnomapError("E200", f"--triage is a quantile between 0 and 1, got {self.triage}")
        if not 0 <= self.thumbnails <= 1:
            raise AnomapError("E200", f"--thumbnails is a p-value from 0 to 1, got {self.thumbnails}")

    @property
    def analysis(self) -> AnalyzeConfig:
        """The same settings as those of a study."""
        return AnalyzeConfig(
            model=self.model, preset=self.preset, steps=self.steps, batch_size=self.batch_size, device=self.device
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What the page shows."""

    thumbnails: int = 2000  # first images of the ranking that get a picture, neighbours and, if outliers, a cluster
    alpha: float = 0.05  # at or below this p-value an image is an outlier: to be looked at
    near: int = 2  # different bits, of 64, of two images that are called nearly the same

    def __post_init__(self) -> None:
        if self.thumbnails < 0:
            raise AnomapError("E200", f"--thumbnails must be at least 0, got {self.thumbnails}")
        if not 0 < self.alpha < 1:
            raise AnomapError("E200", f"--alpha must lie between 0 and 1, got {self.alpha}")
        if not 0 <= self.near <= _MOST_BITS:
            raise AnomapError("E200", f"--near must be 0 to {_MOST_BITS}, got {self.near}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The content of ``curate.json``.

    Attributes:
        root: Name of the repository's folder.
        settings: Fields of `CurateConfig`.
        models: Name -> {"version", "sha256"} of every bundle that may be used.
        index: What the index found, None before it is complete: {"files", "shards", "tree_sha256", "errors"}.
        triage_threshold: Cheap score above which images are projected, once it is known.
        result: Counts of ``images.parquet``, None before it is there.
        version: Of anomap.
    """

    root: str
    settings: Json
    models: Json
    index: Json | None = None
    triage_threshold: float | None = None
    result: Json | None = None
    version: str = __version__

    @property
    def config(self) -> CurateConfig:
        """The settings as they were given."""
        return CurateConfig(**self.settings)

    @property
    def shards(self) -> int:
        """Number of shards.

        Raises:
            AnomapError: E703 before the index is complete.
        """
        if self.index is None:
            raise AnomapError("E703", "the index is not complete")
        return int(self.index["shards"])

    def sha256(self) -> str:
        """Hash of everything here that decides a row."""
        settings = {name: value for name, value in self.settings.items() if name not in _WITHOUT_EFFECT}
        values = {"format": FORMAT, "version": self.version, "settings": settings, "models": self.models}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def new_book(root: Path, config: CurateConfig, infos: Sequence[BundleInfo]) -> Book:
    """The book of a curation that has not begun.

    Raises:
        AnomapError: E300 when there is no such model.
    """
    used = [info for info in infos if config.model in ("auto", info.name)]
    if not used:
        named = f"no model named {config.model!r}" if infos else "the model folder holds no bundle"
        raise AnomapError("E300", named)
    models = {info.name: {"version": info.version, "sha256": info.sha256} for info in used}
    return Book(root=root.resolve().name, settings=asdict(config), models=models)


def read_book(out: Path) -> Book:
    """Read ``curate.json``.

    Raises:
        AnomapError: E703 when there is none or it is damaged.
    """
    try:
        content = json.loads((out / BOOK).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise AnomapError("E703", f"{BOOK} has format {content['format']!r}, expected {FORMAT!r}")
        names = ("root", "settings", "models", "index", "triage_threshold", "result")
        book = Book(**{name: content[name] for name in names}, version=content["software"]["version"])
        _ = book.config
    except FileNotFoundError:
        raise AnomapError("E703", f"the folder holds no {BOOK}", "Give the output folder of `anomap curate`.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnomapError("E703", f"{BOOK} can't be used ({type(error).__name__})") from error
    return book


def write_book(out: Path, book: Book) -> None:
    """Write ``curate.json``; it appears whole.

    Raises:
        AnomapError: E202 when it can't be written.
    """
    values = asdict(book)
    content = {
        "format": FORMAT,
        "notice": NOT_A_DIAGNOSIS,
        "software": {"name": "anomap", "version": values.pop("version")},
        "settings_sha256": book.sha256(),
        **values,
    }
    with writing(), appearing(out / BOOK, durable=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def open_output(out: Path, book: Book, *, overwrite: bool = False) -> Book:
    """The folder of a new curation, or that of one to go on with.

    Args:
        out: Missing, empty, or a curation's folder.
        book: What is wanted, from `new_book`.
        overwrite: Begin anew; what a person wrote (decisions) stays.

    Returns:
        The book there is.

    Raises:
        AnomapError: E201 when the folder holds something else, E700 when it holds a curation of other settings or
            models, E202 when it can't be written.
    """
    with writing():
        out.mkdir(parents=True, exist_ok=True)
        held = [entry for entry in out.iterdir() if not entry.name.startswith(".")]
    if held and not (out / BOOK).is_file():
        raise AnomapError("E201", "the output folder holds something else than a curation", "Choose another folder.")
    if held and not overwrite:
        found = read_book(out)
        if found.sha256() != book.sha256():
            raise AnomapError("E700", f"the output holds a curation with other {_difference(found, book)}")
        return replace(found, settings=book.settings)
    with writing():
        for name in (IMAGES_FILE, REPORT_FILE, INDEX_FILE, BOOK):
            (out / name).unlink(missing_ok=True)
        for name in (CHEAP_FOLDER, SHARD_FOLDER):
            shutil.rmtree(out / name, ignore_errors=True)
    write_book(out, book)
    return book


def _difference(one: Book, other: Book) -> str:
    if one.version != other.version:
        return f"version of anomap ({one.version}, this is {other.version})"
    if one.models != other.models:
        return "models"
    names = [name for name in one.settings if one.settings[name] != other.settings.get(name)]
    names = [name for name in names if name not in _WITHOUT_EFFECT]
    return "settings: " + ", ".join(f"{name} was {one.settings[name]!r}" for name in names)
