"""Analyse with the memory there is: smaller batches first, the CPU last."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

from anomap.bundle import Bundle
from anomap.config import AnalyzeConfig
from anomap.output import as_error
from anomap.pipeline import Analysis, Progress, analyze_series, projection_config
from anomap.types import ImageSeries

Say = Callable[[str], None]


def analyze_within_memory(
    series: ImageSeries,
    load: Callable[[str], Bundle],
    device: str,
    config: AnalyzeConfig,
    progress: Progress,
    choice: str,
    say: Say,
) -> Analysis:
    """Analyse; out of memory, halve the batch, and from one image on go to the CPU.

    Args:
        series: What to analyse.
        load: Gives the model on a device.
        device: Where to begin.
        config: What to do; its batch size is where to begin.
        progress: Told (stage, done, total).
        choice: Why this model.
        say: Told in a sentence of every retreat.

    Raises:
        AnomapError: E400 when not even one image at a time fits the CPU's memory; as `analyze_series` does.
    """
    first = projection_config(config).batch_size
    batch = min(first, len(series.pixels))
    while True:
        try:
            return analyze_series(series, load(device), replace(config, batch_size=batch), progress, choice)
        except Exception as cause:
            error = as_error(cause)
            if error.code != "E400" or (batch == 1 and device == "cpu"):
                raise
            what = error.message
            del error  # its traceback holds what lay in the memory
        _forget(device)
        if batch > 1:
            batch //= 2
            say(f"{what}; again with {batch} image{'s' * (batch > 1)} at a time")
        else:
            device, batch = "cpu", min(first, len(series.pixels))
            say(f"{what}; again on the CPU, which takes longer")


def _forget(device: str) -> None:
    """Give memory back that nothing refers to any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
