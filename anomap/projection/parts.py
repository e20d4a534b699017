"""Many images through a network, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from anomap.errors import AnomapError
from anomap.types import Bool, Float32, Float64

_PIXELS = 64 * 64**2  # together: wide networks of 512 pixels take one image at a time


def parts(images: Float32 | Bool) -> Iterator[slice]:
    """Rows of ``(N, C, H, W)`` that go through a network together; one empty slice where there are none."""
    count, _, height, width = images.shape
    rows = max(1, _PIXELS // (height * width))
    return (slice(start, start + rows) for start in range(0, max(count, 1), rows))


@torch.no_grad()
def in_parts(arrays: tuple[Float32 | Bool, ...], device: str, work: Callable[..., Tensor]) -> Float64:
    """`work` on some rows of all arrays at a time, on `device`, joined as float64.

    Raises:
        AnomapError: E501 when a result is not finite.
    """
    found = []
    for rows in parts(arrays[0]):
        part = (torch.from_numpy(array[rows]).to(device) for array in arrays)
        found.append(work(*part).double().cpu().numpy())
    joined: Float64 = np.concatenate(found)
    if not np.isfinite(joined).all():  # NaN is how "there is no such network" is said
        raise AnomapError("E501", "the discriminator's features did not stay finite")
    return joined
