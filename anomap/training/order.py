"""The order in which training sees its images: a function of seed and step, so nothing of it need be saved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from anomap.types import Float32


def batches(images: Float32, batch: int, seed: int, start: int) -> Iterator[Tensor]:
    """Endless shuffled batches ``[B, C, r, r]``; the first `start` are left out, so a resumed run goes on as it was."""
    per_epoch = max(len(images) // batch, 1)
    number = start
    while True:
        epoch, position = divmod(number, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(images))
        order = np.resize(order, max(len(order), batch))  # fewer images than a batch holds: repeat them
        while position < per_epoch:
            yield torch.from_numpy(images[order[position * batch : (position + 1) * batch]])
            position, number = position + 1, number + 1
