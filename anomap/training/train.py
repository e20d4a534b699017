"""The training loop. The steps are in `steps`, the settings in `config`, what is saved in `checkpoint`.

A run is a folder: ``config.json``, ``log.csv``, ``samples.png``, ``state.pt``, ``best.pt``; starting again in the
same folder resumes. The data never enter the folder.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from anomap.errors import AnomapError
from anomap.evaluation.frechet import Features, FrechetMeter
from anomap.networks.stylegan2 import Generator
from anomap.output import appearing
from anomap.training.augment import adapt
from anomap.training.checkpoint import (
    State,
    fingerprint,
    load_state,
    locked,
    new_state,
    read_durable,
    save_state,
    write_durably,
)
from anomap.training.config import TrainConfig
from anomap.training.curves import is_best, write_curves
from anomap.training.grow import Start
from anomap.training.interrupt import stop_requests
from anomap.training.order import batches
from anomap.training.parallel import Group, process_group
from anomap.training.sheet import contact_sheet
from anomap.training.steps import (
    Batch,
    discriminator_step,
    generator_step,
    path_length_step,
    r1_step,
    update_average,
)
from anomap.types import Float32

Report = Callable[[dict[str, float]], None]
CHECKPOINT = "state.pt"


def train(
    images: Float32,
    config: TrainConfig,
    run: Path,
    report: Report = print,
    features: Features | None = None,
    start: Start | None = None,
) -> State:
    """Train on `images` ``(N, C, r, r)`` in [-1, 1]; resume when `run` holds a checkpoint.

    Under torchrun every process calls this with the same images; process 0 writes and reports.

    Args:
        images: Prepared training images.
        config: All settings; stored in ``config.json``.
        run: Folder of the run, created when missing.
        report: Receives one dictionary of figures a row of the curves.
        features: Of the Fréchet distance; the principal components of `images` when None.
        start: Networks to begin with; random ones when None.

    Returns:
        The final state; `average` is the generator to use.

    Raises:
        AnomapError: E200 for settings that don't fit each other, E310 and E311 for a checkpoint that is damaged or
            another run's, E312 when training diverged, E314 when another process trains in `run`, E401 without the
            device, E403 when it was interrupted; the checkpoint is then saved.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with process_group(config.device) as group, stop_requests() as asked_to_stop, ExitStack() as held:
        if group.rank == 0:
            held.enter_context(locked(run))
        config = replace(config, device=group.device)
        config.pass_size(group.size)  # refuse what can't be divided before anything is read
        state, data = new_state(config, group.device), fingerprint(images)
        if start is not None:
            start.enter(state)
            data = f"{data}, started from {start.sha256}"
        if (run / CHECKPOINT).exists():
            load_state(state, config, data, run / CHECKPOINT)
        if state.images < config.kimg * 1000:
            recorder = _Recorder(images, data, config, run, report, features) if group.rank == 0 else None
            _loop(images, state, config, group, asked_to_stop, recorder)
    return state


def _loop(
    images: Float32,
    state: State,
    config: TrainConfig,
    group: Group,
    asked_to_stop: Callable[[], bool],
    recorder: _Recorder | None,
) -> None:
    """Steps until all images were shown, the time is up or somebody asked to stop (E403)."""
    began, seconds, first_image = time.monotonic(), state.seconds, state.images
    for whole in batches(images, config.batch, config.seed, state.step):
        parts = torch.split(whole, config.pass_size(group.size))
        mine = range(group.rank, len(parts), group.size)
        batch = Batch(real=[parts[i].to(group.device) for i in mine], numbers=mine, passes=len(parts))
        _step(state, batch, config, group)
        elapsed = time.monotonic() - began
        state.seconds = seconds + elapsed
        complete = state.images >= config.kimg * 1000
        interrupted = group.any(asked_to_stop())
        last = complete or interrupted or group.any(elapsed >= config.minutes * 60)
        row_due = complete or _crossed(state.images, config.batch, config.snapshot_kimg)
        if recorder and row_due:
            recorder.row(state, (state.images - first_image) / elapsed)
        if row_due:
            state.row_sums.zero_()
            state.steps_since_row = 0
        if recorder and (row_due or last):
            recorder.save(state)
        if last:
            group.wait()  # torchrun ends all processes when one has failed: not before the file is written
            break
    if interrupted and not complete:
        raise AnomapError(
            "E403",
            f"training was interrupted after {state.images / 1000:.1f} thousand images; the checkpoint is saved",
            "Give the same command again to go on.",
        )


def chosen(state: State, config: TrainConfig, run: Path) -> State:
    """The state to package: the last one, or (``choose="best"``) with the networks of the least Fréchet distance."""
    path = run / "best.pt"
    if config.choose == "best" and path.exists():
        best = read_durable(path)
        state.average.load_state_dict(best["average"])
        state.discriminator.load_state_dict(best["discriminator"])
        state.images = best["images"]
    return state


def _step(state: State, batch: Batch, config: TrainConfig, group: Group) -> None:
    """One step of everything that is due, and the counters."""
    loss_g = generator_step(state, batch, config, group)
    if config.path_length_weight and state.step % config.path_length_interval == 0:
        path_length_step(state, batch, config, group)
    losses_d = discriminator_step(state, batch, config, group)
    if state.step % config.r1_interval == 0:
        state.r1 = float(r1_step(state, batch, config, group))
    state.step += 1
    state.images += config.batch
    state.steps_since_row += 1
    state.row_sums += torch.cat([loss_g, losses_d])
    state.sign_sum += losses_d[1]
    every = config.augment.adjust_steps
    if state.step % every == 0:
        state.augment_p = adapt(state.augment_p, float(state.sign_sum) / every, config.batch * every, config.augment)
        state.sign_sum.zero_()
    update_average(state, config)


def _crossed(images: int, batch: int, kimg: float) -> bool:
    """Whether the last batch passed a multiple of `kimg`: rows fall on the same images however often a run stops."""
    return images // (kimg * 1000) != (images - batch) // (kimg * 1000)


class _Recorder:
    """What process 0 writes: at a row figures, samples and the best networks so far; and the checkpoint."""

    def __init__(
        self, images: Float32, data: str, config: TrainConfig, run: Path, report: Report, features: Features | None
    ) -> None:
        (run / "config.json").write_text(json.dumps(asdict(config), indent=1, default=str) + "\n")
        self.data, self.config, self.run, self.report = data, config, run, report
        self.meter = FrechetMeter.of(images, features) if config.frechet_kimg else None

    def save(self, state: State) -> None:
        """Write the checkpoint, then the curves from it."""
        save_state(state, self.config, self.data, self.run / CHECKPOINT)
        write_curves(state.rows, self.run / "log.csv")

    def row(self, state: State, rate: float) -> None:
        """Append a row to ``state.rows``, draw samples, keep the networks when they are the best."""
        config = self.config
        loss_g, loss_d, sign = (state.row_sums / state.steps_since_row).tolist()
        row = {
            "kimg": state.images / 1000,
            "minutes": state.seconds / 60,
            "images_per_s": rate,
            "eta_minutes": max(config.kimg * 1000 - state.images, 0) / rate / 60,
            "loss_g": loss_g,
            "loss_d": loss_d,
            "sign_real": sign,
            "r1": state.r1,
            "augment_p": state.augment_p,
        }
        if not all(math.isfinite(value) for value in row.values()):
            raise AnomapError("E312", f"training diverged at {row['kimg']:.1f} thousand images")
        due = state.images >= config.kimg * 1000 or _crossed(
            state.images, round(config.snapshot_kimg * 1000), config.frechet_kimg or math.inf
        )
        if self.meter is not None and due:
            row["frechet"] = self.meter.distance(sample(state.average, config.frechet_samples))
        state.rows.append(row)
        if is_best(state.rows):
            networks = {"average": state.average.state_dict(), "discriminator": state.discriminator.state_dict()}
            write_durably({**networks, "images": state.images}, self.run / "best.pt")
        with appearing(self.run / "samples.png") as temporary:
            contact_sheet(sample(state.average, 32, seed=1)[:, 0], columns=8).save(temporary)
        self.report(row)


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int = 7) -> Float32:
    """``(count, C, r, r)`` pictures of random latents, clipped to [-1, 1]; the same latents for the same seed."""
    device = generator.mapping.w_avg.device
    z = torch.from_numpy(np.random.default_rng(seed).standard_normal((count, generator.config.z_dim))).float()
    parts = [generator(part.to(device), noise="const").clamp(-1, 1).cpu() for part in torch.split(z, 128)]
    images: Float32 = torch.cat(parts).numpy()
    return images
