"""What to change next time: sentences, each drawn from the numbers of one record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from lambdamr.observers import figures, scaling
from lambdamr.observers.figures import duration, megabytes, percent
from lambdamr.observers.record import Record

WORTH_SAYING = 0.1
"""Below this part of the time, the cost or the tasks, nothing is said."""

FULL = 0.9
"""A worker that used this part of its memory may not get through the next time."""


def advice(record: Record) -> list[str]:
    """All that there is to say of a job; often nothing."""
    return [text for sentence in SENTENCES if (text := sentence(record))]


def memory_is_too_large(record: Record) -> str | None:
    """A smaller rung of memory costs less, where cost goes with memory."""
    rows = [row for row in figures.finished(record) if row.cost > 0 and row.memory > 0]
    peak, given = figures.peak_memory(record), figures.given_memory(record)
    smallest = scaling.smallest_rung(peak)
    if not rows or not peak or smallest is None:
        return None
    now = scaling.cost_at(rows, given)
    candidates = [rung for rung in scaling.RUNGS if smallest <= rung < given]
    if not candidates:
        return None
    best = min(candidates, key=lambda rung: scaling.cost_at(rows, rung))
    saved = 1 - figures.share(scaling.cost_at(rows, best), now)
    if saved < WORTH_SAYING:
        return None
    time = sum(row.starting + row.wall for row in rows)
    longer = figures.share(sum(scaling.seconds_at(row, best) for row in rows), time) - 1
    return (
        f"Peak memory {megabytes(peak)} of {megabytes(given)}: the {megabytes(best)} rung would "
        f"cost {percent(saved)} less"
        + (f", and tasks would take {percent(longer)} longer." if longer > 0.01 else ".")
    )


def memory_is_almost_full(record: Record) -> str | None:
    """The next job, on a little more data, would run out of memory."""
    rows = [row for row in record.tasks if row.memory]
    row = max(rows, key=lambda row: row.peak_memory / row.memory, default=None)
    if row is None or row.peak_memory < FULL * row.memory or _out_of_memory(record):
        return None
    return (
        f"Peak memory {megabytes(row.peak_memory)} of {megabytes(row.memory)}, "
        f"{percent(row.peak_memory / row.memory)}: give workers more, or cut the data into more "
        f"partitions, before one runs out of it."
    )


def memory_ran_out(record: Record) -> str | None:
    """Tasks were done twice because the first rung was too small."""
    count = _out_of_memory(record)
    if not count:
        return None
    enough = max(
        (row.memory for row in figures.finished(record) if row.peak_memory and row.attempt > 1),
        default=0,
    )
    start = f", start at {megabytes(enough)}, which was enough" if enough else ""
    tasks = "1 task" if count == 1 else f"{count:,} tasks"
    return f"{tasks} ran out of memory: cut the data into more partitions{start}."


def _out_of_memory(record: Record) -> int:
    return sum(row.failure == "memory" for row in record.failures)


def workers_start_cold(record: Record) -> str | None:
    """A part of the bill is the start of workers."""
    part = figures.cold_share(record)
    if part < WORTH_SAYING:
        return None
    return (
        f"{percent(part)} of billed time is cold start: use fewer, larger partitions, or start "
        f"workers before the job: LambdaExecutor(warm=...)."
    )


def tasks_are_too_small(record: Record) -> str | None:
    """Tasks spend their time on the way."""
    rows = figures.finished(record, "map")
    waited = sum(figures.waiting(row) for row in rows)
    part = figures.share(waited, sum(row.ended - row.started for row in rows))
    if part < 0.3 or record.npartitions < 2 * record.capacity or waited < 1:
        return None
    return (
        f"{percent(part)} of the tasks' time passed on the way to the workers and back, "
        f"{duration(waited / len(rows))} for each: use fewer, larger partitions."
    )


def partitions_are_too_few(record: Record) -> str | None:
    """Places stay empty."""
    if record.npartitions >= record.capacity or record.seconds < 1:
        return None
    idle = record.capacity - record.npartitions
    return (
        f"{record.npartitions:,} partitions for {record.capacity:,} places: {idle:,} had nothing "
        f"to do. Use npartitions={2 * record.capacity} or more."
    )


def the_end_is_uneven(record: Record) -> str | None:
    """The last tasks keep everybody waiting."""
    seconds = figures.tail(record)
    part = figures.share(seconds, record.seconds)
    if part < 0.2 or seconds < 1 or record.npartitions < record.capacity:
        return None
    more = 4 * record.npartitions
    return (
        f"In the last {duration(seconds)} ({percent(part)} of the job) less than half of the "
        f"places were busy: cut the data into smaller partitions, say npartitions={more}."
    )


def attempts_are_wasted(record: Record) -> str | None:
    """Work was done and thrown away."""
    part = figures.wasted_share(record)
    if part < WORTH_SAYING:
        return None
    kinds = Counter(row.failure for row in record.failures)
    kinds["second copies"] += sum(
        row.end == "abandoned" and not row.failure for row in record.tasks
    )
    why = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common(3) if count)
    return f"{percent(part)} of the tasks' time went into attempts that did not count ({why})."


def the_engine_refuses(record: Record) -> str | None:
    """The limit of the account is lower than the capacity."""
    if not record.throttles or len(record.throttles) < WORTH_SAYING * len(record.tasks):
        return None
    lowest = min(row.limit for row in record.throttles)
    times = "once" if len(record.throttles) == 1 else f"{len(record.throttles):,} times"
    return (
        f"The engine refused tasks {times}, and concurrency fell to {lowest:,} of "
        f"{record.capacity:,}: ask for a higher limit, or use fewer, larger partitions."
    )


def values_are_large(record: Record) -> str | None:
    """Workers read and write instead of computing."""
    rows = figures.finished(record)
    wall = sum(row.wall for row in rows)
    part = figures.share(sum(row.storing for row in rows), wall)
    if part < 0.25 or wall < 1:
        return None
    largest = max(row.bytes_out for row in rows)
    return (
        f"{percent(part)} of the workers' time is reading and writing values of up to "
        f"{figures.size(largest)}: return less from the mapper, or use fewer partitions."
    )


def the_reducer_dominates(record: Record) -> str | None:
    """Folding takes longer than mapping, outside of map tasks."""
    merging = sum(row.wall for row in figures.finished(record, "merge"))
    part = figures.share(merging, sum(row.wall for row in figures.finished(record)))
    if part < 0.25 or merging < 1:
        return None
    return (
        f"{percent(part)} of the workers' time is the reducer, outside of map tasks: use fewer "
        f"partitions, or a reducer that changes its first argument in place."
    )


def workers_wait(record: Record) -> str | None:
    """CPUs are idle while the mapper waits for something."""
    rows = figures.finished(record, "map")
    computing = sum(figures.computing(row) for row in rows)
    part = figures.share(sum(row.cpu for row in rows), computing)
    if part > 0.5 or computing < 1 or any(row.memory and row.cost for row in rows):
        return None
    times = min(8, math.floor(1 / max(part, 0.125)))
    return (
        f"The mapper used the CPU for {percent(part)} of its time, and waited for the rest: "
        f"{times} times as many workers would do more at once."
    )


SENTENCES: tuple[Callable[[Record], str | None], ...] = (
    memory_ran_out,
    memory_is_almost_full,
    memory_is_too_large,
    workers_start_cold,
    the_engine_refuses,
    partitions_are_too_few,
    the_end_is_uneven,
    tasks_are_too_small,
    attempts_are_wasted,
    values_are_large,
    the_reducer_dominates,
    workers_wait,
)
"""Each says something of a record, or None. What costs most comes first."""
