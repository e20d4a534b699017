"""A sheet of small pictures, for the eye."""

from __future__ import annotations

import numpy as np
from PIL import Image

from anomap.types import Float32


def contact_sheet(images: Float32, columns: int, gap: int = 2, zoom: int = 2) -> Image.Image:
    """Lay out pictures in rows.

    Args:
        images: ``(N, H, W)`` in [-1, 1].
        columns: Pictures a row.
        gap: White pixels between them.
        zoom: Whole-number enlargement (nearest neighbour, nothing is smoothed away).

    Returns:
        An 8-bit grey image.
    """
    n, height, width = images.shape
    rows = -(-n // columns)
    grey = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 255, np.uint8)
    for index, picture in enumerate(grey):
        row, col = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + col * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return Image.fromarray(sheet).resize((sheet.shape[1] * zoom, sheet.shape[0] * zoom), Image.Resampling.NEAREST)
