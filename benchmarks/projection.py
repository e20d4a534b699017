"""Seconds a projected image takes: the published way of working against ours, by batch, by size, and by the floor.

`benchmarks/speed.py` runs this. The published way is preset paper, one image after the other, with the plain generator
(one kernel per image, grouped convolution); ours is preset fast in batches. Both have the same weights and see the same
images, pictures of the generator itself with noise: what a step costs doesn't depend on what an image shows. Ways take
turns, and medians are given, on a processor of its own time, which a busy machine disturbs little. Of preset paper some
steps are timed and stated for all; they cost the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from anomap.networks.encoder import Encoder
from anomap.networks.plain import plain_synthesis
from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
from anomap.projection import WStatistics, measure_w, renderer
from anomap.projection.engine import Images, Render, Search, fit
from anomap.projection.losses import discriminator_features, pyramid_features
from anomap.projection.schedule import FAST, PAPER, ProjectionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What is timed."""

    name: str
    generator: Generator
    discriminator: Discriminator
    encoder: Encoder | None
    cloud: WStatistics
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetTimes:
    """The published way of working against ours, with the same weights.

    Attributes:
        model: Name of the bundle, or of random networks.
        size_px: Side of the image.
        batch: Images that preset fast fits together.
        steps_timed: Of preset paper's 1000.
        paper_plain: Seconds an image, one by one, plain generator.
        paper: Ditto, with our generator.
        paper_batch: Ditto, in batches.
        fast: Seconds an image of preset fast, in batches.
        ratio: Median of paper_plain / fast, round by round.
    """

    model: str
    size_px: int
    batch: int
    steps_timed: int
    paper_plain: float
    paper: float
    paper_batch: float
    fast: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFloor:
    """A step of preset fast at one resolution or batch size against what the machine could do at best.

    Attributes:
        model: Name of the bundle, or of random networks.
        size_px: Side of the image.
        channel_base: See `NetworkConfig`.
        batch: Images in a step.
        milliseconds: Of a step, per image.
        gflop: Operations of the generator's forward and backward pass per image, counted by torch.
        megabytes: Least traffic per image: every activation written once and read once, forward and backward.
        floor_milliseconds: Operations over the measured matrix rate plus traffic over the measured copy rate.
        share: floor / measured.
    """

    model: str
    size_px: int
    channel_base: int
    batch: int
    milliseconds: float
    gflop: float
    megabytes: float
    floor_milliseconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the machine does at best: gigaflop/s of a matrix product and gigabyte/s of a copy (read and written)."""

    matrix_gflops: float
    copy_gbs: float


def random_networks(size: int, base: int, device: str) -> Networks:
    """Untrained networks of a size."""
    torch.manual_seed(0)
    config = NetworkConfig(resolution=size, channel_base=base)
    generator = Generator(config).eval().requires_grad_(False).to(device)
    return Networks(
        name=f"random, base {base}",
        generator=generator,
        discriminator=Discriminator(config).eval().requires_grad_(False).to(device),
        encoder=None,
        cloud=measure_w(generator, samples=1000),
        device=device,
    )


def machine_rates(device: str) -> Rates:
    """Best of some rounds."""
    a, b = torch.randn(2, 1024, 1024, device=device)
    source = torch.randn(1 << 25, device=device)
    target = torch.empty_like(source)
    matrix = min(_seconds(lambda: torch.mm(a, b), device) for _ in range(10))
    copy = min(_seconds(lambda: target.copy_(source), device) for _ in range(10))
    return Rates(matrix_gflops=round(2 * 1.024**3 / matrix, 1), copy_gbs=round(2 * source.nbytes / 1e9 / copy, 1))


def time_presets(networks: Networks, batch: int, paper_steps: int, repeats: int) -> PresetTimes:
    """All ways in turn, after one short round that pays for first use."""
    generator = networks.generator
    fast_way = renderer(networks.generator, networks.device)

    def plain(w: torch.Tensor, noise: Sequence[torch.Tensor]) -> torch.Tensor:
        return plain_synthesis(generator.synthesis, w, noise)

    short = replace(PAPER, steps=paper_steps)
    works: dict[str, Callable[[ProjectionConfig | None], float]] = {
        "paper_plain": lambda given: _fitted(networks, given or short, plain, 1, 1),
        "paper": lambda given: _fitted(networks, given or short, fast_way, 1, 1),
        "paper_batch": lambda given: _fitted(networks, given or short, fast_way, batch, batch),
        "fast": lambda given: _fitted(networks, given or FAST, fast_way, batch, batch),
    }
    for work in works.values():
        work(replace(FAST, steps=1))
    rounds = [{name: work(None) for name, work in works.items()} for _ in range(repeats)]
    for times in rounds:
        for name in ("paper_plain", "paper", "paper_batch"):
            times[name] *= PAPER.steps / paper_steps
    return PresetTimes(
        model=networks.name,
        size_px=generator.config.resolution,
        batch=batch,
        steps_timed=paper_steps,
        **{name: round(median(times[name] for times in rounds), 4) for name in works},
        ratio=round(median(times["paper_plain"] / times["fast"] for times in rounds), 1),
    )


def time_floor(networks: Networks, batches: Sequence[int], repeats: int, rates: Rates) -> list[StepFloor]:
    """Steps of preset fast at several batch sizes, in turn, beside their floor."""
    config = networks.generator.config
    fast_way = renderer(networks.generator, networks.device)
    few = replace(FAST, steps=4)
    seconds: Mapping[int, list[float]] = {batch: [] for batch in batches}
    for batch in batches:
        _fitted(networks, replace(FAST, steps=1), fast_way, batch, batch)
    for _ in range(repeats):
        for batch in batches:
            seconds[batch].append(_fitted(networks, few, fast_way, batch, batch) / few.steps)
    gflop = _operations(networks.generator) / 1e9
    activations = sum(config.width(side) * side**2 * (1 if side == 4 else 2) for side in config.resolutions)
    megabytes = 4 * 4 * activations / 1e6
    floor = 1e3 * (gflop / rates.matrix_gflops + megabytes / 1e3 / rates.copy_gbs)
    return [
        StepFloor(
            model=networks.name,
            size_px=config.resolution,
            channel_base=config.channel_base,
            batch=batch,
            milliseconds=round(1e3 * median(values), 2),
            gflop=round(gflop, 3),
            megabytes=round(megabytes, 1),
            floor_milliseconds=round(floor, 2),
            share=round(floor / (1e3 * median(values)), 3),
        )
        for batch, values in seconds.items()
    ]


def _fitted(networks: Networks, config: ProjectionConfig, render: Render, images: int, batch: int) -> float:
    """Seconds an image."""
    target = _pictures(networks, images).cpu()
    search = Search(
        config=config,
        render=render,
        features=discriminator_features(networks.discriminator) if config.loss == "discriminator" else pyramid_features,
        cloud=networks.cloud,
        noise_shapes=networks.generator.synthesis.noise_shapes() if config.optimise_noise else (),
        device=networks.device,
    )

    def work() -> None:
        w = networks.cloud.mean.expand(images, -1).clone()
        if config.start == "encoder" and networks.encoder is not None:
            with torch.no_grad():
                w = networks.encoder(target.to(networks.device))
        everywhere = torch.ones_like(target, dtype=torch.bool)
        fit(Images(target=target, valid=everywhere, seeds=range(images), w=w), search, batch, lambda done, total: None)

    return _seconds(work, networks.device) / images


@torch.no_grad()
def _pictures(networks: Networks, count: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    z = torch.randn(count, networks.generator.config.z_dim, generator=draws).to(networks.device)
    pictures = networks.generator(z, noise="const").cpu()
    return (pictures + 0.1 * torch.randn(pictures.shape, generator=draws)).clamp(-1, 1)


def _operations(generator: Generator) -> int:
    """Floating point operations of one image's forward and backward pass to w."""
    device = next(generator.parameters()).device
    w = torch.zeros(1, generator.config.w_dim, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(generator.synthesis(w, "const").sum())
    return int(counter.get_total_flops())


def _seconds(work: Callable[[], object], device: str) -> float:
    """Processor time on a processor, elsewhere the time until the device has done it."""
    if device == "cpu":
        begun = time.process_time()
        work()
        return time.process_time() - begun
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def report(presets: Sequence[PresetTimes], floors: Sequence[StepFloor], rates: Rates) -> str:
    """The figures as text."""
    lines = [
        "seconds per image; paper: 1000 steps; plain: one kernel per image",
        f"{'model':22}{'px':>5}{'paper plain':>13}{'paper':>9}{'batch':>9}{'fast':>9}{'in batch of':>13}{'ratio':>8}",
    ]
    lines += [
        f"{row.model:22}{row.size_px:5}{row.paper_plain:13.1f}{row.paper:9.1f}{row.paper_batch:9.1f}{row.fast:9.3f}"
        f"{row.batch:13}{row.ratio:8.0f}"
        for row in presets
    ]
    lines += [
        "",
        f"a step of preset fast; matrix product {rates.matrix_gflops:g} GFLOP/s, copy {rates.copy_gbs:g} GB/s",
        f"{'model':22}{'px':>5}{'batch':>7}{'ms/image':>10}{'GFLOP':>8}{'MB':>8}{'floor ms':>10}{'share':>8}",
    ]
    lines += [
        f"{row.model:22}{row.size_px:5}{row.batch:7}{row.milliseconds:10.2f}{row.gflop:8.2f}{row.megabytes:8.1f}"
        f"{row.floor_milliseconds:10.2f}{row.share:8.2f}"
        for row in floors
    ]
    return "\n".join(lines)
