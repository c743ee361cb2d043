"""Random schedules: a seed stands for a job, a pool, and what goes wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lambdamr import errors, frontier
from lambdamr.partition import Partitions
from lambdamr.retry import RetryPolicy
from lambdamr.testing.executor import SimulatedExecutor
from lambdamr.testing.faults import Break, Crash, Fault, Hang, OutOfMemory, Rates, Throttle, TimeOut
from lambdamr.testing.simulation import Simulation, simulate
from lambdamr.testing.workloads import Kind, Mapper, Reducer, Refused, RefusedAgain
from lambdamr.wire import Task


@dataclass(frozen=True, slots=True)
class Poison:
    """Partitions whose tasks always meet this fault, or all tasks (None)."""

    fault: Fault
    partitions: frozenset[int] | None

    def __call__(self, task: Task, nth: int) -> Fault | None:
        """What this task meets."""
        if self.partitions is None:
            return self.fault
        if task.items or self.partitions.isdisjoint(range(task.lo, task.hi)):
            return None
        return self.fault


PERMANENT: Mapping[str, tuple[Fault, type[errors.PartitionError]]] = {
    "crash": (Crash(), errors.WorkerLostError),
    "time out": (TimeOut(), errors.PartitionTimeoutError),
    "hang": (Hang(), errors.PartitionTimeoutError),
    "out of memory": (OutOfMemory(below=1000), errors.OutOfMemoryError),
}

ERRORS: Mapping[str, type[errors.PartitionError]] = {
    "mapper": errors.MapperError,
    "mapper again": errors.MapperError,
    "reducer": errors.ReducerError,
    "reducer again": errors.ReducerError,
    "result": errors.ResultError,
    **{name: error for name, (_, error) in PERMANENT.items()},
}

NO_VALUE: Mapping[str, tuple[Fault, type[errors.LambdamrError]]] = {
    "broken": (Break(), errors.BrokenExecutorError),
    "always full": (Throttle(), errors.ThrottledError),
}

TIMEOUT = 150.0
"""Seconds; more than any partition takes on any simulated worker, unless it is made slow."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a seed stands for.

    Attributes:
        ending: what happens beyond transient faults: nothing, something permanent, or the death
            of the driver.
        marked: the partitions that it happens to.
        merge_items: so many values are enough to fold them.
    """

    seed: int
    ending: str
    marked: frozenset[int]
    data: Any
    mapper: Mapper
    reducer: Reducer
    faults: Poison | None
    merge_items: int
    options: dict[str, Any]
    pool: dict[str, Any] = field(repr=False)

    def run(self, seed: int | None = None, **options: Any) -> Simulation:
        """Simulate it once, with other random numbers if another seed is given."""
        seed = self.seed if seed is None else seed
        with _eager_merges(self.merge_items):
            return simulate(
                self.mapper,
                self.reducer,
                self.data,
                seed=seed,
                executor=SimulatedExecutor(self.faults, seed=seed, **self.pool),
                **{**self.options, **options},
            )


@contextmanager
def _eager_merges(items: int) -> Iterator[None]:
    """Fold so few values at once: then small jobs, which are fast, have merges of all kinds."""
    usual = frontier.MERGE_ITEMS
    frontier.MERGE_ITEMS = items
    try:
        yield
    finally:
        frontier.MERGE_ITEMS = usual


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    lot = random.Random(f"schedule {seed}")
    npartitions = lot.choice((lot.randint(1, 6), lot.randint(3, 16), lot.randint(3, 40)))
    if lot.random() < 0.01:
        npartitions = lot.randint(40, 300)
    kind: Kind = lot.choice(("shape", "floats", "list", "block"))
    ending = _ending(lot)
    if ending in ("reducer", "reducer again", "result"):
        kind = "list"
    marked = frozenset(lot.sample(range(npartitions), min(npartitions, lot.choice((1, 1, 2, 5)))))
    exception = RefusedAgain if ending.endswith(" again") else Refused
    faults = None
    if ending in PERMANENT:
        faults = Poison(PERMANENT[ending][0], marked)
    elif ending in NO_VALUE:
        faults = Poison(NO_VALUE[ending][0], None)
    policy = RetryPolicy(
        attempts=lot.choice((1, 2, 3, 3, 5)),
        base_delay=1.0 if ending == "always full" else lot.choice((0.0, 0.1, 1.0)),
        max_delay=20.0 if ending == "always full" else lot.choice((1.0, 20.0)),
        retry_on=(ConnectionError,),
        straggler_factor=lot.choice((None, 1.0, 3.0, 3.0)),
        patience=300.0 if ending == "always full" else math.inf,
    )
    options: dict[str, Any] = {
        "fan_in": lot.choice((2, 2, 2, 3, 4, 8)),
        "retry": policy,
        "timeout": TIMEOUT,
        "errors": lot.choice(("raise", "return")),
    }
    if lot.random() < 0.15:
        options["initial"] = Mapper(kind)(1000)
    if ending == "cost":
        options["max_cost"] = 10.0 ** lot.uniform(-5, -2)
    data, npartitions_given = _data(lot, npartitions)
    return Schedule(
        seed=seed,
        ending=ending,
        marked=marked,
        data=data,
        mapper=Mapper(
            kind,
            marked if ending in ("mapper", "mapper again") else frozenset(),
            marked if ending == "result" else frozenset(),
            exception,
        ),
        reducer=Reducer(
            kind, marked if ending in ("reducer", "reducer again") else frozenset(), exception
        ),
        faults=faults,
        merge_items=lot.choice((2, 2, 3, 8, frontier.MERGE_ITEMS)),
        options=options | npartitions_given,
        pool=draw_pool(lot, policy.attempts),
    )


def _ending(lot: random.Random) -> str:
    """Most schedules end well, in spite of all."""
    at = lot.random()
    if at < 0.25:
        return lot.choice([*ERRORS])
    if at < 0.27:
        return lot.choice(("broken", "always full", "cost"))
    return "death" if at < 0.35 else "well"


def _data(lot: random.Random, npartitions: int) -> tuple[Any, dict[str, int]]:
    length = lot.randint(1, 3)
    match lot.randrange(3):
        case 0:
            return Partitions(range(npartitions)), {}
        case 1:
            return range(npartitions * length), {"npartitions": npartitions}
        case _:
            return list(range(npartitions * length)), {"npartitions": npartitions}


def draw_pool(lot: random.Random, attempts: int) -> dict[str, Any]:
    """Settings of a `SimulatedExecutor` whose faults are survived by so many attempts."""
    harshness = lot.choice((0.0, 0.1, 0.3, 0.3, 0.8))
    names = "crash lose_answer hang throttle slow partial twice out_of_memory time_out raises"
    weights = {name: lot.random() * (lot.random() < 0.6) for name in names.split()}
    total = sum(weights.values()) or 1.0
    shares: dict[str, Any] = {name: harshness * w / total for name, w in weights.items()}
    rates = Rates(**shares, most=attempts - 1, slowest=lot.choice((3.0, 20.0, 1000.0)))
    heavy, usual = lot.random() * 0.2, 10 ** lot.uniform(-3, 0)
    times = [usual * lot.uniform(0.2, 2) * (10 if lot.random() < heavy else 1) for _ in range(97)]
    return {
        "rates": rates,
        "workers": _steps(lot),
        "limit": _steps(lot) if lot.random() < 0.4 else None,
        "seconds": lambda partition: times[partition % len(times)],
        "merge_seconds": 10 ** lot.uniform(-4, -1),
        "latency": 10 ** lot.uniform(-4, -0.5),
        "cold_start": lot.choice((0.0, 0.0, 3.0)),
        "store_latency": lot.choice((0.0, 0.0, 0.01, 0.3)),
        "spread": lot.choice((1.0, 1.5, 4.0)),
        "skew": lot.choice((1.0, 1.1, 10.0)),
        "inline": lot.choice((0, 64, 1 << 20)),
        "price": 1e-4,
    }


def _steps(lot: random.Random) -> int | Callable[[float], int]:
    """A number of places, or one that changes now and then."""
    most = lot.choice((1, 2, 4, 10, 100))
    if lot.random() < 0.6:
        return most
    every = 10 ** lot.uniform(-1, 1.5)
    steps = [lot.randint(1, most) for _ in range(8)]
    return lambda time: steps[int(time / every) % len(steps)]
