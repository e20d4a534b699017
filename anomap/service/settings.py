"""Settings of the node: one TOML file, read strictly.

A key that isn't known stops the node (E200): a misspelt ``confirm`` must not turn into an archive that nobody asks.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError

_AE_TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.\-]{0,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Keys of one side of a TLS connection (PS3.15 B.9: both sides show a certificate)."""

    certificate: Path  # PEM, ours with its chain
    key: Path  # PEM
    authority: Path  # PEM, certificates that the other side must descend from


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """How images arrive."""

    calling: tuple[str, ...]  # AE titles that may associate; nobody else gets in
    ae_title: str = "ANOMAP"
    address: str = "127.0.0.1"  # this machine only, unless a site opens it on purpose
    port: int = 11112
    max_associations: int = 10
    max_object_mb: int = 1024  # larger objects are refused
    silence_s: float = 30.0  # an association whose peer says nothing for so long, or dawdles within a PDU, is dropped
    tls: Tls | None = None

    def __post_init__(self) -> None:
        _require(bool(self.calling), "listen.calling names no AE title: nobody could send")
        for title in (self.ae_title, *self.calling):
            _require_ae_title(title)
        _require_port(self.port, "listen.port", least=1)
        _require(self.silence_s > 0 and self.max_associations > 0 and self.max_object_mb > 0, "listen: limits are > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How jobs are run."""

    workers: int = 1  # analyses at the same time, each in a process with its own models
    quiet_s: float = 30.0  # a series is complete when nothing has come for so long
    time_limit_s: float = 1800.0  # of one analysis
    memory_limit_gb: float = 0.0  # of one worker's address space; 0: none (CUDA needs more than it uses)
    attempts: int = 4  # analyses of one job before it counts as failed
    backoff_s: float = 30.0  # before the second attempt; doubles with each, up to an hour

    def __post_init__(self) -> None:
        _require(self.workers >= 1 and self.attempts >= 1, "work: workers and attempts are at least 1")
        _require(self.quiet_s > 0 and self.time_limit_s > 0 and self.backoff_s > 0, "work: times are > 0")
        _require(self.memory_limit_gb >= 0, "work: memory_limit_gb is >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How the disk is kept from filling up."""

    min_free_gb: float = 5.0  # below it, images are refused (0xA700) and the peer keeps them
    keep_images_days: float = 7.0  # received images of finished jobs
    keep_results_days: float = 30.0  # results of finished jobs, and what the status page shows of them

    def __post_init__(self) -> None:
        _require(min(self.min_free_gb, self.keep_images_days, self.keep_results_days) >= 0, "disk: values are >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The status page and the metrics."""

    address: str = "127.0.0.1"  # it shows images, though no names: put a proxy with a login before it
    port: int = 8080  # 0: none

    def __post_init__(self) -> None:
        _require_port(self.port, "web.port", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An archive that results go to."""

    name: str
    kind: Literal["dicom", "dicomweb"] = "dicom"  # C-STORE, or STOW-RS
    confirm: Literal["commitment", "qido", "none"] = "qido"  # how the archive is asked whether it has them
    host: str = ""  # dicom
    port: int = 104  # dicom
    ae_title: str = ""  # dicom
    url: str = ""  # DICOMweb root: for kind "dicomweb", and for confirm "qido"
    user: str = ""  # DICOMweb
    password_file: Path | None = None  # DICOMweb: a file that holds the password of `user` and nothing else
    token_file: Path | None = None  # DICOMweb: a file that holds a bearer token
    authority: Path | None = None  # DICOMweb over https: certificates to trust instead of the system's
    tls: Tls | None = None  # dicom
    attempts: int = 60  # before an object counts as failed; with the longest back-off about two days
    backoff_s: float = 30.0  # before the second attempt; doubles with each, up to an hour
    timeout_s: float = 30.0  # of one answer
    confirm_s: float = 120.0  # an archive that hasn't confirmed by then is sent the object again

    def __post_init__(self) -> None:
        where = f"destination {self.name!r}"
        _require(bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", self.name)), f"{where}: the name is a plain word")
        if self.kind == "dicom":
            _require(bool(self.host), f"{where}: kind dicom needs host")
            _require_ae_title(self.ae_title)
            _require_port(self.port, f"{where}: port", least=1)
        _require(self.kind == "dicom" or self.confirm != "commitment", f"{where}: commitment needs kind dicom")
        if self.kind == "dicomweb" or self.confirm == "qido":
            _require(self.url.startswith(("http://", "https://")), f"{where}: url must be the DICOMweb root")
        _require(min(self.attempts, self.backoff_s, self.timeout_s, self.confirm_s) > 0, f"{where}: limits are > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """Everything the node is told."""

    state: Path  # folder of the job table, received images and results; one node a folder
    listen: Listen
    models: Path | None = None  # folder of bundles; else as `anomap analyze`
    analysis: AnalyzeConfig = field(default_factory=AnalyzeConfig)
    work: Work = field(default_factory=Work)
    disk: Disk = field(default_factory=Disk)
    web: Web = field(default_factory=Web)
    destination: tuple[Destination, ...] = ()  # none: results stay in the state folder

    def __post_init__(self) -> None:
        names = [destination.name for destination in self.destination]
        _require(len(names) == len(set(names)), "two destinations have the same name")

    @property
    def callers(self) -> tuple[str, ...]:
        """AE titles that may associate: those named, and archives that come back with a commitment."""
        archives = (d.ae_title for d in self.destination if d.confirm == "commitment")
        return tuple(dict.fromkeys((*self.listen.calling, *archives)))


def read_config(path: Path) -> ServiceConfig:
    """Read the settings; relative paths in it are relative to its folder.

    Raises:
        AnomapError: E200 when the file can't be read, is no TOML, or holds something unknown or of the wrong type.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnomapError("E200", f"the settings can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AnomapError("E200", f"the settings are no valid TOML: {error}") from error
    base = path.absolute().parent
    config: ServiceConfig = _build(ServiceConfig, content, "settings", base)
    cohorts = tuple(str(base / cohort) for cohort in config.analysis.cohort)
    return dataclasses.replace(config, analysis=dataclasses.replace(config.analysis, cohort=cohorts))


def _build(kind: Any, values: Any, where: str, base: Path) -> Any:
    """A value of a dataclass, of one of its fields' types, or E200."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = (a for a in get_args(kind) if a is not type(None))
        return _build(inner, values, where, base)
    if origin is tuple:
        _require(isinstance(values, list), f"{where} must be a list")
        kinds = get_args(kind)
        if kinds[-1] is ...:
            return tuple(_build(kinds[0], value, where, base) for value in values)
        _require(len(values) == len(kinds), f"{where} has lists of {len(kinds)} values")
        return tuple(_build(one, value, where, base) for one, value in zip(kinds, values, strict=True))
    if origin is Literal:
        _require(values in get_args(kind), f"{where} must be one of {', '.join(get_args(kind))}")
        return values
    if dataclasses.is_dataclass(kind):
        return _build_table(kind, values, where, base)
    if kind is Path:
        _require(isinstance(values, str) and bool(values), f"{where} must be a path")
        return base / values
    wanted = (int, float) if kind is float else kind
    fits = isinstance(values, wanted) and isinstance(values, bool) == (kind is bool)
    _require(fits, f"{where} must be of type {kind.__name__}")
    _require(kind is not float or math.isfinite(values), f"{where} must be a finite number")
    return kind(values)


def _build_table(kind: Any, values: Any, where: str, base: Path) -> Any:
    _require(isinstance(values, Mapping), f"{where} must be a table")
    types = get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    _require(not unknown, f"{where}: unknown {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    needed = {
        item.name
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    missing = sorted(needed - set(values))
    _require(not missing, f"{where}: {', '.join(missing)} is missing")
    return kind(**{name: _build(types[name], value, f"{where}.{name}", base) for name, value in values.items()})


def _require(fits: bool, message: str) -> None:
    if not fits:
        raise AnomapError("E200", message)


def _require_port(port: int, where: str, least: int) -> None:
    _require(least <= port <= 65535, f"{where} is between {least} and 65535")


def _require_ae_title(title: str) -> None:
    _require(bool(_AE_TITLE.fullmatch(title)), f"an AE title has 1 to 16 plain characters, got {title!r}")
