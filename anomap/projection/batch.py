"""The images that are being fitted at the moment, and what the search knows of each.

Row n of every tensor belongs to one image. Images enter and leave; what an image goes through doesn't depend on the
others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B images.

    Attributes:
        rows: Which image of all each is.
        steps: How many steps each has taken.
        draws: Source of each one's random numbers.
        target: ``[B, C, H, W]``.
        valid: Like `target`.
        parameters: w ``[B, D]`` and, where they are fitted, the noise maps ``[B, 1, r, r]``: leaves.
        mean, power: Adam's memory of each parameter.
        late: ``[B]`` loss when nine tenths of the steps were done; infinite before.
        looked: ``[B]`` loss when it was last asked whether it still falls; infinite before.
    """

    rows: tuple[int, ...]
    steps: tuple[int, ...]
    draws: tuple[torch.Generator, ...]
    target: Tensor
    valid: Tensor
    parameters: tuple[Tensor, ...]
    mean: tuple[Tensor, ...]
    power: tuple[Tensor, ...]
    late: Tensor
    looked: Tensor

    @property
    def w(self) -> Tensor:
        """``[B, D]``."""
        return self.parameters[0]

    @property
    def noise(self) -> tuple[Tensor, ...]:
        """``[B, 1, r, r]`` each; none when they aren't fitted."""
        return self.parameters[1:]

    def normal(self, *shape: int) -> Tensor:
        """``[B, *shape]`` standard normal, each row from its own source; made on the CPU, so the same on any device."""
        drawn = [torch.randn(*shape, generator=source) for source in self.draws]
        return torch.stack(drawn).to(self.target.device)


def enter(rows: Sequence[int], seeds: Sequence[int], target: Tensor, valid: Tensor, w: Tensor) -> Batch:
    """Images before their first step, without noise maps.

    Args:
        rows: Which images.
        seeds: Of each.
        target: ``[B, C, H, W]``.
        valid: Like `target`.
        w: ``[B, D]`` where they begin.
    """
    unknown = torch.full((len(rows),), math.inf, device=target.device)
    return Batch(
        rows=tuple(rows),
        steps=(0,) * len(rows),
        draws=tuple(torch.Generator().manual_seed(seed) for seed in seeds),
        target=target,
        valid=valid,
        parameters=(_leaf(w),),
        mean=(torch.zeros_like(w),),
        power=(torch.zeros_like(w),),
        late=unknown,
        looked=unknown.clone(),
    )


def with_noise(batch: Batch, shapes: Sequence[tuple[int, int]]) -> Batch:
    """The same images with random noise maps to be fitted too, ``[B, 1, r, r]`` each."""
    maps = [batch.normal(1, *shape) for shape in shapes]
    zeros = [torch.zeros_like(noise) for noise in maps]
    return replace(
        batch,
        parameters=(batch.w, *map(_leaf, maps)),
        mean=(*batch.mean, *zeros),
        power=(*batch.power, *(zero.clone() for zero in zeros)),
    )


def pick(batch: Batch, places: Sequence[int]) -> Batch:
    """Some of the images, by their places in the batch."""
    index = torch.tensor(places, dtype=torch.int64, device=batch.target.device)
    return Batch(
        rows=tuple(batch.rows[place] for place in places),
        steps=tuple(batch.steps[place] for place in places),
        draws=tuple(batch.draws[place] for place in places),
        target=batch.target[index],
        valid=batch.valid[index],
        parameters=tuple(_leaf(tensor[index]) for tensor in batch.parameters),
        mean=tuple(tensor[index] for tensor in batch.mean),
        power=tuple(tensor[index] for tensor in batch.power),
        late=batch.late[index],
        looked=batch.looked[index],
    )


def together(first: Batch, second: Batch) -> Batch:
    """The images of both."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(first, name), getattr(second, name)])

    def each(name: str) -> tuple[Tensor, ...]:
        return tuple(torch.cat(pair) for pair in zip(getattr(first, name), getattr(second, name), strict=True))

    return Batch(
        rows=first.rows + second.rows,
        steps=first.steps + second.steps,
        draws=first.draws + second.draws,
        target=joined("target"),
        valid=joined("valid"),
        parameters=tuple(map(_leaf, each("parameters"))),
        mean=each("mean"),
        power=each("power"),
        late=joined("late"),
        looked=joined("looked"),
    )


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(True)
