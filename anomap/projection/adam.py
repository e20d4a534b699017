"""Adam for many images at once, as plain arithmetic (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

`torch.optim` gives the same numbers, but its first optimiser loads torch's compiler, 1.6 s that every analysis would
pay; and all rows of its tensors have taken the same number of steps, while images enter and leave our batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

BETAS = (0.9, 0.999)  # as published, and as the reference projector
EPSILON = 1e-8


@torch.no_grad()
def adam_step(parameter: Tensor, mean: Tensor, power: Tensor, steps: Tensor, rates: Tensor) -> None:
    """Move one tensor along its gradient, which is forgotten; a tensor without gradient stays.

    Args:
        parameter: ``[N, ...]`` leaf; row n belongs to image n. Changed in place.
        mean: Of the same shape, zero at first: running mean of the gradients. Changed in place.
        power: Ditto of their squares.
        steps: ``[N]`` float64 steps each image has taken, this one included.
        rates: ``[N]`` float64 learning rates.
    """
    gradient = parameter.grad
    if gradient is None:
        return
    like_rows = (-1, *[1] * (parameter.ndim - 1))
    first, second = (1.0 - beta**steps for beta in BETAS)
    size = (rates / first).to(parameter.dtype).view(like_rows)
    root = second.sqrt().to(parameter.dtype).view(like_rows)
    mean.lerp_(gradient, 1.0 - BETAS[0])
    power.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
    parameter.addcdiv_(mean * -size, power.sqrt().div_(root).add_(EPSILON))
    parameter.grad = None
