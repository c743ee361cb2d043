"""What a job would take and cost, from a few of its partitions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from lambdamr import call, checks
from lambdamr.errors import EmptyDataError
from lambdamr.executor import Executor
from lambdamr.mapreduce import map_reduce
from lambdamr.observers import figures, scaling
from lambdamr.observers.record import Record, Recorder
from lambdamr.partition import Chunk, Partitions, as_chunk

FIRST_SAMPLE = 16
"""Partitions that are tried first."""

ENOUGH = 1.0
"""Seconds of work in a sample that are enough; of less, four times as many partitions are tried."""

LARGEST_SAMPLE = 0.25
"""Part of the partitions that are tried at most, if the first sample was less."""

_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True)
class Choice:
    """The whole job with so many workers of so much memory (bytes; 0: as it is)."""

    workers: int
    memory: int
    seconds: float
    cost: float  # USD


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole job would take.

    Attributes:
        npartitions: of the whole job.
        sampled: partitions that were run.
        seconds, cost: of the whole job on this executor as it is; cost in USD.
        error: half of the 95 % interval, relative to ``seconds`` and ``cost``: how much partitions
            differ among each other. (It does not know of a machine that gets busy, or a region
            that gets full.)
        spent: USD that the sample has cost.
        choices: other numbers of workers and, where cost goes with memory, other memories.
    """

    npartitions: int
    sampled: int
    seconds: float
    cost: float
    error: float
    spent: float
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.npartitions:,} partitions, by {self.sampled:,} of them: "
            f"{figures.duration(self.seconds)}"
            + (f", {figures.dollars(self.cost)}" if self.cost else "")
            + f" ± {figures.percent(self.error)}"
        ]
        for choice in self.choices:
            memory = f" of {figures.megabytes(choice.memory)}" if choice.memory else ""
            lines.append(
                f"  {choice.workers:>6,} workers{memory}: {figures.duration(choice.seconds)}"
                + (f", {figures.dollars(choice.cost)}" if choice.cost else "")
            )
        return "\n".join(lines)


def estimate(
    mapper: Callable[[Any], Any],
    reducer: Callable[[Any, Any], Any],
    data: Any,
    *,
    npartitions: int | None = None,
    executor: Executor | str | None = None,
    sample: int | None = None,
    **options: Any,
) -> Estimate:
    """Run a few partitions, evenly spread over the data, and say what all of them would take.

    Args:
        mapper, reducer, data, npartitions, executor: as for `lambdamr.map_reduce`.
        sample: how many partitions to run; default: 16, and four times as many as long as they
            hold less than a second of work, up to a quarter of all.
        options: the others of `lambdamr.map_reduce`.

    Raises:
        InputError, PartitionError, ...: as `lambdamr.map_reduce` does, on the sample.
    """
    call.functions(mapper, reducer)
    checks.count("sample", sample, least=2)
    chunk = as_chunk(data, npartitions)
    if chunk.npartitions == 0:
        raise EmptyDataError("estimate() of empty data")
    options = {"progress": False} | options
    size, spent = min(chunk.npartitions, sample or FIRST_SAMPLE), 0.0
    while True:
        record, seconds, opening = _try(mapper, reducer, chunk, size, executor, options)
        spent += record.cost
        largest = max(FIRST_SAMPLE, math.ceil(LARGEST_SAMPLE * chunk.npartitions))
        if sample or sum(seconds) >= ENOUGH or size >= min(largest, chunk.npartitions):
            break
        size = min(4 * size, largest, chunk.npartitions)
    return replace(_scaled(record, seconds, opening, chunk.npartitions), spent=spent)


def _try(
    mapper: Callable[[Any], Any],
    reducer: Callable[[Any, Any], Any],
    chunk: Chunk,
    size: int,
    executor: Executor | str | None,
    options: dict[str, Any],
) -> tuple[Record, list[float], float]:
    """Run so many partitions: the record, the seconds of each, and those of opening the pool."""

    # Plain functions of plain data: they travel by value, and need nothing where they arrive.
    def timed_mapper(partition: Any) -> tuple[Any, list[float]]:
        import time

        started = time.perf_counter()
        value = mapper(partition)
        return value, [time.perf_counter() - started]

    def timed_reducer(
        a: tuple[Any, list[float]], b: tuple[Any, list[float]]
    ) -> tuple[Any, list[float]]:
        return reducer(a[0], b[0]), a[1] + b[1]

    total, recorder = chunk.npartitions, Recorder()
    some = Partitions(chunk[(2 * i + 1) * total // (2 * size)] for i in range(size))
    observers = [*options.get("observers", ()), recorder]
    started = time.perf_counter()
    _, seconds = map_reduce(
        timed_mapper,
        timed_reducer,
        some,
        executor=executor,
        **options | {"observers": observers},
    )
    elapsed = time.perf_counter() - started
    (record,) = recorder.records()
    return record, seconds, max(0.0, elapsed - record.seconds)


def _scaled(record: Record, seconds: list[float], opening: float, npartitions: int) -> Estimate:
    rows = figures.finished(record)
    sampled = len(seconds)
    times = npartitions / sampled
    # A place is busy from sending a task to its answer: its work, and its way.
    busy = times * sum(row.ended - row.started - row.starting for row in rows)
    start = opening + max((row.starting for row in rows), default=0.0)
    cold = sum(row.starting for row in rows if row.cold)
    # As many as the engine lets us, if it refused some.
    workers = min(record.capacity, npartitions, *(row.limit for row in record.throttles))
    given = figures.given_memory(record)
    worked = sum(row.wall for row in rows)
    rate = figures.share(record.cost, worked + cold)  # USD for a second of a worker

    def choice(workers: int, memory: int) -> Choice:
        slower = cheaper = 1.0
        if memory and memory != given:
            now = sum(scaling.seconds_at(row, given) for row in rows)
            slower = figures.share(sum(scaling.seconds_at(row, memory) for row in rows), now)
            costs = scaling.cost_at(rows, memory), scaling.cost_at(rows, given)
            cheaper = figures.share(*costs)
        starts = cold / max(1, sum(row.cold for row in rows)) * workers
        cost = cheaper * rate * (times * worked + starts)
        return Choice(workers, memory, start + slower * busy / workers, cost)

    memories = {given}
    if given and record.cost:
        smallest = scaling.smallest_rung(figures.peak_memory(record))
        memories |= {rung for rung in scaling.RUNGS if smallest and rung >= smallest}
    widths = {max(1, min(npartitions, round(record.capacity * f))) for f in (0.25, 0.5, 1, 2, 4)}
    as_it_is = choice(workers, given)
    return Estimate(
        npartitions=npartitions,
        sampled=sampled,
        seconds=as_it_is.seconds,
        cost=as_it_is.cost,
        error=_error(seconds, npartitions),
        spent=record.cost,
        choices=tuple(choice(w, memory) for memory in sorted(memories) for w in sorted(widths)),
    )


def _error(seconds: list[float], npartitions: int) -> float:
    """Half of the 95 % interval of the mean, relative to it; of a sample without replacement.

    Student's t by its first correction to the normal distribution (Abramowitz and Stegun, Handbook
    of Mathematical Functions, 26.7.5).
    """
    sampled = len(seconds)
    if sampled < 2 or sampled == npartitions:
        return 0.0 if sampled == npartitions else math.inf
    t = _Z + (_Z**3 + _Z) / (4 * (sampled - 1))
    finite = math.sqrt((npartitions - sampled) / (npartitions - 1))
    return t * finite * figures.share(stdev(seconds) / math.sqrt(sampled), fmean(seconds))
