"""The page of a curation with many images: how large it is, how long it takes to be made, opened, sorted, filtered.

python -m benchmarks.curation_page [--images 1000 10000 100000 300000] [--pictures 2000]

The tables are made up (`write_made_up`): random but plausible values, drawn pictures, nobody's images. A headless
Chromium opens the page. Writes benchmarks/results/curation-page.json.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from anomap.curation.report import write_report
from anomap.curation.schema import IMAGES, INDEX, LOOKS, SCORE_NAMES, Row, empty_row, table_of
from anomap.curation.settings import ReportConfig
from anomap.evaluation.machine import describe_machine
from anomap.preview import colour_map

ROOT = Path(__file__).resolve().parents[1]
COHORT = 216  # patients; p-values are multiples of 1 / 217
LATENT = 128
MAKERS = ("", "ACME", "Beta Imaging", "Gamma Medical")
ERRORS = ("E102", "E105", "E106", "E108")
KINDS = 3  # of outliers: each has a place of its own in the latent space
_BATCH = 5000


def write_made_up(output: Path, images: int, seed: int = 0) -> None:
    """A curation's result without a curation: ``curate.json``, ``index.parquet`` and ``images.parquet``.

    Of the images 1 % can't be read, 12 % are projected and have a picture, 1 % are copies and 1 % near copies of the
    image before.

    Args:
        output: Folder to make.
        images: Rows.
        seed: Of the random values.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "curate.json").write_text(json.dumps({"root": "made-up"}))
    with (
        pq.ParquetWriter(output / "images.parquet", IMAGES) as table,
        pq.ParquetWriter(output / "index.parquet", INDEX) as index,
    ):
        batch: list[Row] = []
        for n, row in enumerate(_rows(images, np.random.default_rng(seed)), start=1):
            batch.append(row)
            if len(batch) == _BATCH or n == images:
                table.write_table(table_of(batch, IMAGES))
                index.write_table(table_of([{name: row.get(name) for name in INDEX.names} for row in batch], INDEX))
                batch = []


def _rows(images: int, rng: np.random.Generator) -> Iterator[Row]:
    drawn = [_picture(kind, rng) for kind in range(KINDS + 1) for _ in range(8)]
    before: Row | None = None
    for n in range(images):
        row = empty_row(IMAGES) | _tags(n, rng)
        chance = rng.random()
        if chance < 0.01:
            row |= {"error": str(rng.choice(ERRORS)), "message": "made up"}
        elif chance < 0.13:
            kind, values = _projected(rng)
            row |= values | {"thumbnail": drawn[8 * kind + n % 8]}
        else:
            row |= {"tier": "cheap", "cheap": float(rng.gamma(2.0, 1.0)), "looks": "as tagged"}
        if not row["error"]:
            row |= {"pixel_sha256": rng.bytes(32).hex(), "phash": int(rng.integers(2**64, dtype=np.uint64))}
            if before is not None and chance > 0.99:
                row |= {name: before[name] for name in ("pixel_sha256", "phash")}
            elif before is not None and chance > 0.98:
                row["phash"] = before["phash"] ^ 3
            before = row
        yield row


def _tags(n: int, rng: np.random.Generator) -> Row:
    patient = n * 3 // 5
    return {
        "path": f"{patient // 1000:03d}/{patient:06d}/{n:08d}-{rng.bytes(6).hex()}.dcm",
        "frame": 0,
        "shard": n // 256,
        "format": "dicom",
        "bytes": int(rng.integers(1 << 20, 1 << 24)),
        "file_sha256": rng.bytes(32).hex(),
        "patient": f"{patient * 0x9E3779B97F4A7C15 % 2**64:016x}",
        "modality": str(rng.choice(["CR", "DX"])),
        "body_part": "CHEST",
        "view_position": str(rng.choice(["PA", "AP", "LL", ""])),
        "photometric": str(rng.choice(["MONOCHROME1", "MONOCHROME2"])),
        "manufacturer": str(rng.choice(MAKERS)),
        "rows": 2048,
        "columns": 2500,
        "slices": 1,
        "model": "cxr-64",
    }


def _projected(rng: np.random.Generator) -> tuple[int, Row]:
    """A kind, 0 for what is no outlier, and the values of an image of it."""
    p_value = (1 + int(rng.beta(0.5, 1.0) * COHORT)) / (COHORT + 1)
    kind = int(rng.integers(1, KINDS + 1)) if p_value <= 0.05 and rng.random() < 0.8 else 0
    centre = np.random.default_rng(kind).normal(0, 1.0 if kind else 0.0, LATENT)
    odd = float(-np.log(p_value))
    values = {name: float(rng.gamma(4.0, 1.0) * (1 + odd)) for name in SCORE_NAMES}
    return kind, {
        **values,
        **{f"p_{name}": (1 + int(rng.random() * COHORT)) / (COHORT + 1) for name in SCORE_NAMES},
        "combined": odd + 0.01 * float(rng.random()),
        "p_combined": p_value,
        "p_value": p_value,
        "tier": "projected",
        "cheap": float(rng.gamma(2.0, 1.0) + 3),
        "looks": LOOKS[kind] if kind else LOOKS[0],
        "looks_ratio": float(1 + rng.random()),
        "w": rng.normal(centre, 0.3 if kind else 1.0).astype(np.float32).tolist(),
    }


def _picture(kind: int, rng: np.random.Generator) -> bytes:
    """Three panels of a drawn chest of sorts; kind 1 is inverted, 2 turned, 3 turned about."""
    row, column = np.mgrid[-1:1:64j, -1:1:64j]
    body = np.exp(-((row / 1.1) ** 4) - ((column / 0.9) ** 4))
    lungs = sum(np.exp(-(((row + 0.1) / 0.5) ** 4) - ((column - side) / 0.28) ** 4) for side in (-0.4, 0.4))
    grey = body - 0.7 * lungs + 0.3 * np.exp(-(((row - 0.4) / 0.3) ** 2) - ((column - 0.15) / 0.3) ** 2)
    seen = (grey, 1 - grey, np.rot90(grey), np.rot90(grey, 2))[kind] + rng.normal(0, 0.03, grey.shape)
    greys = [np.repeat((np.clip(panel, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2) for panel in (seen, grey)]
    strip = np.concatenate([*greys, colour_map(np.abs(seen - grey))], axis=1)
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "WEBP", quality=80)
    return file.getvalue()


def measure(images: int, pictures: int) -> dict[str, Any]:
    """Make the page of a made-up curation and use it in a browser."""
    from tests.browser import chromium

    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        output = Path(name)
        write_made_up(output, images)
        start = time.perf_counter()
        write_report(output, ReportConfig(thumbnails=pictures))
        made = time.perf_counter() - start
        tab = browser.new_page(viewport={"width": 1500, "height": 900})
        start = time.perf_counter()
        tab.goto((output / "report.html").as_uri())
        tab.wait_for_selector("body[data-ready]", timeout=600_000)
        opened = time.perf_counter() - start
        steps = {
            "sort_by_path": "sortBy('path')",
            "sort_by_score": "sortBy('score')",
            "filter_p": "byId('p').value = '0.01'; refresh()",
            "scroll_to_the_end": "byId('filters').reset(); refresh(); list.scrollTop = 1e9; showRows()",
            "mark_all": "mark(shown, 0); marked()",
            "csv": "decisionsCsv()",
        }
        timed = {key: _milliseconds(tab, code) for key, code in steps.items()}
        return {
            "images": images,
            "pictures": min(pictures, tab.evaluate("facts.with_picture")),
            "page_mb": round((output / "report.html").stat().st_size / 1e6, 2),
            "pictures_mb": round(tab.evaluate("facts.pictures.reduce((sum, size) => sum + size, 0)") / 1e6, 2),
            "parquet_mb": round((output / "images.parquet").stat().st_size / 1e6, 2),
            "made_s": round(made, 2),
            "opened_s": round(opened, 2),
            "rows_in_the_page": tab.locator("#rows > *").count(),
            "milliseconds": timed,
        }


def _milliseconds(tab: Any, code: str) -> float:
    """How long the page works on something, layout included."""
    script = f"() => {{ const t = performance.now(); {code}; list.offsetHeight; return performance.now() - t }}"
    return round(tab.evaluate(script), 1)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000, 300_000])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "curation-page.json")
    options = parser.parse_args()
    sizes = []
    for images in options.images:
        sizes.append(measure(images, options.pictures))
        print(sizes[-1], file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    content = {"machine": describe_machine("cpu", ROOT), "peak_mb_without_the_browser": peak, "sizes": sizes}
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
