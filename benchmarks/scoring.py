"""Scores of one image, dense ones beside the loop over scipy; `benchmarks/speed.py` runs this."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from anomap.scoring import quantise
from anomap.scoring.residual import mean_squared_error, window_mean_squared_error
from anomap.scoring.tensors import window_wasserstein_tensor
from anomap.scoring.wasserstein import wasserstein, window_wasserstein

INNER = 3  # times that fast work is repeated within a round


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringTimes:
    """Scores of one image of 8 bits: patch Wasserstein of all windows at stride 1, whole image and body.

    Attributes:
        side_px: Side of the image.
        window_px: Side of the windows, a sixteenth.
        windows: How many there are.
        grey_levels: How many occur.
        seconds: All windows, compiled where numba is installed.
        numpy_seconds: All windows, by numpy.
        tensor_seconds: All windows of tensors on the graphics card; None without one.
        mse_seconds: Mean squared errors of all windows.
        regions_seconds: MSE and Wasserstein distance of the whole image and of a body, the four scores together.
        quantise_seconds: Grey levels of one image.
        scipy_seconds: `scipy.stats.wasserstein_distance` in a loop over the windows, for all of them.
        scipy_rows_timed: Rows of windows timed for that.
        ratio: Median of scipy / seconds, round by round.
        numpy_ratio: Median of scipy / numpy_seconds.
        largest_difference: Of the values of either way from scipy's, in grey levels, over the rows timed.
    """

    side_px: int
    window_px: int
    windows: int
    grey_levels: int
    seconds: float
    numpy_seconds: float
    tensor_seconds: float | None
    mse_seconds: float
    regions_seconds: float
    quantise_seconds: float
    scipy_seconds: float
    scipy_rows_timed: int
    ratio: float
    numpy_ratio: float
    largest_difference: float


def time_compiler() -> float | None:
    """Seconds until the compiled way can begin in a new process; None without numba.

    What numba kept from earlier processes is used: the very first start takes longer.
    """
    if not find_spec("numba"):
        return None
    start = time.perf_counter()
    window_wasserstein(*np.zeros((2, 1, 1, 1), np.uint8), 1, 2, fast=True)
    return round(time.perf_counter() - start, 3)


def time_scoring(side: int, rows: int, repeats: int, device: str = "cpu", seed: int = 0) -> ScoringTimes:
    """Scores of one image, ours and scipy's, alternating.

    Args:
        side: Of the image in pixels.
        rows: Rows of windows scipy is timed on, spread over the image.
        repeats: Rounds.
        device: Tensors are scored there unless it is the processor.
        seed: Of the two pictures.
    """
    window = side // 16
    image, other = (_picture(side, seed + number) for number in range(2))
    count = side - window + 1
    chosen = np.linspace(0, count - 1, rows).astype(int)
    works = _works(image[None], other[None], window, device)
    works["scipy"] = lambda: _scipy_rows(image, other, window, chosen)
    found = {name: work() for name, work in works.items()}  # first use pays for libraries and caches
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times = 1 if name == "scipy" else INNER
            start = time.perf_counter()
            for _ in range(times):
                work()
            seconds[name].append((time.perf_counter() - start) / times)
    seconds["scipy"] = [value * count / rows for value in seconds["scipy"]]
    middle = {name: round(median(values), 6) for name, values in seconds.items()}
    return ScoringTimes(
        side_px=side,
        window_px=window,
        windows=count * count,
        grey_levels=len(np.union1d(image, other)),
        seconds=middle["compiled"],
        numpy_seconds=middle["numpy"],
        tensor_seconds=middle.get("tensor"),
        mse_seconds=middle["mse"],
        regions_seconds=middle["regions"],
        quantise_seconds=middle["quantise"],
        scipy_seconds=round(middle["scipy"], 3),
        scipy_rows_timed=rows,
        ratio=_ratio(seconds["scipy"], seconds["compiled"]),
        numpy_ratio=_ratio(seconds["scipy"], seconds["numpy"]),
        largest_difference=max(
            float(np.abs(found[name][0, chosen] - found["scipy"]).max())
            for name in ("compiled", "numpy", "tensor")
            if name in found
        ),
    )


def _works(image: np.ndarray, other: np.ndarray, window: int, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed of two images, ``(1, side, side)`` bytes: all ways of scoring windows; regions; grey levels."""
    side = image.shape[-1]
    from_centre = np.arange(side) - side / 2
    body = (np.hypot(from_centre[:, None], from_centre) < 0.45 * side)[None]
    everything = np.ones_like(body)
    model = image.astype(np.float32) / 127.5 - 1

    def regions() -> None:
        for mask in (everything, body):
            wasserstein(image, other, 256, mask)
            mean_squared_error(image, other, mask)

    works: dict[str, Callable[[], Any]] = {
        "compiled": lambda: window_wasserstein(image, other, window, 256, fast=True),
        "numpy": lambda: window_wasserstein(image, other, window, 256, fast=False),
        "mse": lambda: window_mean_squared_error(image, other, window),
        "regions": regions,
        "quantise": lambda: quantise(model, 256),
    }
    if device != "cpu":
        tensors = [torch.from_numpy(values).to(device) for values in (image, other)]
        works["tensor"] = lambda: window_wasserstein_tensor(*tensors, window, 256).cpu().numpy()
    return works


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median of the ratios, round by round."""
    return round(median(a / b for a, b in zip(slow, fast, strict=True)), 1)


def _scipy_rows(image: np.ndarray, other: np.ndarray, window: int, rows: np.ndarray) -> np.ndarray:
    """Scores of some rows of windows, one scipy call a window."""
    return np.array(
        [
            [
                wasserstein_distance(
                    image[row : row + window, col : col + window].ravel(),
                    other[row : row + window, col : col + window].ravel(),
                )
                for col in range(image.shape[1] - window + 1)
            ]
            for row in rows
        ]
    )


def _picture(side: int, seed: int) -> np.ndarray:
    """A smooth random picture with a little grain that uses all 256 grey levels: our slowest case."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(side, side)), side / 20)
    grainy = smooth / smooth.std() + 0.1 * rng.normal(size=(side, side))
    low, high = grainy.min(), grainy.max()
    grey = np.rint((grainy - low) / (high - low) * 255).astype(np.uint8)
    grey.reshape(-1)[:: side * side // 256][:256] = np.arange(256)  # the rarest might be missing
    return grey


def report(scoring: Sequence[ScoringTimes]) -> str:
    """The figures as text."""
    lines = [
        "scores of one image, milliseconds; x: times faster than scipy in a loop",
        f"{'side':>5}{'window':>8}{'compiled':>11}{'x':>7}{'numpy':>11}{'x':>7}{'MSE':>11}{'regions':>11}"
        f"{'quantise':>11}{'scipy':>11}",
    ]
    lines += [
        f"{found.side_px:5}{found.window_px:8}{1000 * found.seconds:11.3f}{found.ratio:7.0f}"
        f"{1000 * found.numpy_seconds:11.3f}{found.numpy_ratio:7.0f}{1000 * found.mse_seconds:11.3f}"
        f"{1000 * found.regions_seconds:11.3f}{1000 * found.quantise_seconds:11.3f}{1000 * found.scipy_seconds:11.0f}"
        + ("" if found.tensor_seconds is None else f"   graphics card {1000 * found.tensor_seconds:.3f}")
        + f"   ({found.scipy_rows_timed} rows of scipy timed; largest difference {found.largest_difference:.1g})"
        for found in scoring
    ]
    return "\n".join(lines)
