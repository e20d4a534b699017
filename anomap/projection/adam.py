"""Adam, as plain arithmetic (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

`torch.optim` gives the same numbers, but its first optimiser loads torch's compiler, 1.6 s that every analysis would
pay; and here each image keeps its own state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.999)  # as published, and as the reference projector
EPSILON = 1e-8


class Adam:
    """Moves tensors down their gradients.

    Args:
        parameters: Leaves that require a gradient; changed in place.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._mean = [torch.zeros_like(p) for p in self._parameters]
        self._power = [torch.zeros_like(p) for p in self._parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step along the gradients, which are forgotten."""
        self._steps += 1
        first, second = (1.0 - beta**self._steps for beta in BETAS)
        for parameter, mean, power in zip(self._parameters, self._mean, self._power, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1.0 - BETAS[0])
            power.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            scale = power.sqrt().div_(math.sqrt(second)).add_(EPSILON)
            parameter.addcdiv_(mean, scale, value=-learning_rate / first)
            parameter.grad = None
