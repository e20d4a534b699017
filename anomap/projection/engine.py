"""The search itself: many images side by side, each with its own optimiser, in as much memory as there is.

Images that are finished leave the batch and waiting ones enter, so that the machine works on a full one until the end.
Which images are fitted together changes an image's result by rounding alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anomap.errors import AnomapError, out_of_memory
from anomap.projection.adam import adam_step
from anomap.projection.batch import Batch, enter, pick, together, with_noise
from anomap.projection.cloud import WStatistics
from anomap.projection.losses import Features, distance, noise_regulariser
from anomap.projection.schedule import ProjectionConfig, learning_rate, w_noise_factor

Render = Callable[[Tensor, Sequence[Tensor]], Tensor]  # w and noise maps (none: the trained ones) -> images
LATE = 0.9  # of the steps; who still gets much closer after them has not converged


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One finished image.

    Attributes:
        image: ``[C, H, W]`` in [-1, 1], on the CPU, as is w.
        w: ``[D]``.
        steps: Steps it took.
        loss: Distance to the target at the end.
        late_gain: Share by which the loss fell after `LATE` of all steps; 0 for an image that stopped before.
        prior: Distance of w from the training cloud.
    """

    image: Tensor
    w: Tensor
    steps: int
    loss: float
    late_gain: float
    prior: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What all images of a run have in common.

    Attributes:
        config: How they are fitted.
        render: The generator.
        features: What is compared.
        cloud: The training cloud.
        noise_shapes: ``(r, r)`` of the noise maps that are fitted too; none when they aren't.
        device: Where.
    """

    config: ProjectionConfig
    render: Render
    features: Features
    cloud: WStatistics
    noise_shapes: Sequence[tuple[int, int]]
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What is to be fitted: N images on the CPU, and where each begins.

    Attributes:
        target: ``[N, C, H, W]`` in [-1, 1].
        valid: Like `target`.
        seeds: N.
        w: ``[N, D]``.
    """

    target: Tensor
    valid: Tensor
    seeds: Sequence[int]
    w: Tensor


def fit(images: Images, search: Search, room: int, told: Callable[[int, int], None]) -> list[Fit]:
    """Fit all images.

    Args:
        images: N of them.
        search: How.
        room: So many are fitted together; fewer when the memory doesn't suffice.
        told: Called with (image steps done, image steps in all); one that stops early counts as if it hadn't.

    Returns:
        N results in the order of `images`.

    Raises:
        AnomapError: E400 when not even one image fits the memory, E501 when a loss is not finite.
    """
    count, steps = len(images.seeds), search.config.steps
    done: dict[int, Fit] = {}
    waiting, batch = deque(range(count)), None
    known_rows: tuple[int, ...] = ()
    known: list[Tensor] | None = None
    while len(done) < count:
        try:
            batch = _filled(batch, waiting, images, search, room)
            if known_rows != batch.rows:
                known, known_rows = _known(batch, search), batch.rows
            ended = _clear(batch, search)
            if not ended:
                batch, ended = _moved(batch, known, search)
            if ended:
                done |= _finished(pick(batch, ended), search)
                staying = sorted(set(range(len(batch.rows))) - set(ended))
                batch = pick(batch, staying) if staying else None
        except Exception as error:
            if not out_of_memory(error):
                raise
            if room == 1:
                raise AnomapError("E400", "out of memory with a single image") from error
            room = max(1, min(room, count) // 2)
            waiting, batch = deque(row for row in range(count) if row not in done), None
            known, known_rows = None, ()
        told(len(done) * max(steps, 1) + sum(batch.steps if batch else ()), count * max(steps, 1))
    return [done[row] for row in range(count)]


def _filled(batch: Batch | None, waiting: deque[int], images: Images, search: Search, room: int) -> Batch:
    """The batch with waiting images in its free places; there is at least one image in it or waiting."""
    free = room - (len(batch.rows) if batch else 0)
    rows = [waiting.popleft() for _ in range(min(free, len(waiting)))]
    if not rows:
        assert batch is not None  # noqa: S101 (see above)
        return batch
    target, valid, w = (tensor[rows].to(search.device) for tensor in (images.target, images.valid, images.w))
    new = with_noise(enter(rows, [images.seeds[row] for row in rows], target, valid, w), search.noise_shapes)
    return together(batch, new) if batch else new


@torch.no_grad()
def _known(batch: Batch, search: Search) -> list[Tensor] | None:
    """Features of the targets, which stay the same; None where padding takes the picture's own pixels."""
    return search.features(batch.target) if bool(batch.valid.all()) else None


@torch.no_grad()
def _clear(batch: Batch, search: Search) -> list[int]:
    """Places of images that need no step: none is asked for, or the start misses so much that the answer is clear."""
    new = [place for place, step in enumerate(batch.steps) if step == 0]
    limit = search.config.clear_mse
    if not search.config.steps or not new or limit is None:
        return [] if search.config.steps else new
    some = pick(batch, new)
    squares = (search.render(some.w, ()).clamp(-1, 1) - some.target).square() * some.valid
    errors = squares.sum(dim=(1, 2, 3)) / some.valid.sum(dim=(1, 2, 3)).clamp_min(1)
    return [place for place, error in zip(new, errors.tolist(), strict=True) if error > limit]


def _moved(batch: Batch, known: list[Tensor] | None, search: Search) -> tuple[Batch, list[int]]:
    """One step of every image, and the places of those that are finished with it.

    The losses are sums over images, so images don't influence each other.
    """
    config = search.config
    amounts = [w_noise_factor(step, config) * search.cloud.spread for step in batch.steps]
    styles = batch.w
    if any(amounts):
        styles = styles + styles.new_tensor(amounts)[:, None] * batch.normal(styles.shape[1])
    missed = distance(search.features, search.render(styles, batch.noise), batch.target, batch.valid, known)
    loss = missed
    if batch.noise:
        loss = loss + config.noise_weight * noise_regulariser(batch.noise)
    if config.prior_weight:
        loss = loss + config.prior_weight * search.cloud.distance(batch.w).square()
    torch.autograd.backward(loss.sum())
    taken = tuple(step + 1 for step in batch.steps)
    rates = torch.tensor([learning_rate(step, config) for step in batch.steps], dtype=torch.float64)
    for parameter, mean, power in zip(batch.parameters, batch.mean, batch.power, strict=True):
        adam_step(parameter, mean, power, torch.tensor(taken, dtype=torch.float64), rates)
    _normalise(batch.noise)
    missed = missed.detach()
    late = [step == int(LATE * config.steps) for step in batch.steps]
    batch = replace(batch, steps=taken)
    if any(late):
        batch = replace(batch, late=torch.where(_mask(late, missed), missed, batch.late))
    return _looked_at(batch, missed, config)


def _looked_at(batch: Batch, missed: Tensor, config: ProjectionConfig) -> tuple[Batch, list[int]]:
    """Places of the images that have taken all steps or whose loss hardly falls any more."""
    ended = [step == config.steps for step in batch.steps]
    due = [step % config.stop_every == 0 for step in batch.steps]
    if config.stop_gain is not None and any(due):
        still = batch.looked - missed > config.stop_gain * batch.looked  # at the first look: from infinity
        still |= batch.looked.isinf()
        stalled = (_mask(due, missed) & ~still).tolist()
        ended = [last or stop for last, stop in zip(ended, stalled, strict=True)]
        batch = replace(batch, looked=torch.where(_mask(due, missed), missed, batch.looked))
    return batch, [place for place, end in enumerate(ended) if end]


@torch.no_grad()
def _finished(batch: Batch, search: Search) -> dict[int, Fit]:
    """Results by image. The trained noise is rendered: fitted maps are discarded here."""
    pictures = search.render(batch.w, ())
    loss = distance(search.features, pictures, batch.target, batch.valid)
    if not bool(torch.isfinite(loss).all()):
        raise AnomapError("E501", "the projection did not stay finite")
    gain = ((batch.late - loss) / batch.late.clamp_min(1e-12)).nan_to_num(nan=0.0)
    images, vectors = pictures.clamp(-1, 1).cpu(), batch.w.detach().cpu()
    prior = search.cloud.distance(batch.w)
    return {
        row: Fit(
            image=images[place],
            w=vectors[place],
            steps=batch.steps[place],
            loss=float(loss[place]),
            late_gain=float(gain[place]),
            prior=float(prior[place]),
        )
        for place, row in enumerate(batch.rows)
    }


@torch.no_grad()
def _normalise(noise: Sequence[Tensor]) -> None:
    """Zero mean and unit mean square of every map, after every step (as the reference)."""
    for maps in noise:
        maps -= maps.mean(dim=(1, 2, 3), keepdim=True)
        maps *= maps.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()


def _mask(values: Sequence[bool], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)
