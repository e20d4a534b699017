"""Images that were taken, stored or chosen wrongly: the whole image is odd, or whole rows of it.

Each takes prepared images and gives them back altered, under their old frame ids, with masks ``(N, H, W)`` of the
pixels that are odd. What turns an image turns its masks and its way back to source pixels along.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from anomap.projection.schedule import seed_of
from anomap.types import Bool, Prepared

_TURNED = ("images", "valid", "body")


def rotated90(prepared: Prepared) -> Prepared:
    """Turn every image by a quarter, anticlockwise, with its masks and its way back to source pixels."""
    last = prepared.spec.size - 1
    # New (row, col) shows old (col, last - row).
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, last], [0.0, 0.0, 1.0]])
    return replace(
        prepared,
        **{name: np.rot90(getattr(prepared, name), axes=(2, 3)).copy() for name in _TURNED},
        to_source=prepared.to_source @ turn,
    )


def upside_down(prepared: Prepared) -> Prepared:
    """Mirror every image top to bottom."""
    return _mirrored(prepared, axis=0)


def mirrored(prepared: Prepared) -> Prepared:
    """Mirror every image left to right, as of a film laid on its wrong side: a heart on the right."""
    return _mirrored(prepared, axis=1)


def _mirrored(prepared: Prepared, axis: int) -> Prepared:
    mirror = np.eye(3)
    mirror[axis, axis], mirror[axis, 2] = -1.0, prepared.spec.size - 1
    return replace(
        prepared,
        **{name: np.flip(getattr(prepared, name), axis=2 + axis).copy() for name in _TURNED},
        to_source=prepared.to_source @ mirror,
    )


def inverted(prepared: Prepared) -> Prepared:
    """Swap black and white inside the valid pixels, as a wrong Photometric Interpretation does."""
    return replace(prepared, images=np.where(prepared.valid, -prepared.images, prepared.images))


def noisy(prepared: Prepared, *, deviation: float = 0.3) -> Prepared:
    """Add Gaussian noise to the valid pixels, as of a dose far too low; where a model sees the body only, to the body.

    Args:
        prepared: N images; each one's noise derives from its frame id.
        deviation: Of the noise in grey values; the full range is 2.
    """
    noise = np.stack([rng.normal(0, deviation, prepared.images.shape[1:]) for rng in sources(prepared, "noise")])
    altered = np.clip(prepared.images + noise, -1, 1).astype(np.float32)
    where = prepared.body if prepared.spec.mask_outside_body else prepared.valid
    return replace(prepared, images=np.where(where, altered, prepared.images))


def blurred(prepared: Prepared, *, sigma: float = 0.025) -> Prepared:
    """Blur every image, as of motion or a wrong kernel.

    Args:
        prepared: N images.
        sigma: Of the Gaussian, as a share of the image's side.
    """
    width = sigma * prepared.spec.size
    soft = ndimage.gaussian_filter(prepared.images, sigma=(0, 0, width, width), mode="nearest")
    return replace(prepared, images=np.where(prepared.valid, np.clip(soft, -1, 1), prepared.images))


def missing_rows(prepared: Prepared, *, share: tuple[float, float] = (0.06, 0.2)) -> tuple[Prepared, Bool]:
    """Lose a band of rows (transmission cut, dead detector lines): they become black.

    Args:
        prepared: N images; each one's band derives from its frame id.
        share: Smallest and largest part of the rows.

    Returns:
        The images, and ``(N, H, W)`` the valid pixels of the band.
    """
    size = prepared.spec.size
    masks = np.zeros(prepared.images[:, 0].shape, np.bool_)
    for mask, body, rng in zip(masks, prepared.body[:, 0], sources(prepared, "missing_rows"), strict=True):
        height = max(1, round(rng.uniform(*share) * size))
        filled = np.flatnonzero(body.any(axis=1))
        low, high = (filled[0], max(filled[0], filled[-1] - height)) if len(filled) else (0, size - height)
        top = rng.integers(low, high + 1)
        mask[top : top + height] = True
    masks &= prepared.valid[:, 0]
    return replace(prepared, images=np.where(masks[:, None], np.float32(-1), prepared.images)), masks


def foreign_limb(prepared: Prepared, *, tissue: float, bone: float = 1.0) -> Prepared:
    """Show another body part instead: a limb with one or two bones, round for CT and lengthwise for radiographs.

    A drawing with grain, not a patient: the shape is foreign, the grey values are ordinary.

    Args:
        prepared: N images; each one's limb derives from its frame id.
        tissue: Grey value of soft tissue.
        bone: Grey value of bone.
    """
    images, bodies = prepared.images.copy(), prepared.body.copy()
    size, round_limb = prepared.spec.size, prepared.spec.kind == "ct"
    row, col = np.indices((size, size)) - size / 2
    for n, rng in enumerate(sources(prepared, "foreign_limb")):
        radius, slope = rng.uniform(0.12, 0.2) * size, rng.uniform(-0.2, 0.2)
        across, along = col - slope * row, row if round_limb else np.zeros_like(row)
        limb = (np.hypot(across, along) < radius) & prepared.valid[n, 0]
        middles = ((0.0,), (-0.45, 0.45))[rng.integers(2)]
        gaps = np.min([np.hypot(across - middle * radius, along) for middle in middles], axis=0)
        cortex = (gaps > 0.12 * radius) & (gaps < 0.3 * radius)
        picture = np.where(limb, np.where(cortex, bone, tissue) + rng.normal(0, 0.03, limb.shape), -1.0)
        images[n, 0] = np.where(prepared.valid[n, 0], np.clip(picture, -1, 1), images[n, 0])
        if round_limb:
            bodies[n, 0] = limb
    return replace(prepared, images=images, body=bodies)


def sources(prepared: Prepared, name: str) -> list[np.random.Generator]:
    """One source of random numbers an image, from its frame id and the kind of anomaly alone."""
    return [np.random.default_rng(seed_of(f"{name}:{frame_id}")) for frame_id in prepared.frame_ids]
