"""The extension as Slicer's build and the Extensions Index see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "slicer_extension"
STUB = Path(__file__).parent / "cmake"
VIEWS = Path(__file__).parent / "pictures"
RUNNER = EXTENSION / "Anomap" / "Testing" / "Python" / "run_in_slicer.py"
# The Extensions Index's schema v1.0.1, in short: nothing else may stand in an entry.
ENTRY = {
    "type": "object",
    "required": ["$schema", "category", "scm_url"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"pattern": r"/slicer-extension-catalog-entry-schema-v1\.0\.[12]\.json#$"},
        "category": {"enum": ["Quantification", "Analysis"]},
        "scm_url": {"pattern": r"^https://github\.com/[^/]+/Slicer[A-Za-z]+$"},
        "scm_revision": {"type": "string"},
        "build_dependencies": {"type": "array", "items": {"type": "string"}},
        "build_subdirectory": {"const": "."},
        "tier": {"enum": [1, 3, 5]},
    },
}


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    """Run CMake on an extension. No compiler is needed: nothing is built."""
    cmake = shutil.which("cmake")
    assert cmake, "apt-get install -y cmake"
    words = [cmake, "-S", source, "-B", build, f"-DSlicer_DIR={STUB}", "-G", "Unix Makefiles"]
    for language in ("C", "CXX"):
        words += [f"-DCMAKE_{language}_COMPILER={shutil.which('true')}", f"-DCMAKE_{language}_COMPILER_FORCED=ON"]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the build says of the extension, by key."""
    build = tmp_path_factory.mktemp("build")
    done = configure(EXTENSION, build)
    assert done.returncode == 0, done.stderr
    lines = (build / "extension.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_every_file_is_packaged_and_every_entry_exists(described: dict[str, str]):
    assert described["NAME"] == "Anomap"
    assert described["DEPENDS"] == "PyTorch"
    for line in ("Research use only", "Not a diagnosis", "Nothing is sent anywhere"):
        assert line in described["DESCRIPTION"]


FAULTS: dict[str, Callable[[Path], object]] = {
    "not listed, so not packaged: AnomapLib/forgotten.py": lambda e: (e / "Anomap/AnomapLib/forgotten.py").touch(),
    "not listed, so not packaged: Resources/forgotten.png": lambda e: (e / "Anomap/Resources/forgotten.png").touch(),
    "listed but missing: AnomapLib/models.py": lambda e: (e / "Anomap/AnomapLib/models.py").unlink(),
    "listed but missing: Resources/UI/Anomap.ui": lambda e: (e / "Anomap/Resources/UI/Anomap.ui").unlink(),
    "EXTENSION_ICONURL is not set": lambda e: replace(e / "CMakeLists.txt", "set(EXTENSION_ICONURL", "set(OTHER"),
    "listed but missing: RESOURCE": lambda e: replace(e / "Anomap/CMakeLists.txt", "RESOURCES $", "RESOURCE $"),
    "unknown arguments: TITLE": lambda e: replace(e / "Anomap/CMakeLists.txt", "  NAME $", "  TITLE NAME $"),
}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_check_of_the_packaging_can_fail(fault: str, tmp_path: Path):
    extension = Path(shutil.copytree(EXTENSION, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))
    FAULTS[fault](extension)
    done = configure(extension, tmp_path / "build")
    assert done.returncode != 0
    assert fault in " ".join(done.stderr.split()), done.stderr


def test_the_entry_of_the_extensions_index(described: dict[str, str]):
    (path,) = EXTENSION.glob("*.json")
    assert path.stem == described["NAME"], "the index names an extension by its file"
    assert not path.stem.startswith("Slicer")
    text = path.read_text()
    assert "\r" not in text
    entry = json.loads(text)
    jsonschema.validate(entry, ENTRY)
    assert entry["build_dependencies"] == described["DEPENDS"].split()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(entry | {"description": "belongs into CMakeLists.txt"}, ENTRY)


def test_addresses_lead_to_files_that_are_here(described: dict[str, str]):
    entry = json.loads((EXTENSION / "Anomap.json").read_text())
    raw = entry["scm_url"].replace("github.com", "raw.githubusercontent.com") + f"/{entry['scm_revision']}/"
    for address in (described["ICONURL"], *described["SCREENSHOTURLS"].split()):
        assert address.startswith(raw), f"{address} is no raw address in {entry['scm_url']}"
        with Image.open(EXTENSION / address.removeprefix(raw)) as image:
            assert image.format == "PNG"


def test_the_folder_can_be_a_repository_of_its_own():
    assert (EXTENSION / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    files = [path for path in EXTENSION.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 5e6, "the index takes at most 100 MB with history"
    assert not [path for path in files if path.is_symlink()]


def test_the_readme_says_what_the_index_asks_for():
    text = " ".join((EXTENSION / "README.md").read_text().split())
    for needed in (
        "Nothing on this page was run inside the real Slicer application",
        "Research use only. Not a diagnosis, not lesion detection.",
        "Nothing is sent anywhere",
        "## Tutorial",
        "CTChest",
        "Delete model",
        "10.3390/bioengineering12101106",
        "stand-in",
        "Apache-2.0",
        "must be set when it is published",
    ):
        assert needed in text, f"the README doesn't say {needed!r}"
    for path in re.findall(r"\]\(((?!https?:|#)[^)]+)\)", text):
        assert (EXTENSION / path).exists(), f"the README leads to {path}"


def icon() -> Image.Image:
    """A body in grey, its lungs and spine, and one square in it that glows."""
    scale = 4  # drawn large and made small: smooth edges
    image = Image.new("RGBA", (128 * scale, 128 * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def box(left: int, top: int, right: int, bottom: int) -> list[int]:
        return [scale * value for value in (left, top, right, bottom)]

    draw.rounded_rectangle(box(2, 2, 126, 126), radius=22 * scale, fill=(24, 26, 38, 255))
    draw.ellipse(box(12, 26, 116, 102), fill=(150, 156, 168, 255))
    draw.ellipse(box(16, 30, 112, 98), fill=(104, 110, 122, 255))
    draw.ellipse(box(24, 38, 58, 86), fill=(40, 43, 56, 255))
    draw.ellipse(box(70, 38, 104, 86), fill=(40, 43, 56, 255))
    draw.ellipse(box(56, 76, 72, 92), fill=(208, 212, 220, 255))
    draw.rounded_rectangle(box(74, 46, 98, 70), radius=3 * scale, fill=(226, 88, 74, 255))
    draw.rounded_rectangle(box(80, 52, 92, 64), radius=2 * scale, fill=(255, 242, 190, 255))
    return image.resize((128, 128), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("name", ["Anomap.png", "Anomap/Resources/Icons/Anomap.png"])
def test_the_icon_is_a_generated_page(name: str):
    path = EXTENSION / name
    if os.environ.get("UPDATE_DOCS"):
        path.parent.mkdir(exist_ok=True)
        icon().save(path, optimize=True)
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((128, 128), "RGBA")
        difference = np.abs(np.asarray(image, int) - np.asarray(icon(), int))
    assert difference.mean() < 1, "run `make docs`"


def test_the_views_are_a_generated_page():
    """The stored pictures of the views that are tested elsewhere, side by side."""
    parts = [Image.open(VIEWS / f"{name}.png").convert("RGB") for name in ("axial", "reconstruction", "coronal")]
    views = np.concatenate([np.asarray(part) for part in parts], axis=1)
    path = EXTENSION / "Screenshots" / "views.png"
    if os.environ.get("UPDATE_DOCS"):
        Image.fromarray(views).save(path, optimize=True)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), views), "run `make docs`"


TESTS = {  # what lies beside the runner -> whether the run may pass
    "passes": ("import unittest\nclass A(unittest.TestCase):\n    def test_a(self): pass\n", True),
    "fails": ("import unittest\nclass A(unittest.TestCase):\n    def test_a(self): self.fail()\n", False),
    "skips": ("import unittest\nclass A(unittest.TestCase):\n    def test_a(self): self.skipTest('')\n", False),
    "can't be imported": ("import no_such_module\n", False),
    "is no Python": ("def\n", False),
    "holds no test": ("", False),
    "ends the program": ("raise SystemExit(0)\n", False),
}


@pytest.mark.parametrize("kind", sorted(TESTS))
def test_the_runner_for_slicer_fails_closed(kind: str, tmp_path: Path):
    content, passes = TESTS[kind]
    (tmp_path / "test_it.py").write_text(content)
    shutil.copy(RUNNER, tmp_path)
    (tmp_path / "slicer.py").write_text("import sys\nclass util:\n    exit = staticmethod(sys.exit)\n")
    done = subprocess.run([sys.executable, RUNNER.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr


def test_the_runner_passes_nothing_outside_slicer(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(TESTS["passes"][0])
    shutil.copy(RUNNER, tmp_path)
    words = [sys.executable, "-I", "-S", RUNNER.name]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode != 0
