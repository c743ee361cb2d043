"""Random schedules: a seed stands for a job, a pool, what goes wrong, and what must come of it."""

from __future__ import annotations

import functools
import math
import os
import pickle
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lambdamr import errors, events, frontier
from lambdamr.outcome import Outcome
from lambdamr.partition import Partitions
from lambdamr.retry import RetryPolicy
from lambdamr.testing.faults import Break, Crash, Fault, Hang, OutOfMemory, Rates, Throttle, TimeOut
from lambdamr.testing.pool import SimulatedExecutor
from lambdamr.testing.simulation import Simulation, simulate
from lambdamr.wire import Task

_Lot = random.Random


class ScheduleError(AssertionError):
    """A job did not end as it must; the message is a line that repeats it."""


# -- what is computed ------------------------------------------------------------------------------


class Refused(Exception):
    """What mappers and reducers raise."""


class RefusedAgain(Refused, ConnectionError):
    """The same, but of a kind that policies try again; in vain."""


class Block:
    """Bytes that travel out of band, as arrays do, and are folded in place."""

    def __init__(self, data: Any) -> None:
        self.data = bytearray(data)  # a view of them, in a cycle, may crash the collector of 3.11

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # it changes


Kind = Literal["shape", "floats", "list", "block"]


@dataclass(frozen=True, slots=True)
class Mapper:
    """The value of a partition; ``refused`` ones raise, ``stuck`` ones cannot be sent."""

    kind: Kind
    refused: frozenset[int] = frozenset()
    stuck: frozenset[int] = frozenset()
    exception: type[Refused] = Refused

    def __call__(self, partition: Any) -> Any:
        """The value."""
        number = partition if isinstance(partition, int) else partition[0] // len(partition)
        if number in self.refused:
            raise self.exception(number)
        if number in self.stuck:
            return [threading.Lock()]
        match self.kind:
            case "shape":
                return str(number)
            case "floats":
                large = (-1.0) ** (number // 2) * 2.0 ** (50 - number * 3 % 5)  # most cancel out
                return large + math.sin(number + 1) * 2.0 ** (number * 5 % 11)
            case "list":
                return [number]
            case "block":
                return Block(bytearray(range(number % 200, number % 200 + 32)))


@dataclass(frozen=True, slots=True)
class Reducer:
    """Folds two values, most kinds in place; no kind is commutative, most are not associative."""

    kind: Kind
    refused: frozenset[int] = frozenset()  # partitions, as the first of the second operand
    exception: type[Refused] = Refused

    def __call__(self, left: Any, right: Any) -> Any:
        """One value of two."""
        match self.kind:
            case "shape":
                return f"({left} {right})"
            case "floats":
                return left + right
            case "list":
                if right[0] in self.refused:
                    raise self.exception(right[0])
                left.extend(right)
                return left
            case "block":
                for i, byte in enumerate(right.data):
                    left.data[i] = (left.data[i] * 31 + byte) % 256
                return left


_EMPTY = object()


def reference(
    values: list[Any], fan_in: int, reducer: Callable[[Any, Any], Any]
) -> tuple[list[Any], list[tuple[int, int]]]:
    """The value of the tree, as a list of one or none, and the ranges that the reducer refused.

    Written for clarity, level by level, and with nothing of lambdamr. Missing values are _EMPTY.
    """
    refused: list[tuple[int, int]] = []

    def fold(left: tuple[int, int, Any], right: tuple[int, int, Any]) -> tuple[int, int, Any]:
        lo, hi = left[0], right[1]
        if left[2] is _EMPTY or right[2] is _EMPTY:
            return lo, hi, right[2] if left[2] is _EMPTY else left[2]
        try:
            return lo, hi, reducer(left[2], right[2])
        except Refused:
            refused.append((lo, hi))
            return lo, hi, _EMPTY

    level = [(i, i + 1, value) for i, value in enumerate(values)]
    while len(level) > 1:
        level = [
            functools.reduce(fold, level[i : i + fan_in]) for i in range(0, len(level), fan_in)
        ]
    return [value for _, _, value in level if value is not _EMPTY], refused


# -- what goes wrong -------------------------------------------------------------------------------


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


_PERMANENT: Mapping[str, tuple[Fault, type[errors.PartitionError]]] = {
    "crash": (Crash(), errors.WorkerLostError),
    "time out": (TimeOut(), errors.PartitionTimeoutError),
    "hang": (Hang(), errors.PartitionTimeoutError),
    "out of memory": (OutOfMemory(below=1000), errors.OutOfMemoryError),
}

_ERRORS: Mapping[str, type[errors.PartitionError]] = {
    "mapper": errors.MapperError,
    "mapper again": errors.MapperError,
    "reducer": errors.ReducerError,
    "reducer again": errors.ReducerError,
    "result": errors.ResultError,
    **{name: error for name, (_, error) in _PERMANENT.items()},
}

_NO_VALUE: Mapping[str, tuple[Fault, type[errors.LambdamrError]]] = {
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
    if ending in _PERMANENT:
        faults = Poison(_PERMANENT[ending][0], marked)
    elif ending in _NO_VALUE:
        faults = Poison(_NO_VALUE[ending][0], None)
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
        pool=_pool(lot, policy.attempts),
    )


def _ending(lot: _Lot) -> str:
    """Most schedules end well, in spite of all."""
    at = lot.random()
    if at < 0.25:
        return lot.choice([*_ERRORS])
    if at < 0.27:
        return lot.choice(("broken", "always full", "cost"))
    return "death" if at < 0.35 else "well"


def _data(lot: _Lot, npartitions: int) -> tuple[Any, dict[str, int]]:
    length = lot.randint(1, 3)
    match lot.randrange(3):
        case 0:
            return Partitions(range(npartitions)), {}
        case 1:
            return range(npartitions * length), {"npartitions": npartitions}
        case _:
            return list(range(npartitions * length)), {"npartitions": npartitions}


def _pool(lot: _Lot, attempts: int) -> dict[str, Any]:
    """Settings of a `SimulatedExecutor`."""
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


def _steps(lot: _Lot) -> int | Callable[[float], int]:
    """A number of places, or one that changes now and then."""
    most = lot.choice((1, 2, 4, 10, 100))
    if lot.random() < 0.6:
        return most
    every = 10 ** lot.uniform(-1, 1.5)
    steps = [lot.randint(1, most) for _ in range(8)]
    return lambda time: steps[int(time / every) % len(steps)]


# -- what must come of it --------------------------------------------------------------------------


def check(seed: int) -> Schedule:
    """Run the schedule of a seed.

    Raises:
        ScheduleError: it did not end as it must.
    """
    schedule = draw(seed)
    try:
        if schedule.ending == "death":
            _check_death(schedule)
        else:
            simulation = schedule.run()
            _check_end(schedule, simulation)
    except Exception as error:
        raise ScheduleError(
            f"python -m lambdamr.testing --start {seed} --seeds 1  "
            f"# {type(error).__name__}: {error}\n{schedule}"
        ) from error
    return schedule


def _check_death(schedule: Schedule) -> None:
    """The driver dies again and again, at any moment; then it is left alone."""
    lot = random.Random(f"death {schedule.seed}")
    longest = replace(schedule, options=schedule.options | {"checkpoint": None}).run().seconds
    with tempfile.TemporaryDirectory(prefix="lambdamr-schedule-") as folder:
        path = Path(folder, "checkpoint")
        finished = 0
        for life in range(lot.randint(1, 3)):
            simulation = schedule.run(
                seed=schedule.seed + life,
                checkpoint=path,
                cancel_after=lot.uniform(0, 1.1) * longest,
            )
            finished = max(finished, _finished(simulation))
            if lot.random() < 0.3:
                finished = 0
                os.truncate(path, max(0, path.stat().st_size - lot.randint(1, 200)))
        simulation = schedule.run(seed=schedule.seed + 1000, checkpoint=path)
        _check_end(schedule, simulation)
    resumed = sum(e.partitions for e in simulation.events if isinstance(e, events.Resumed))
    _must(resumed >= finished, f"{finished} partitions were finished, {resumed} are resumed")
    again = {
        partition
        for invocation in simulation.invocations
        if not invocation.is_merge
        for partition in range(invocation.lo, invocation.hi)
    }
    npartitions = _npartitions(schedule)
    _must(len(again) == npartitions - resumed, f"{resumed} resumed, but {sorted(again)} mapped")


def _finished(simulation: Simulation) -> int:
    counts = (events.TaskFinished, events.Resumed)
    return sum(event.partitions for event in simulation.events if isinstance(event, counts))


def _npartitions(schedule: Schedule) -> int:
    return int(schedule.options.get("npartitions") or len(schedule.data))


def _check_end(schedule: Schedule, simulation: Simulation) -> None:
    ending, error = schedule.ending, simulation.error
    if ending in _NO_VALUE:
        _must(type(error) is _NO_VALUE[ending][1], f"ended with {error!r}")
        return
    if ending == "cost" and isinstance(error, errors.CostLimitError):
        return
    marked: frozenset[int] = frozenset()
    if ending in _ERRORS and not ending.startswith("reducer"):
        marked = schedule.marked
    values = [
        _EMPTY if partition in marked else Mapper(schedule.mapper.kind)(partition)
        for partition in range(_npartitions(schedule))
    ]
    expected, refused = reference(values, schedule.options["fan_in"], schedule.reducer)
    if "initial" in schedule.options:
        initial = schedule.options["initial"]
        try:
            expected = (
                [schedule.reducer(Mapper(schedule.mapper.kind)(1000), *expected)]
                if expected
                else []
            )
        except Refused:
            refused.append((0, len(values)))
            expected = []
        expected = expected or [initial]
    failed = marked.union(*(range(lo, hi) for lo, hi in refused))
    if failed and schedule.options["errors"] == "raise":
        _check_error(schedule, error, refused)
        return
    if error is not None:
        raise error
    _must(not simulation.left, f"values are left behind: {simulation.left}")
    if schedule.options["errors"] == "raise":
        _must(_same(simulation.result, expected[0]), f"{simulation.result} is not {expected[0]}")
        return
    outcome: Outcome[Any] = simulation.result
    _must(outcome.failed == tuple(sorted(failed)), f"failed {outcome.failed}, not {failed}")
    _must(bool(outcome._values) == bool(expected), f"{outcome._values} is not {expected}")
    if expected:
        _must(_same(outcome.value, expected[0]), f"{outcome.value} is not {expected[0]}")
    for failure in outcome.failures:
        _check_error(schedule, failure, refused)


def _check_error(
    schedule: Schedule, error: BaseException | None, refused: list[tuple[int, int]]
) -> None:
    """Whether this error is one that the schedule had to end with."""
    expected, attempts = _ERRORS[schedule.ending], schedule.options["retry"].attempts
    if error is None or type(error) is not expected:
        raise ScheduleError(f"ended with {error!r}, not {expected.__name__}") from error
    assert isinstance(error, errors.PartitionError)
    span = (error.lo, error.hi)
    if schedule.ending.startswith("reducer"):
        _must(span in refused, f"the reducer refused {refused}, not {span}")
    else:
        _must(error.lo in schedule.marked and error.hi == error.lo + 1, f"{span} did not fail")
    if schedule.ending in _PERMANENT or schedule.ending.endswith(" again"):
        _must(error.attempts == attempts, f"{error.attempts} attempts, not {attempts}")
    else:
        _must(1 <= error.attempts <= attempts, f"{error.attempts} attempts of {attempts}")


def _same(value: Any, expected: Any) -> bool:
    if isinstance(value, float):
        return value.hex() == float(expected).hex()
    return bool(value == expected) and type(value) is type(expected)


def _must(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ScheduleError(otherwise)
