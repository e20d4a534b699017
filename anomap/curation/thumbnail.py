"""The picture of a row: input, reconstruction and map side by side, as WebP of a few kilobytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anomap.preview import colour_map
from anomap.types import Cohort, Float32, Prepared, Reconstruction

_QUALITY = 80


def thumbnail(prepared: Prepared, fit: Reconstruction, wd: Float32, cohort: Cohort | None) -> bytes:
    """Three squares of the model's size in a row.

    Args:
        prepared: One image.
        fit: Its reconstruction.
        wd: ``(H, W)`` map of Wasserstein distances, NaN where nothing was scored.
        cohort: Where regions begin is half of the colours' range; without one the map's own highest value is its end.
    """
    top = 2 * cohort.region_threshold if cohort is not None else float(np.nanmax(wd, initial=0.0))
    squares = [_grey(prepared.images[0, 0]), _grey(fit.images[0, 0]), colour_map(wd / max(top, 1e-6))]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(squares, axis=1)).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()


def _grey(image: Float32) -> np.ndarray:
    values = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2)
