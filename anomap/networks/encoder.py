"""Encoder: image -> w, the start of a fast projection.

One residual tower like the discriminator's, ending in w instead of a logit. It predicts the offset from the
mean of W, so that an untrained encoder starts where the plain projection does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomap.networks.ops import Linear
from anomap.networks.stylegan2 import DiscriminatorBlock, NetworkConfig


class Encoder(nn.Module):
    """``[N, C, r, r] -> [N, D]``."""

    w_avg: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in reversed(config.resolutions[1:]):
            self.add_module(f"b{resolution}", DiscriminatorBlock(config, resolution))
        width = config.width(4)
        self.fc = Linear(width * 16, config.w_dim, activation="lrelu")
        self.out = Linear(config.w_dim, config.w_dim)
        with torch.no_grad():
            self.out.weight.zero_()
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Predict w in float32."""
        x = images.to(dtype)
        for resolution in reversed(self.config.resolutions[1:]):
            x = getattr(self, f"b{resolution}")(x)
        w: Tensor = self.w_avg + self.out(self.fc(x.flatten(1)))
        return w
