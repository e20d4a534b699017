"""Images a second of one training step (G and D, no penalties) of each preset that a CPU can try, on one thread.

    python benchmarks/training.py

It is a step or two, on a CPU, with a smaller batch than the preset's where memory or patience asks for it: of a GPU
it says nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from anomap.training.checkpoint import new_state
from anomap.training.config import PRESETS, PresetName
from anomap.training.parallel import Group
from anomap.training.steps import Batch, discriminator_step, generator_step

BATCHES: dict[PresetName, int] = {"cpu-64": 32, "cpu-128": 32, "gpu-128": 4, "gpu-256": 2}
REPEATS = 2  # the faster counts: others may use the machine


def measure(name: PresetName, bf16: str) -> str:
    """One line: parameters and images a second."""
    size = BATCHES[name]
    config = replace(PRESETS[name].training, device="cpu", bf16=bf16, batch=size, batch_per_pass=0)
    state, group, side = new_state(config), Group(rank=0, size=1, device="cpu"), config.network.resolution
    state.augment_p = 0.2
    batch = Batch(real=[torch.rand(size, 1, side, side) * 2 - 1], numbers=[0], passes=1)
    seconds = []
    for _ in range(1 + REPEATS):  # the first warms up
        began = time.perf_counter()
        generator_step(state, batch, config, group)
        discriminator_step(state, batch, config, group)
        seconds.append(time.perf_counter() - began)
    millions = [sum(p.numel() for p in net.parameters()) / 1e6 for net in (state.generator, state.discriminator)]
    parameters = f"G {millions[0]:.1f} M, D {millions[1]:.1f} M"
    return f"{name}, bf16 {bf16}, batch {size}: {parameters}, {size / min(seconds[1:]):.2f} images/s"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, bf16 in (("cpu-64", "off"), ("cpu-64", "on"), ("cpu-128", "off"), ("gpu-128", "off"), ("gpu-256", "off")):
        print(measure(name, bf16), flush=True)
