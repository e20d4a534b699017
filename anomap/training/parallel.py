"""Several processes that share every batch (torchrun), and random numbers that don't depend on their number.

A batch is cut into passes. Each pass draws from its own seed, made of the run's seed, the step, the phase and the
number of the pass; processes take passes in turn and add up their gradients. So one process that runs all passes
and eight that run some of them do the same sums, in another order. It also means that there is no random state to
save: a step's random numbers follow from its number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor, distributed

from anomap.errors import AnomapError


class Phase(IntEnum):
    """The parts of a step that draw random numbers."""

    GENERATOR = 0
    PATH_LENGTH = 1
    DISCRIMINATOR = 2
    R1 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The processes of a run.

    Attributes:
        rank: Number of this process; 0 writes the files.
        size: How many there are.
        device: Of this process.
    """

    rank: int
    size: int
    device: str

    def sum(self, values: Tensor) -> Tensor:
        """Add up over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up gradients over all processes: one message for all of them."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = self.sum(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0) if self.size > 1 else flag

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """The processes torchrun started, or this one alone.

    Raises:
        AnomapError: E401 when `device` isn't there.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_available():
            raise AnomapError("E401", "training was asked for on cuda, and torch finds no CUDA device")
        if size > 1:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
    if size == 1:
        yield Group(rank=0, size=1, device=device)
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(rank=rank, size=size, device=device)
    finally:
        distributed.destroy_process_group()


def seed_pass(seed: int, step: int, phase: Phase, number: int) -> None:
    """Fix all random numbers of one pass, on every device."""
    (state,) = np.random.SeedSequence([seed, step, phase, number]).generate_state(1, np.uint64)
    torch.manual_seed(int(state >> np.uint64(1)))
