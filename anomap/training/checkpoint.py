"""The state of a run, and its checkpoint: written by rename, refused when it is another run's."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import Discriminator, Generator
from anomap.output import appearing
from anomap.training.config import TrainConfig
from anomap.types import Float32

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
_PARTS = ("generator", "discriminator", "average", "optimiser_g", "optimiser_d")
_COUNTERS = ("step", "images", "augment_p", "path_mean", "seconds", "r1", "rows", "steps_since_row")
_SUMS = ("row_sums", "sign_sum")


@dataclass(slots=True)
class State:
    """All that changes during a run. There is no random state in it: see `anomap.training.parallel`.

    Attributes:
        generator: G.
        discriminator: D.
        average: Moving average of G, the one to use.
        optimiser_g: Adam of G.
        optimiser_d: Adam of D.
        row_sums: Sums of loss of G, loss of D and sign of D(real) since the last row of the curves, ``[3]``.
        sign_sum: Sum of the sign of D(real) since p was last adapted, ``[]``.
        steps_since_row: Steps behind `row_sums`.
        step: Steps done.
        images: Real images shown.
        augment_p: Present probability of the augmentation.
        path_mean: Running mean of the path lengths.
        r1: Last R1 penalty.
        seconds: Time spent in all calls.
        head_start: Real images shown to the model that the run began with; not saved, its `Start` brings it.
        rows: The curves so far.
    """

    generator: Generator
    discriminator: Discriminator
    average: Generator
    optimiser_g: torch.optim.Adam
    optimiser_d: torch.optim.Adam
    row_sums: Tensor
    sign_sum: Tensor
    steps_since_row: int = 0
    step: int = 0
    images: int = 0
    augment_p: float = 0.0
    path_mean: float = 0.0
    r1: float = 0.0
    seconds: float = 0.0
    head_start: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def new_state(config: TrainConfig, device: str = "cpu") -> State:
    """Fresh networks and optimisers.

    Lazy regularisation runs the penalty every k-th step; learning rate and betas are corrected by
    k / (k + 1) so that the average step stays the same (Karras 2020, appendix B).
    """
    torch.manual_seed(config.seed)
    generator = Generator(config.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = Discriminator(config.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).eval().requires_grad_(False)

    def adam(parameters: Iterator[torch.nn.Parameter], interval: int) -> torch.optim.Adam:
        share = interval / (interval + 1)
        betas = (config.adam_beta1**share, 0.99**share)
        return torch.optim.Adam(parameters, lr=config.learning_rate * share, betas=betas, eps=1e-8)

    lazy_g = config.path_length_interval if config.path_length_weight else 10**9
    return State(
        generator,
        discriminator,
        average,
        adam(generator.parameters(), lazy_g),
        adam(discriminator.parameters(), config.r1_interval),
        row_sums=torch.zeros(3, device=device),
        sign_sum=torch.zeros([], device=device),
    )


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Make the folder of a run and keep it for this process: two would overwrite each other's checkpoint.

    The lock goes with the process, however that ends. Windows has no such lock; there nothing is checked.

    Raises:
        AnomapError: E314 when another process trains in it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AnomapError("E314", "another process trains in this run folder") from error
        yield


def fingerprint(images: Float32) -> str:
    """SHA-256 of all training images and their shape."""
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def write_durably(content: Mapping[str, Any], path: Path) -> None:
    """`torch.save`, on the disk before it gets its name: an interrupted save leaves the old file."""
    with appearing(path, durable=True) as temporary, temporary.open("wb") as file:
        torch.save(dict(content), file)


def save_state(state: State, config: TrainConfig, data: str, path: Path) -> None:
    """Write a checkpoint; `data` is the `fingerprint` of the images."""
    content: dict[str, Any] = {name: getattr(state, name).state_dict() for name in _PARTS}
    content |= {name: getattr(state, name) for name in _COUNTERS + _SUMS}
    write_durably({**content, "format": FORMAT, "settings": config.binding(), "data": data}, path)


def load_state(state: State, config: TrainConfig, data: str, path: Path) -> None:
    """Read a checkpoint into `state`.

    Raises:
        AnomapError: E310 when the file is damaged; E311 when it was made with other settings or images.
    """
    saved = read_durable(path)
    if saved.get("format") != FORMAT:
        raise AnomapError("E311", f"{path.name} was written by another version of anomap")
    differing = [
        f"{name} was {was!r} and is {now!r}" for name, was, now in _differences(saved["settings"], config.binding())
    ]
    if differing:
        raise AnomapError("E311", f"the run in this folder has other settings: {'; '.join(differing)}")
    if saved["data"] != data:
        raise AnomapError("E311", "the run in this folder was made from other images, or with another --init")
    for name in _PARTS:
        getattr(state, name).load_state_dict(saved[name])
    for name in _COUNTERS:
        setattr(state, name, saved[name])
    for name in _SUMS:
        getattr(state, name).copy_(saved[name])


def read_durable(path: Path) -> dict[str, Any]:
    """Read what `write_durably` wrote; executes nothing.

    Raises:
        AnomapError: E310 when the file is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise AnomapError("E310", f"{path.name} can't be read") from error
    if not isinstance(content, dict):
        raise AnomapError("E310", f"{path.name} holds something else")
    return content


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(was.keys() | now.keys()):
        old, new = was.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{name}.{part}", a, b) for part, a, b in _differences(old, new))
        elif old != new:
            yield name, old, new
