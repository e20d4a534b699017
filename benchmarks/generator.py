"""One projection step of the generator, forward and backward to w, three ways with the same weights.

python benchmarks/generator.py                               # all cases; one thread
python benchmarks/generator.py --cases 64:4096:8 256:8192:8  # size:channel base:batch

"plain" builds one kernel per image for a grouped convolution, "scaled" is the synthesis as it is trained, "fast" the
one prepared for projection. Weights are random. The three take turns in one process; medians of its processor time
are given, so a busy machine disturbs them little, and ratios are medians over rounds. All three run under the same
allocator; glibc gives and takes back large tensors' pages at every step unless it is told otherwise
(MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592), so its settings are noted beside the figures.

Writes benchmarks/results/generator-cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from anomap.evaluation.machine import describe_machine
from anomap.networks.fast import FastSynthesis
from anomap.networks.plain import plain_synthesis
from anomap.networks.stylegan2 import NetworkConfig, Synthesis

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.generator/1"
CASES = (
    *(f"64:4096:{batch}" for batch in (1, 8, 32, 64)),
    *("128:4096:8", "128:8192:8"),
    *("256:4096:1", "256:4096:8", "256:8192:1", "256:8192:8"),
)
Render = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """One network and batch size.

    Attributes:
        size_px: Side of the image.
        channel_base: Feature maps at resolution r: channel_base / r, at most 512.
        batch: Images in a step.
        milliseconds: Way -> median per image and step.
        scaled_ratio: Median of plain / scaled, round by round.
        fast_ratio: Median of plain / fast, round by round.
        image_gap: Largest difference of fast's image to plain's, over the largest value.
        gradient_gap: Ditto of the gradient.
    """

    size_px: int
    channel_base: int
    batch: int
    milliseconds: dict[str, float]
    scaled_ratio: float
    fast_ratio: float
    image_gap: float
    gradient_gap: float


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES, metavar="SIZE:BASE:BATCH")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; medians over them")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def time_steps(size: int, base: int, batch: int, repeats: int) -> StepTimes:
    """The three ways in turn, after one round that pays for first use."""
    torch.manual_seed(0)
    synthesis = Synthesis(NetworkConfig(resolution=size, channel_base=base)).requires_grad_(False)
    w = torch.randn(batch, synthesis.config.w_dim)
    ways: dict[str, Render] = {
        "plain": lambda w: plain_synthesis(synthesis, w),
        "scaled": synthesis,
        "fast": FastSynthesis(synthesis),
    }
    first = {name: step(render, w) for name, render in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, render in ways.items():
            start = time.process_time()
            step(render, w)
            seconds[name].append(time.process_time() - start)
    image_gap, gradient_gap = (
        float((got - expected).abs().max() / expected.abs().max())
        for got, expected in zip(first["fast"], first["plain"], strict=True)
    )
    return StepTimes(
        size_px=size,
        channel_base=base,
        batch=batch,
        milliseconds={name: round(median(values) * 1e3 / batch, 2) for name, values in seconds.items()},
        scaled_ratio=_ratio(seconds["plain"], seconds["scaled"]),
        fast_ratio=_ratio(seconds["plain"], seconds["fast"]),
        image_gap=image_gap,
        gradient_gap=gradient_gap,
    )


def step(render: Render, w: Tensor) -> tuple[Tensor, Tensor]:
    """Image, and gradient to w of half its squared norm."""
    w = w.detach().requires_grad_(True)
    image = render(w)
    (gradient,) = torch.autograd.grad(image, w, image.detach())
    return image.detach(), gradient


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return round(median(a / b for a, b in zip(slow, fast, strict=True)), 2)


def report(found: Sequence[StepTimes]) -> str:
    """The figures as text."""
    lines = [
        f"{'size':>5}{'base':>7}{'batch':>7}{'plain':>10}{'scaled':>10}{'fast':>10} ms an image  plain/scaled  /fast"
    ]
    lines += [
        f"{row.size_px:5}{row.channel_base:7}{row.batch:7}"
        + "".join(f"{value:10.1f}" for value in row.milliseconds.values())
        + f"{row.scaled_ratio:28.2f}{row.fast_ratio:7.2f}"
        for row in found
    ]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(words)
    torch.set_num_threads(options.threads)
    found = []
    for case in options.cases:
        print(f"{case} ...", file=sys.stderr)
        size, base, batch = map(int, case.split(":"))
        found.append(time_steps(size, base, batch, options.repeats))
    print(report(found))
    content = {
        "format": FORMAT,
        "machine": describe_machine("cpu", ROOT),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "allocator": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")},
        "steps": [asdict(row) for row in found],
        "repeats": options.repeats,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "generator-cpu.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{path.name} written to {options.output.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
