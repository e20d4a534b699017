"""The picture of the README: a radiograph that a bundle has generated, with a needle drawn in, through the whole house.

python benchmarks/example.py [--bundle models/cxr-64] [--output docs/images/example.png]

Nobody's image: no patient data are needed, and none are shown. It is an easy case, since the generator made the rest
of the picture itself; for figures see the model cards.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import torch
from scipy import ndimage

from anomap.bundle import load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.study import analyze
from anomap.types import Float64

ROOT = Path(__file__).resolve().parents[1]
SIDE = 512
NEEDLE = ((150.0, 330.0), (290.0, 410.0))  # ends (row, column)


def generated(bundle_folder: Path, seed: int) -> Float64:
    """One sample of the generator, enlarged to `SIDE`, in [0, 1]."""
    generator = load_bundle(bundle_folder).generator
    z = np.random.default_rng(seed).standard_normal((1, generator.config.z_dim))
    with torch.no_grad():
        w = generator.mapping(torch.from_numpy(z).float(), truncation=0.7)
        small = generator.synthesis(w, noise="const")[0, 0].clamp(-1, 1).numpy()
    large: Float64 = ndimage.zoom((small.astype(np.float64) + 1) / 2, SIDE / len(small), order=3)
    return np.clip(large, 0.0, 1.0)


def pierced(image: Float64, width: float) -> Float64:
    """The image with a white line from end to end of `NEEDLE`."""
    start, end = (np.array(point) for point in NEEDLE)
    line, at = end - start, np.indices(image.shape) - start[:, None, None]
    along = np.clip(np.tensordot(line, at, axes=1) / (line @ line), 0.0, 1.0)
    cover = np.clip(width / 2 + 0.5 - np.hypot(*(at - line[:, None, None] * along)), 0.0, 1.0)
    result: Float64 = image * (1 - cover) + cover
    return result


def main(words: list[str] | None = None) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cxr-64")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "example.png")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    image = pierced(generated(options.bundle, options.seed), width=2 * SIDE / 64)
    with tempfile.TemporaryDirectory() as name:
        study, result = Path(name) / "study", Path(name) / "result"
        (path,) = write_radiograph_phantom(study, rows=SIDE, columns=SIDE)
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.rint(image * (2**dataset.BitsStored - 1)).astype("<u2").tobytes()
        dataset.save_as(path)
        outcome = analyze(study, result, options.bundle.parent, AnalyzeConfig(model=options.bundle.name))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(result / outcome.content["series"][0]["folder"] / "preview.png", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
