"""The picture of docs/curation-report.md: a repository of generated radiographs, some spoilt, really curated.

python -m benchmarks.curation_picture [--bundle models/cxr-64] [--output docs/images/curation-report.png]

Nobody's images: the generator made them. It is an easy case, since the model made the normal ones itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from anomap import cli
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.types import Float64
from benchmarks.example import ROD_PX, ROOT, SIDE, generated, pierced

NORMAL = 90
SPOILT: dict[str, tuple[int, Callable[[Float64], Float64]]] = {
    "inverted": (9, lambda image: 1 - image),
    "turned": (8, np.rot90),
    "upside-down": (8, np.flipud),
    "rod": (7, lambda image: pierced(image, width=ROD_PX * SIDE / 64)),
}
MAKERS = ("ACME", "Beta Imaging", "Gamma Medical")


def write_repository(root: Path, bundle: Path) -> None:
    """Radiographs of made-up patients, copies of two, and two files that were cut off."""
    kinds: list[Callable[[Float64], Float64]] = [np.asarray] * NORMAL
    for count, change in SPOILT.values():
        kinds += [change] * count
    places = np.random.default_rng(0).permutation(len(kinds))
    for place, (seed, change) in zip(places, enumerate(kinds), strict=True):
        _write(root / f"site-{place % 3 + 1}" / f"{place:04d}", change(generated(bundle, seed)), int(place))
    for place, seed in ((200, 3), (201, 4)):
        _write(root / "site-3" / f"{place:04d}", generated(bundle, seed), place)
    for place in places[:2]:
        (path,) = (root / f"site-{place % 3 + 1}" / f"{place:04d}").iterdir()
        (root / "site-1" / f"cut-{place:04d}.dcm").write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write(folder: Path, image: Float64, place: int) -> None:
    (path,) = write_radiograph_phantom(folder, rows=SIDE, columns=SIDE, patient_id=f"P{place}", seed=place)
    dataset = pydicom.dcmread(path)
    dataset.Manufacturer, dataset.ViewPosition = MAKERS[place % 3], "PA"
    dataset.PixelData = np.rint(image * (2**dataset.BitsStored - 1)).astype("<u2").tobytes()
    dataset.save_as(path)


def main(words: list[str] | None = None) -> int:
    """Curate, open the page and take the picture."""
    from tests.browser import chromium

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cxr-64")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "curation-report.png")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        root, out = Path(name) / "repository", Path(name) / "out"
        write_repository(root, options.bundle)
        models = ["--models", str(options.bundle.parent), "--model", options.bundle.name]
        status = cli.main(["curate", str(root), "-o", str(out), *models])
        tab = browser.new_page(viewport={"width": 1500, "height": 900})
        tab.goto((out / "report.html").as_uri())
        tab.wait_for_selector("body[data-ready]")
        tab.locator("#row-1").click()
        tab.wait_for_function("[...document.images].every((image) => image.complete)")
        tab.screenshot(path=options.output)
    return status


if __name__ == "__main__":
    sys.exit(main())
