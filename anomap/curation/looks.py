"""Does an image lie as its header says? Which turn of it does the model's encoder explain best?

The encoder knows images that are the right way up and not inverted. An image that is turned or inverted in truth comes
back better from encoder and generator once it is turned back. One pass through both for each turn, no optimisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomap.bundle import Bundle
from anomap.curation.schema import LOOKS
from anomap.projection import renderer
from anomap.types import Float32, Float64, Prepared

CLEAR = 1.5  # an error that falls by less than a third is no reason to doubt the header (docs/curation.md)
_AT_ONCE = 64

# What is done to an image to undo what its name in LOOKS says was done to it.
_UNDO: dict[str, Callable[[Float32], Float32]] = {
    "as tagged": lambda images: images,
    "inverted": lambda images: -images,
    "rotated90": lambda images: np.rot90(images, -1, (2, 3)),  # looks turned to the left by 90 degrees
    "rotated180": lambda images: np.rot90(images, 2, (2, 3)),
    "rotated270": lambda images: np.rot90(images, 1, (2, 3)),
    "mirrored": lambda images: images[..., ::-1],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How N images look to the encoder.

    Attributes:
        words: N of `anomap.curation.schema.LOOKS`, "" without an encoder.
        ratio: ``(N,)`` error of the image as it is by that of its best other turn; above 1 the other is better.
            NaN without an encoder.
    """

    words: tuple[str, ...]
    ratio: Float64


def looks(prepared: Prepared, bundle: Bundle) -> Looks:
    """Compare all turns of N images.

    Args:
        prepared: Of the bundle's preprocessing.
        bundle: Loaded on its device.
    """
    count = len(prepared.images)
    if bundle.encoder is None:
        return Looks(words=("",) * count, ratio=np.full(count, np.nan))
    errors = np.concatenate(
        [_errors(prepared, bundle, slice(start, start + _AT_ONCE)) for start in range(0, count, _AT_ONCE)], axis=1
    )
    best = 1 + errors[1:].argmin(axis=0)
    ratio = errors[0] / np.maximum(errors[best, np.arange(count)], 1e-12)
    words = tuple(LOOKS[turn if times >= CLEAR else 0] for turn, times in zip(best, ratio, strict=True))
    return Looks(words=words, ratio=ratio)


def _errors(prepared: Prepared, bundle: Bundle, rows: slice) -> Float64:
    """``(6, n)`` mean squared error of every turn over the valid pixels."""
    import torch

    render, encoder = renderer(bundle.generator, bundle.device), bundle.encoder
    assert encoder is not None  # noqa: S101 (the caller looked)
    images, valid = prepared.images[rows], prepared.valid[rows].astype(np.float32)
    found = []
    with torch.no_grad():
        for word in LOOKS:
            undo = _UNDO[word]
            turned = torch.from_numpy(np.ascontiguousarray(undo(images))).to(bundle.device)
            seen = np.abs(undo(valid))  # what is inverted is grey, not the mask
            pictures = render(encoder(turned), ()).clamp(-1, 1)
            squares = (pictures - turned).square().cpu().numpy() * seen
            found.append(squares.sum(axis=(1, 2, 3)) / np.maximum(seen.sum(axis=(1, 2, 3)), 1))
    return np.stack(found).astype(np.float64)
