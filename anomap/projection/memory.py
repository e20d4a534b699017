"""How many images are fitted together: as many as help, and no more than the memory holds."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from anomap.networks.stylegan2 import NetworkConfig
from anomap.projection.schedule import ProjectionConfig

ENOUGH = 32  # images on a processor: larger batches cost as much an image (benchmarks/results/cpu.json)
ENOUGH_ELSEWHERE = 64
_SHARE = 0.5  # of the free memory
# float32 values a step holds for each activation of the synthesis at the worst of 64 to 256 px, measured as peak memory
# of batches of 8 against 2 (docs/performance-notes.md); fitted noise maps and the discriminator need more.
_MAPS_KEPT = 5
_MAPS_OF_DISCRIMINATOR = 6


def batch_size(network: NetworkConfig, config: ProjectionConfig, device: str) -> int:
    """Images to fit together.

    Args:
        network: Of the generator.
        config: Its own batch size counts, if it has one.
        device: Torch device.
    """
    if config.batch_size is not None:
        return config.batch_size
    enough = ENOUGH if torch.device(device).type == "cpu" else ENOUGH_ELSEWHERE
    return max(1, int(min(enough, _SHARE * free_memory(device) / bytes_per_image(network, config))))


def bytes_per_image(network: NetworkConfig, config: ProjectionConfig) -> int:
    """Memory that one more image takes in a step, roughly, from the sizes of the activations."""
    values = sum(network.width(side) * side**2 * (1 if side == 4 else 2) for side in network.resolutions)
    times = _MAPS_KEPT + (_MAPS_OF_DISCRIMINATOR if config.loss == "discriminator" else 0)
    return 4 * times * values


def free_memory(device: str) -> float:
    """Bytes that may be taken; infinite where nobody tells."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_machine_memory(), _container_memory())


def _machine_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024.0 * int(found[0]) if found else math.inf


def _container_memory() -> float:
    """What the control group still allows (version 2, as seen from inside a container)."""
    folder = Path("/sys/fs/cgroup")
    try:
        most, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return math.inf
    return math.inf if most == "max" else float(max(int(most) - int(used), 0))
