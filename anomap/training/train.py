"""Train a generator: one readable file, the way one reads the papers.

Non-saturating loss (Goodfellow 2014), lazy R1 (Mescheder 2018; Karras 2020 section 3.1), optional path length
penalty (Karras 2020 section 3.2), exponential moving average of the generator, style mixing, adaptive
augmentation. A run is a folder: ``config.json``, ``log.csv``, ``samples.png``, ``state.pt``; starting again in
the same folder resumes. The data never enter the folder.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig
from anomap.training.augment import AugmentConfig, adapt, augment
from anomap.training.sheet import contact_sheet
from anomap.types import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and how. The defaults train a useful 64-pixel model in one to two hours on one CPU core."""

    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(
            resolution=64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=1024, channel_max=128
        )
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    kimg: float = 300.0  # thousands of real images shown in all
    batch: int = 32
    learning_rate: float = 0.0025  # Adam, both networks
    r1_gamma: float = 0.1  # gradient penalty on real images; small pictures need little
    r1_interval: int = 16  # every so many steps, with so much more weight
    path_length_weight: float = 0.0  # 2 as published; off, because it costs a fifth of the time on a CPU
    path_length_interval: int = 4
    ema_kimg: float = 5.0  # half-life of the average of the generator's weights
    ema_rampup: float = 0.05  # ... but no longer than this share of the images seen
    style_mixing: float = 0.5  # probability of two latents for one picture
    bf16: bool = True  # convolutions in bfloat16; losses and penalties in float32
    seed: int = 0
    threads: int = 0  # CPU threads, 0 = torch's choice
    minutes: float = math.inf  # stop after so much time in this call (resume by calling again)
    snapshot_kimg: float = 10.0  # save and draw samples this often
    device: str = "cpu"


@dataclass(slots=True)
class State:
    """What a checkpoint holds: networks, optimisers, counters."""

    generator: Generator
    discriminator: Discriminator
    average: Generator
    optimiser_g: torch.optim.Adam
    optimiser_d: torch.optim.Adam
    images: int = 0
    augment_p: float = 0.0
    path_mean: float = 0.0


def new_state(config: TrainConfig) -> State:
    """Fresh networks and optimisers.

    Lazy regularisation runs the penalty every k-th step; learning rate and betas are corrected by
    k / (k + 1) so that the average step stays the same (Karras 2020, appendix B).
    """
    torch.manual_seed(config.seed)
    layout = torch.channels_last if config.bf16 else torch.contiguous_format
    generator = Generator(config.network).to(config.device, memory_format=layout)  # type: ignore[call-overload]
    discriminator = Discriminator(config.network).to(config.device, memory_format=layout)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).eval().requires_grad_(False)

    def adam(parameters: Iterator[torch.nn.Parameter], interval: int) -> torch.optim.Adam:
        share = interval / (interval + 1)
        return torch.optim.Adam(parameters, lr=config.learning_rate * share, betas=(0.0, 0.99**share), eps=1e-8)

    lazy_g = config.path_length_interval if config.path_length_weight else 10**9
    return State(
        generator,
        discriminator,
        average,
        adam(generator.parameters(), lazy_g),
        adam(discriminator.parameters(), config.r1_interval),
    )


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint by rename: an interrupted save leaves the old one."""
    parts = {
        name: getattr(state, name).state_dict()
        for name in ("generator", "discriminator", "average", "optimiser_g", "optimiser_d")
    }
    counters = {"images": state.images, "augment_p": state.augment_p, "path_mean": state.path_mean}
    temporary = path.with_suffix(".tmp")
    torch.save({**parts, **counters, "rng": torch.get_rng_state()}, temporary)
    temporary.replace(path)


def load_state(state: State, path: Path) -> None:
    """Read a checkpoint made by `save_state` into `state`, the random state included."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("generator", "discriminator", "average", "optimiser_g", "optimiser_d"):
        getattr(state, name).load_state_dict(saved[name])
    state.images, state.augment_p, state.path_mean = saved["images"], saved["augment_p"], saved["path_mean"]
    torch.set_rng_state(saved["rng"])


def _styles(generator: Generator, n: int, config: TrainConfig) -> Tensor:
    """``[N, L, D]`` styles of random latents, some mixed of two (StyleGAN, section 3.1)."""
    layers, z_dim = config.network.style_layers, config.network.z_dim
    w: Tensor = generator.mapping(torch.randn(n, z_dim, device=config.device))
    with torch.no_grad():
        generator.mapping.w_avg.lerp_(w.detach().mean(dim=0), 0.005)
    ws = w[:, None].repeat(1, layers, 1)
    if torch.rand([]) < config.style_mixing:
        cut = int(torch.randint(1, layers, []))
        ws[:, cut:] = generator.mapping(torch.randn(n, z_dim, device=config.device))[:, None]
    return ws


def generator_step(state: State, config: TrainConfig, dtype: torch.dtype) -> float:
    """One non-saturating step of G; returns its loss."""
    state.discriminator.requires_grad_(False)
    fakes = state.generator.synthesis(_styles(state.generator, config.batch, config), "random", dtype)
    logits = state.discriminator(augment(fakes, state.augment_p, config.augment), dtype)
    loss = F.softplus(-logits).mean()
    state.optimiser_g.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    state.optimiser_g.step()
    state.discriminator.requires_grad_(True)
    return loss.item()


def path_length_step(state: State, config: TrainConfig) -> None:
    """Keep the length of image changes per change of w constant (Karras 2020, equation 4)."""
    ws = _styles(state.generator, max(config.batch // 2, 1), config)
    images = state.generator.synthesis(ws, "random")
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()  # [N]
    state.path_mean += 0.01 * (float(lengths.detach().mean()) - state.path_mean)
    penalty = (lengths - state.path_mean).square().mean()
    state.optimiser_g.zero_grad(set_to_none=True)
    torch.autograd.backward(penalty * config.path_length_weight * config.path_length_interval)
    state.optimiser_g.step()


def discriminator_step(state: State, real: Tensor, config: TrainConfig, dtype: torch.dtype) -> tuple[float, float]:
    """One step of D on `real` ``[N, C, r, r]``; returns its loss and the mean sign of D(real)."""
    with torch.no_grad():
        fakes = state.generator.synthesis(_styles(state.generator, len(real), config), "random", dtype)
    both = augment(torch.cat([real, fakes]), state.augment_p, config.augment)
    # Two passes, so that the minibatch statistics never mix real and generated images.
    on_real = state.discriminator(both[: len(real)], dtype)
    on_fake = state.discriminator(both[len(real) :], dtype)
    loss = (F.softplus(-on_real) + F.softplus(on_fake)).mean()
    state.optimiser_d.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    state.optimiser_d.step()
    return loss.item(), on_real.detach().sign().mean().item()


def r1_step(state: State, real: Tensor, config: TrainConfig) -> float:
    """Penalise the gradient of D at real images (Mescheder 2018, equation 9), in float32; returns its mean square."""
    images = augment(real, state.augment_p, config.augment).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(state.discriminator(images).sum(), images, create_graph=True)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    state.optimiser_d.zero_grad(set_to_none=True)
    torch.autograd.backward(penalty * (config.r1_gamma / 2 * config.r1_interval))
    state.optimiser_d.step()
    return penalty.item()


@torch.no_grad()
def _update_average(state: State, config: TrainConfig) -> None:
    half_life = min(config.ema_kimg * 1000, max(state.images * config.ema_rampup, 1.0))
    keep = 0.5 ** (config.batch / half_life)
    for kept, new in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
    for buffer, present in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        buffer.copy_(present)


def batches(images: Float32, batch: int, seed: int, start: int) -> Iterator[Tensor]:
    """Endless shuffled batches ``[B, C, r, r]``; the first `start` are left out, so a resumed run goes on as it was."""
    per_epoch = max(len(images) // batch, 1)
    number = start
    while True:
        epoch, position = divmod(number, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(images))
        order = np.resize(order, max(len(order), batch))  # fewer images than a batch holds: repeat them
        while position < per_epoch:
            yield torch.from_numpy(images[order[position * batch : (position + 1) * batch]])
            position, number = position + 1, number + 1


@torch.no_grad()
def draw_samples(state: State, config: TrainConfig, path: Path, rows: int = 4, columns: int = 8) -> None:
    """Write a sheet of fixed random samples of the averaged generator."""
    z = torch.from_numpy(np.random.default_rng(1).standard_normal((rows * columns, config.network.z_dim))).float()
    images = state.average(z.to(config.device), noise="const").clamp(-1, 1).cpu().numpy()
    contact_sheet(images[:, 0], columns=columns).save(path)


def train(images: Float32, config: TrainConfig, run: Path, report: Callable[[dict[str, float]], None] = print) -> State:
    """Train on `images` ``(N, C, r, r)`` in [-1, 1]; resume when `run` holds a checkpoint.

    Args:
        images: Prepared training images.
        config: All settings; stored in ``config.json``.
        run: Folder of the run, created when missing.
        report: Receives one dictionary of figures a snapshot.

    Returns:
        The final state; `average` is the generator to use.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(asdict(config), indent=1, default=str) + "\n")
    state = new_state(config)
    checkpoint = run / "state.pt"
    if checkpoint.exists():
        load_state(state, checkpoint)
        if state.images >= config.kimg * 1000:
            return state
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    source = batches(images, config.batch, config.seed, state.images // config.batch)
    began, first_image = time.monotonic(), state.images
    next_snapshot = state.images + config.snapshot_kimg * 1000
    sums: list[tuple[float, float, float]] = []
    penalty, step = 0.0, state.images // config.batch
    for real in source:
        real = real.to(config.device)
        loss_g = generator_step(state, config, dtype)
        if config.path_length_weight and step % config.path_length_interval == 0:
            path_length_step(state, config)
        loss_d, sign = discriminator_step(state, real, config, dtype)
        if step % config.r1_interval == 0:
            penalty = r1_step(state, real, config)
        state.images += len(real)
        step += 1
        state.augment_p = adapt(state.augment_p, sign, len(real), config.augment)
        _update_average(state, config)
        sums.append((loss_g, loss_d, sign))
        minutes = (time.monotonic() - began) / 60
        finished = state.images >= config.kimg * 1000 or minutes >= config.minutes
        if state.images >= next_snapshot or finished:
            rate = (state.images - first_image) / (60 * minutes)
            means = np.mean(sums, axis=0)
            figures = {
                "kimg": state.images / 1000,
                "minutes": minutes,
                "images_per_s": rate,
                "eta_minutes": max(config.kimg * 1000 - state.images, 0) / rate / 60,
                "loss_g": float(means[0]),
                "loss_d": float(means[1]),
                "sign_real": float(means[2]),
                "r1": penalty,
                "augment_p": state.augment_p,
            }
            if not all(math.isfinite(v) for v in figures.values()):
                msg = f"training diverged at {figures['kimg']:.1f} kimg; lower the learning rate or turn bf16 off"
                raise FloatingPointError(msg)
            save_state(state, checkpoint)
            draw_samples(state, config, run / "samples.png")
            _log(run / "log.csv", figures)
            report(figures)
            sums, next_snapshot = [], state.images + config.snapshot_kimg * 1000
        if finished:
            break
    return state


def _log(path: Path, figures: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, figures)
        if new:
            writer.writeheader()
        writer.writerow({key: round(value, 4) for key, value in figures.items()})
