"""Shards measured by Ray actors, each with its models loaded once, on one machine or on a cluster.

Ray Core, not Ray Data: one image that raises would there fail the job or lose its whole block. Here an image that can't
be used is a row, a worker that dies is replaced and its shard given out again, and shards are files that appear whole,
so that a driver that was killed goes on where it was. Root, output and models must be at the same paths everywhere.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from anomap.curation.measure import Models
from anomap.curation.run import Engine
from anomap.curation.shard import Round, ShardDone, load_shard, measure_shard
from anomap.errors import AnomapError, require_extra

ATTEMPTS = 3  # a shard that ends its worker so often is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Where to compute."""

    workers: int = 1  # actors; on a GPU cluster as many as there are GPUs
    address: str | None = None  # of a running cluster, or "auto"; without it Ray is started on this machine
    gpus: float = 0.0  # of each worker; 0.5 lets two share one
    cpus: float = 1.0  # of each worker


class ShardWorker:
    """One actor: measures shards with models that stay loaded."""

    def __init__(self, task: Round) -> None:
        self.task = task
        self.models: Models | None = None

    def measure(self, number: int) -> ShardDone:
        """Read, measure and write one shard."""
        if self.models is None:  # not in the constructor: Ray takes an error there for the actor's death
            self.models = self.task.open_models()
        items = load_shard(self.task, number, self.models.infos)
        return measure_shard(self.task, number, items, self.models)


def ray_engine(options: RayOptions) -> Engine:
    """The engine for `anomap.curation.run.curate`.

    Raises:
        AnomapError: E203 without Ray.
    """
    require_extra("ray", "ray")

    def engine(task: Round, numbers: Sequence[int]) -> Iterator[ShardDone]:
        if not numbers:
            return
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the site
        started = not ray.is_initialized()
        if started:
            _start(ray, options)
        try:
            yield from _Pool(ray, task, options, numbers).outcomes()
        finally:
            if started:
                ray.shutdown()

    return engine


def _start(ray: Any, options: RayOptions) -> None:
    if options.address is not None:
        ray.init(address=options.address, log_to_driver=False)
        return
    ray.init(num_cpus=max(1, round(options.cpus * options.workers)), include_dashboard=False, log_to_driver=False)


def _room(ray: Any, options: RayOptions) -> int:
    """How many workers the cluster holds: more would wait for ever, and the shards given to them with them."""
    resources, needs = ray.cluster_resources(), {"CPU": options.cpus, "GPU": options.gpus}
    room = int(min(resources.get(name, 0.0) / need for name, need in needs.items() if need))
    if room < 1:
        raise AnomapError("E401", f"Ray has no room for a worker of {options.cpus:g} CPU and {options.gpus:g} GPU")
    return room


class _Pool:
    """Actors and what each is doing."""

    def __init__(self, ray: Any, task: Round, options: RayOptions, numbers: Sequence[int]) -> None:
        self.ray, self.task = ray, task
        self.actor = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_restarts=0)(ShardWorker)
        self.waiting = deque(numbers)
        self.died: Counter[int] = Counter()
        self.busy: dict[Any, tuple[int, Any]] = {}  # reference -> shard, actor
        for _ in range(min(_room(ray, options), options.workers, len(numbers))):
            self._give(self.actor.remote(task))

    def outcomes(self) -> Iterator[ShardDone]:
        """Shards as they are finished.

        Raises:
            AnomapError: E702 when shards were given up, after all others are done; what a worker says of the run.
        """
        given_up: list[int] = []
        while self.busy:
            (ready,), _ = self.ray.wait(list(self.busy), num_returns=1)
            number, actor = self.busy.pop(ready)
            try:
                outcome = self.ray.get(ready)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, AnomapError) else error from None
            except self.ray.exceptions.RayActorError:
                self.died[number] += 1
                if self.died[number] < ATTEMPTS:
                    self.waiting.appendleft(number)
                else:
                    given_up.append(number)
                actor = self.actor.remote(self.task)
            else:
                yield outcome
            self._give(actor)
        if given_up:
            raise AnomapError("E702", f"{len(given_up)} shards ended their worker {ATTEMPTS} times: {given_up[:5]}")

    def _give(self, actor: Any) -> None:
        """The next shard to an actor, if there is one."""
        if self.waiting:
            number = self.waiting.popleft()
            self.busy[actor.measure.remote(number)] = (number, actor)
