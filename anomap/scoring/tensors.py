"""The Wasserstein distance of every window for tensors, on whatever device they are.

The twin of `anomap.scoring.wasserstein.window_wasserstein` for images that are on a graphics card already; the sums
are of integers there too, so the results are the same to the last bit.
"""

from __future__ import annotations

import torch

from anomap.scoring.windows import check_window

_CHUNK = 1 << 22  # pixels times grey levels handled at once: 16 and 32 MiB a buffer, of which a few live at a time


def window_wasserstein_tensor(image: torch.Tensor, other: torch.Tensor, window: int, levels: int) -> torch.Tensor:
    """Distance of the grey levels in every window at stride 1.

    Args:
        image: ``(B, H, W)`` integers in 0 .. levels - 1, not checked.
        other: Likewise, on the same device.
        window: Side of the windows in pixels.
        levels: Number of grey levels, at most 65536.

    Returns:
        ``(B, H - window + 1, W - window + 1)`` float64 in grey levels, on that device.

    Raises:
        AnomapError: E200 when the window doesn't fit.
    """
    check_window(tuple(image.shape), window)
    image, other = image.to(torch.int32), other.to(torch.int32)
    occurs = torch.zeros(levels, dtype=torch.bool, device=image.device)
    occurs[image.reshape(-1)] = occurs[other.reshape(-1)] = True
    present = torch.nonzero(occurs)[:, 0]
    gaps = torch.diff(present)
    areas = torch.zeros(
        (len(image), image.shape[1] - window + 1, image.shape[2] - window + 1), dtype=torch.int64, device=image.device
    )
    at_once = max(1, _CHUNK // image[0].numel())
    for first, second, area in zip(image, other, areas, strict=True):
        for level, gap in zip(torch.split(present[:-1], at_once), torch.split(gaps, at_once), strict=True):
            limit = level.to(torch.int32)[:, None, None]
            below = (first <= limit).to(torch.int8) - (second <= limit).to(torch.int8)
            boxes = _line_sum(_line_sum(below, window, dim=1), window, dim=2)
            area += torch.einsum("lrc,l->rc", boxes.abs().double(), gap.double()).long()
    return areas.double() / window**2


def _line_sum(values: torch.Tensor, window: int, dim: int) -> torch.Tensor:
    """Sum of `window` neighbours along one axis: of cumulative sums, which stay far below 2**31."""
    sums = values.cumsum(dim, dtype=torch.int32)
    ends = sums.narrow(dim, window - 1, sums.shape[dim] - window + 1).clone()
    count = ends.shape[dim] - 1
    ends.narrow(dim, 1, count).sub_(sums.narrow(dim, 0, count))
    return ends
