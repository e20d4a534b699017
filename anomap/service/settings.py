"""Settings of the node: one TOML file, read strictly.

A key that isn't known stops the node (E200): a misspelt ``confirm`` must not turn into an archive that nobody asks.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from anomap.config import AnalyzeConfig
from anomap.tables import build, read_toml, require

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
        require(bool(self.calling), "listen.calling names no AE title: nobody could send")
        for title in (self.ae_title, *self.calling):
            _require_ae_title(title)
        _require_port(self.port, "listen.port", least=1)
        require(self.silence_s > 0 and self.max_associations > 0 and self.max_object_mb > 0, "listen: limits are > 0")


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
        require(self.workers >= 1 and self.attempts >= 1, "work: workers and attempts are at least 1")
        require(self.quiet_s > 0 and self.time_limit_s > 0 and self.backoff_s > 0, "work: times are > 0")
        require(self.memory_limit_gb >= 0, "work: memory_limit_gb is >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How the disk is kept from filling up."""

    min_free_gb: float = 5.0  # below it, images are refused (0xA700) and the peer keeps them
    keep_images_days: float = 7.0  # received images of finished jobs
    keep_results_days: float = 30.0  # results of finished jobs, and what the status page shows of them

    def __post_init__(self) -> None:
        require(min(self.min_free_gb, self.keep_images_days, self.keep_results_days) >= 0, "disk: values are >= 0")


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
        require(bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", self.name)), f"{where}: the name is a plain word")
        if self.kind == "dicom":
            require(bool(self.host), f"{where}: kind dicom needs host")
            _require_ae_title(self.ae_title)
            _require_port(self.port, f"{where}: port", least=1)
        require(self.kind == "dicom" or self.confirm != "commitment", f"{where}: commitment needs kind dicom")
        if self.kind == "dicomweb" or self.confirm == "qido":
            require(self.url.startswith(("http://", "https://")), f"{where}: url must be the DICOMweb root")
        require(min(self.attempts, self.backoff_s, self.timeout_s, self.confirm_s) > 0, f"{where}: limits are > 0")


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
        require(len(names) == len(set(names)), "two destinations have the same name")

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
    content = read_toml(path, "the settings")
    base = path.absolute().parent
    config: ServiceConfig = build(ServiceConfig, content, "settings", base)
    cohorts = tuple(str(base / cohort) for cohort in config.analysis.cohort)
    return dataclasses.replace(config, analysis=dataclasses.replace(config.analysis, cohort=cohorts))


def _require_port(port: int, where: str, least: int) -> None:
    require(least <= port <= 65535, f"{where} is between {least} and 65535")


def _require_ae_title(title: str) -> None:
    require(bool(_AE_TITLE.fullmatch(title)), f"an AE title has 1 to 16 plain characters, got {title!r}")
