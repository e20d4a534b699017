"""Analyse with the memory there is: the CPU where the graphics card's doesn't hold a single image."""

from __future__ import annotations

import gc
from collections.abc import Callable

from anomap.bundle import Bundle
from anomap.config import AnalyzeConfig
from anomap.output import as_error
from anomap.pipeline import Analysis, Progress, analyze_series
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
    """Analyse; out of memory on a device (the projection has made its batches smaller by then), go to the CPU.

    Args:
        series: What to analyse.
        load: Gives the model on a device.
        device: Where to begin.
        config: What to do.
        progress: Told (stage, done, total).
        choice: Why this model.
        say: Told in a sentence of the retreat.

    Raises:
        AnomapError: E400 when not even one image at a time fits the CPU's memory; as `analyze_series` does.
    """
    try:
        return analyze_series(series, load(device), config, progress, choice)
    except Exception as cause:
        error = as_error(cause)
        if error.code != "E400" or device == "cpu":
            raise
        say(f"{error.message}; again on the CPU, which takes longer")
        del error  # its traceback holds what lay in the memory
    _forget(device)
    return analyze_series(series, load("cpu"), config, progress, choice)


def _forget(device: str) -> None:
    """Give memory back that nothing refers to any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
