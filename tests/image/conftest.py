"""The image, built once for all tests, and the study that goes through it. Left out unless ``-m image`` asks for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.image.engine import Engine, missing

MEASURED = pytest.StashKey[dict]()
# Everything that can be taken from a container: network, capabilities, its root file system, a known user.
HARDENED = (
    "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=12345:54321",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these out of the ordinary suite: they build an image, which takes minutes."""
    if "image" in config.option.markexpr:
        return
    left_out = [item for item in items if "image" in item.keywords]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was measured."""
    for name, value in config.stash.get(MEASURED, {}).items():
        terminalreporter.write_line(f"measured {name}: {value}")


@pytest.fixture(scope="session")
def engine(request) -> Iterator[Engine]:
    """The built image. $ANOMAP_IMAGE_SCRATCH names a folder that stays, with the image, for the next time."""
    absent = missing()
    if absent:
        pytest.fail(f"missing programs: apt-get install {' '.join(absent)}")
    named = os.environ.get("ANOMAP_IMAGE_SCRATCH")
    scratch = Path(named) if named else Path(tempfile.mkdtemp(prefix="anomap-image-"))
    engine = Engine(scratch.absolute(), kept=bool(named))
    request.config.stash[MEASURED] = engine.measured
    try:
        engine.make_base()
        engine.build()
        yield engine
    finally:
        if not named:
            engine.remove()


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A CT series and a radiograph of one patient, and a file that is none of ours."""
    folder = tmp_path_factory.mktemp("study")
    write_ct_phantom(folder / "ct", slices=4, rows=128, columns=128, patient_id="ZZID", needle_lps_mm=(10, 10, 210))
    write_radiograph_phantom(folder / "dx", rows=256, columns=200, patient_id="ZZID", needle=True)
    (folder / "README.txt").write_text("not DICOM")
    return opened(folder)


@pytest.fixture
def output(tmp_path) -> Path:
    """A folder that any user may write to."""
    return writable(tmp_path / "out")


@pytest.fixture
def quick(tmp_path) -> str:
    """The option that mounts settings of little work over those of the image."""
    path = tmp_path / "app.yaml"
    path.write_text("analyze: {steps: 2}\n")
    return f"--volume={path}:/var/holoscan/app.yaml:ro"


def writable(folder: Path) -> Path:
    """A new folder that any user may write to."""
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def opened(folder: Path) -> Path:
    """Let any user read a folder; pytest's are private."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def copied(source: Path, target: Path) -> Path:
    """A copy that any user may read."""
    shutil.copytree(source, target)
    return opened(target)
