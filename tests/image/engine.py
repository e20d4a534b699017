"""Builds the image and runs containers of it without a Docker daemon and without a container registry.

buildah and podman keep everything in a scratch folder of ours. The base image is a Debian made by debootstrap from the
mirror that apt uses, and pip in the build reaches the package indexes that pip reaches here.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/anomap:test"
BASE = "localhost/base:latest"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = {"buildah": "buildah", "podman": "podman", "crun": "crun", "debootstrap": "debootstrap"}
# The most that a container may be given; some machines' default limits can't be raised, not even to the same.
LIMIT = 8192
# As in every other test: the last digits of a sum depend on how many threads make it.
ONE_THREAD = "--env=OMP_NUM_THREADS=1"


@dataclass
class Engine:
    """podman with its storage in `scratch`.

    Attributes:
        scratch: Folder for images, containers and the base's root file system.
        kept: Whether the folder stays, so that the next build can go on from it.
        measured: Figures for those who read the output.
    """

    scratch: Path
    kept: bool = False
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.scratch}/store"\nrunroot = "{self.scratch}/run"\n'
        )
        (self.scratch / "containers.conf").write_text(
            '[containers]\nlog_driver = "k8s-file"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n'
        )

    def call(self, *words: object, timeout: float = 1500, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the programs; its output as text."""
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.scratch / "storage.conf"),
            "CONTAINERS_CONF": str(self.scratch / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",  # needs no rights that a CI container doesn't have
            "TMPDIR": str(self.scratch),
        }
        run = subprocess.run(
            [*_namespace(), *map(str, words)], capture_output=True, text=True, errors="replace", check=False,
            env=environment, cwd=ROOT, timeout=timeout,
        )  # fmt: skip
        said = f"{shlex.join(map(str, words))}\n{run.stdout[-3000:]}{run.stderr[-3000:]}"
        assert run.returncode == 0 or not check, said
        return run

    def make_base(self) -> None:
        """A small Debian with Python as the base image, unless it is there from last time."""
        if self.call("podman", "image", "exists", BASE, check=False).returncode == 0:
            return
        start = time.monotonic()
        root = self.scratch / "rootfs"
        site, release = _mirror()
        packages = "ca-certificates,python3,python3-venv"
        self.call("debootstrap", "--variant=minbase", f"--include={packages}", release, root, site)
        # The authorities trusted here, in case a site has its own between itself and the package indexes.
        shutil.copy(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
        archive = self.scratch / "base.tar"
        self.call("tar", "-C", root, "-cf", archive, ".")
        self.call("podman", "import", archive, BASE)
        archive.unlink()
        shutil.rmtree(root)
        self.measured["base_s"] = round(time.monotonic() - start, 1)

    def build(self) -> None:
        """`make image`, with this machine's ways to the package indexes."""
        start = time.monotonic()
        volumes, arguments = pip_settings()
        # The same build of torch as here: results are compared to the last digit.
        arguments |= {"BASE_IMAGE": BASE, "TORCH": f"torch=={metadata.version('torch')}"}
        options = [f"--volume={path}:{path}:ro" for path in volumes]
        options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [] if self.kept else ["--layers=false"]  # a cache that is thrown away is not worth writing
        self.call("make", "image", "ENGINE=buildah", f"IMAGE={IMAGE}", f"BUILD_OPTIONS={shlex.join(options)}")
        self.measured["build_s"] = round(time.monotonic() - start, 1)
        self.measured["image_gb"] = round(self.inspect()["Size"] / 1e9, 2)

    def inspect(self) -> dict[str, Any]:
        """What podman knows of the image."""
        (found,) = json.loads(self.call("podman", "image", "inspect", IMAGE).stdout)
        return found

    def run(self, *words: object, options: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
        """Run a container to its end; its exit status is that of the result."""
        # podman wants systemd for regular health checks; the test of the check itself asks for one.
        command = ("podman", "run", "--rm", "--no-healthcheck", *limits(), ONE_THREAD, *options, IMAGE, *words)
        return self.call(*command, check=False, timeout=300)

    def start(self, *words: object, options: Sequence[object] = ()) -> str:
        """Start a container in the background; its name."""
        return self.call("podman", "run", "--detach", *limits(), ONE_THREAD, *options, IMAGE, *words).stdout.strip()

    def remove(self) -> None:
        """Remove everything."""
        self.call("podman", "rm", "--all", "--force", check=False)
        self.call("podman", "rmi", "--all", "--force", check=False)
        # Mounts of a container that was killed would keep the folder busy.
        self.call("umount", "-R", self.scratch / "store" / "overlay", check=False)
        shutil.rmtree(self.scratch, ignore_errors=True)


def missing() -> list[str]:
    """Debian packages of programs that aren't here."""
    return [package for program, package in PACKAGES.items() if not shutil.which(program)]


def limits() -> list[str]:
    """Options that let containers start where limits can't be raised."""
    found = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in ("nofile", "nproc")}
    values = {name: LIMIT if hard == resource.RLIM_INFINITY else min(hard, LIMIT) for name, hard in found.items()}
    return [f"--ulimit={name}={value}:{value}" for name, value in values.items()]


def pip_settings() -> tuple[list[Path], dict[str, str]]:
    """Folders to mount and build arguments that let pip in the build find what pip finds here."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = dict(_pip_lines(listed.stdout))
    arguments = {f"PIP_{name.replace('-', '_').upper()}": value for name, value in settings.items()}
    places = [place for value in settings.values() for place in value.split()]
    folders = [_local(place) for place in places]
    return sorted({folder for folder in folders if folder is not None}), {**arguments, "PIP_CERT": str(AUTHORITIES)}


def _pip_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in ("index-url", "extra-index-url", "find-links"):
            yield name, " ".join(value.strip("'").replace("\\n", " ").split())


def _local(place: str) -> Path | None:
    """The folder of this machine that a place needs, if any; the files of an index may lie beside it."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(parts.path).parent
    return Path(place) if not parts.scheme and Path(place).is_dir() else None


def _mirror() -> tuple[str, str]:
    """The mirror and the release that apt uses here."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    facts = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    release = facts["VERSION_CODENAME"].strip('"')
    sites = [line.split()[0] for line in listed if line.split()[1:] == [release]]
    assert sites, f"apt has no source of {release}"
    return sites[0], release


def _namespace() -> list[str]:
    """crun refuses machines with both generations of cgroups mounted: the second goes, in a namespace of ours."""
    unified = Path("/sys/fs/cgroup/unified")
    if os.geteuid() != 0 or not unified.is_dir():
        return []
    return ["unshare", "-m", "sh", "-c", f'umount {unified} 2>/dev/null; exec "$@"', "sh"]
