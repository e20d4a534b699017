"""Prepared images without a preprocessing: smooth trunks on a black ground, each a little different."""

from __future__ import annotations

import numpy as np

from anomap.training.data import ImageSet
from anomap.types import Prepared, PreprocessSpec


def trunks(
    count: int, *, size: int = 32, seed: int = 0, kind: str = "radiograph", fit: str = "squeeze", prefix: str = "img"
) -> Prepared:
    """Ellipses with a soft gradient and grain in [-1, 1]; the body is the ellipse."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[0:size, 0:size] / (size - 1) - 0.5
    images, bodies = [], []
    for _ in range(count):
        radius = np.hypot(row / rng.uniform(0.40, 0.48), col / rng.uniform(0.36, 0.46))
        body = radius < 1
        tissue = 0.2 * np.cos(6 * col + rng.normal()) + 0.05 * rng.normal(size=(size, size)) - 0.1
        images.append(np.where(body, tissue, -1.0))
        bodies.append(body)
    return Prepared(
        images=np.clip(np.stack(images), -1, 1).astype(np.float32)[:, None],
        valid=np.ones((count, 1, size, size), bool),
        body=np.stack(bodies)[:, None],
        frame=np.arange(count),
        frame_ids=tuple(f"{prefix}-{seed}-{i}" for i in range(count)),
        to_source=np.tile(np.diag([8.0, 8.0, 1.0]), (count, 1, 1)),
        gain=np.full(count, 0.5),
        offset=np.full(count, 0.5),
        spec=PreprocessSpec(kind=kind, size=size, fit=fit),
    )


def image_set(
    prepared: Prepared,
    category: str = "normal",
    source: str = "made up",
    images_each: int = 1,
    apart_mm: float | None = None,
) -> ImageSet:
    """Labels for prepared images; `images_each` neighbours belong to one patient, `apart_mm` from each other."""
    count = len(prepared.images)
    patients = tuple(f"{prepared.frame_ids[i // images_each * images_each]}-p" for i in range(count))
    return ImageSet(
        prepared=prepared,
        names=prepared.frame_ids,
        patients=patients,
        categories=(category,) * count,
        sources=(source,) * count,
        stacks=("",) * count if apart_mm is None else patients,
        positions_mm=np.arange(count) * float(apart_mm or 0),
    )
