"""Seconds per image and stage for both presets; scores of one image, dense ones beside the loop over scipy.

python benchmarks/speed.py                 # the models in models/, phantoms as input
python benchmarks/speed.py --device cuda

Writes benchmarks/results/<device>.json. What is compared is measured alternately in one run; medians are given.
Preset paper is timed over a few of its 1000 steps, which all cost the same, and stated per 1000 (--paper-steps 1000
times it in full). The scipy loop is timed over a few rows of windows and stated for all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from anomap.bundle import Bundle, list_bundles, load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.evaluation.machine import describe_machine, result_name
from anomap.pipeline import analyze_series, write_series
from anomap.projection.schedule import PAPER, preset
from anomap.scoring import quantise
from anomap.scoring.residual import mean_squared_error, window_mean_squared_error
from anomap.scoring.tensors import window_wasserstein_tensor
from anomap.scoring.wasserstein import wasserstein, window_wasserstein
from anomap.study import resolve_device

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.speed/1"
INNER = 3  # times that fast work is repeated within a round
STAGES = ("read", "prepare", "project", "score", "calibrate", "overlays", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """One bundle with one preset.

    Attributes:
        bundle: Its name.
        model_px: Side of the model image.
        source_px: Rows and columns of the source images.
        images: How many were analysed: slices of one CT series together, radiographs one after the other.
        preset: Name.
        steps: Projection steps the seconds stand for.
        steps_timed: Steps that were timed; the projection's seconds are scaled by their ratio.
        seconds: Stage -> median seconds per image.
        total: Their sum.
    """

    bundle: str
    model_px: int
    source_px: tuple[int, int]
    images: int
    preset: str
    steps: int
    steps_timed: int
    seconds: dict[str, float]
    total: float


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


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--threads", type=int, help="processor threads; torch's own choice when omitted")
    parser.add_argument("--slices", type=int, default=8, help="slices of the CT phantom")
    parser.add_argument("--radiographs", type=int, default=2, help="radiographs analysed, one after the other")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians over them")
    parser.add_argument("--paper-steps", type=int, default=10, help="steps of preset paper that are timed")
    parser.add_argument(
        "--sides", type=int, nargs="*", default=[64, 128, 256, 512], help="image sides for patch scoring"
    )
    parser.add_argument("--scipy-rows", type=int, default=2, help="rows of windows that the scipy loop is timed on")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def time_stages(options: argparse.Namespace, device: str) -> list[StageTimes]:
    """All bundles with both presets, alternating."""
    bundles = [load_bundle(info.folder, device) for info in list_bundles(options.models)]
    if not bundles:
        raise AnomapError("E300", f"no bundle in {options.models.name!r}")
    configs = [
        AnalyzeConfig(preset="fast", device=device),
        AnalyzeConfig(preset="paper", steps=options.paper_steps, device=device),
    ]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_ct_phantom(work / "CT", slices=options.slices, rows=512, columns=512, spacing_mm=(5.0, 0.75, 0.75))
        write_radiograph_phantom(work / "DX", rows=2048, columns=1680, images=options.radiographs)
        cases = [(bundle, config) for bundle in bundles for config in configs]
        for number, (bundle, _) in enumerate(cases):  # first use pays for libraries and caches
            _analyse(bundle, AnalyzeConfig(steps=1, device=device), work, work / f"first{number}")
        rounds = [
            [_analyse(bundle, config, work, work / f"out{number}-{place}") for place, (bundle, config) in _told(cases)]
            for number in range(options.repeats)
        ]
    return [
        _summary(bundle, config, [times[place] for times in rounds]) for place, (bundle, config) in enumerate(cases)
    ]


def _told(cases: Sequence[tuple[Bundle, AnalyzeConfig]]) -> Iterator[tuple[int, tuple[Bundle, AnalyzeConfig]]]:
    for place, (bundle, config) in enumerate(cases):
        print(f"{bundle.info.name}, preset {config.preset} ...", file=sys.stderr)
        yield place, (bundle, config)


def _analyse(bundle: Bundle, config: AnalyzeConfig, work: Path, out: Path) -> dict[str, Any]:
    """One run over a bundle's phantom: seconds by stage of all images, and their number and size."""
    start = time.perf_counter()
    study = read_study(work / ("CT" if "CT" in bundle.info.modalities else "DX"))
    seconds = dict.fromkeys(STAGES, 0.0)
    seconds["read"] = time.perf_counter() - start
    out.mkdir()
    images = 0
    for number, series in enumerate(study.series):
        analysis = analyze_series(series, bundle, config)
        write_series(analysis, out / f"{number}", config)
        images += len(series.pixels)
        for stage, value in analysis.result.provenance["seconds"].items():
            seconds[stage] += value
    return {"seconds": seconds, "images": images, "source_px": study.series[0].pixels.shape[1:]}


def _summary(bundle: Bundle, config: AnalyzeConfig, rounds: list[dict[str, Any]]) -> StageTimes:
    fitting = preset(config.preset, steps=config.steps)
    steps = PAPER.steps if config.preset == "paper" else fitting.steps
    images = rounds[0]["images"]
    seconds = {stage: median(times["seconds"][stage] for times in rounds) / images for stage in STAGES}
    seconds["project"] *= steps / fitting.steps
    rows, columns = rounds[0]["source_px"]
    return StageTimes(
        bundle=bundle.info.name,
        model_px=bundle.spec.size,
        source_px=(rows, columns),
        images=images,
        preset=config.preset,
        steps=steps,
        steps_timed=fitting.steps,
        seconds={stage: round(value, 5) for stage, value in seconds.items()},
        total=round(sum(seconds.values()), 4),
    )


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


def report(stages: Sequence[StageTimes], scoring: Sequence[ScoringTimes]) -> str:
    """The figures as text."""
    lines = [
        "seconds per image",
        f"{'bundle':16}{'preset':8}" + "".join(f"{stage:>11}" for stage in (*STAGES, "total")),
    ]
    for times in stages:
        values = [*(times.seconds[stage] for stage in STAGES), times.total]
        note = (
            "" if times.steps == times.steps_timed else f"   project: {times.steps_timed} steps timed, x{times.steps}"
        )
        lines.append(f"{times.bundle:16}{times.preset:8}" + "".join(f"{value:11.4f}" for value in values) + note)
    lines += [
        "",
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


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    start = time.perf_counter()
    try:
        device = resolve_device(options.device)
        stages = time_stages(options, device)
    except AnomapError as error:
        print(error, file=sys.stderr)
        return int(error.status)
    compiler = time_compiler()
    scoring = [time_scoring(side, options.scipy_rows, options.repeats, device) for side in options.sides]
    print(report(stages, scoring))
    content = {
        "format": FORMAT,
        "machine": describe_machine(device, ROOT),
        "stages": [asdict(times) for times in stages],
        "compiler_seconds": compiler,
        "scoring": [asdict(found) for found in scoring],
        "repeats": options.repeats,
        "seconds": round(time.perf_counter() - start, 1),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{result_name(device)}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{path.name} written to {options.output.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
