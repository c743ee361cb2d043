"""Numbers drawn from the record of a job, and how they are written for people."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from statistics import median

from lambdamr.observers.record import Record, TaskRow
from lambdamr.observers.scaling import MB


def finished(record: Record, kind: str | None = None) -> list[TaskRow]:
    """The tasks whose answers counted."""
    return [row for row in record.tasks if row.end == "finished" and kind in (None, row.kind)]


def computing(row: TaskRow) -> float:
    """Seconds of a task in the user's functions, and in pickling."""
    return max(0.0, row.wall - row.storing)


def waiting(row: TaskRow) -> float:
    """Seconds between sending and answer in which the worker neither started nor worked."""
    return max(0.0, row.ended - row.started - row.starting - row.wall)


def seconds_of_partition(row: TaskRow) -> float:
    """Seconds of a partition, on average over a map task."""
    return computing(row) / max(1, row.partitions)


def usual_seconds(record: Record) -> float:
    """The median over map tasks of the seconds of a partition; 0 if none is done."""
    rows = [row for row in finished(record, "map") if row.partitions]
    return median([seconds_of_partition(row) for row in rows]) if rows else 0.0


def share(part: float, whole: float) -> float:
    """A part of a whole, from 0 to 1; 0 of nothing."""
    return part / whole if whole > 0 else 0.0


def cold_share(record: Record) -> float:
    """The part of the workers' time (as it is billed) in which they started."""
    rows = finished(record)
    started = sum(row.starting for row in rows)
    return share(started, started + sum(row.wall for row in rows))


def wasted_share(record: Record) -> float:
    """The part of the seconds of all tasks that went into tasks without an answer that counts."""
    useless = [row for row in record.tasks if row.end in ("failed", "abandoned")]
    whole = sum(row.ended - row.started for row in record.tasks)
    return share(sum(row.ended - row.started for row in useless), whole)


def peak_memory(record: Record) -> int:
    """The most bytes that a worker used."""
    return max((row.peak_memory for row in record.tasks), default=0)


def given_memory(record: Record) -> int:
    """The most bytes that a worker was given; 0 if that is not known."""
    return max((row.memory for row in record.tasks), default=0)


def concurrency(record: Record) -> tuple[list[float], list[int]]:
    """How many tasks ran from each moment on: seconds, and counts."""
    changes: dict[float, int] = {0.0: 0}
    for row in record.tasks:
        changes[row.started] = changes.get(row.started, 0) + 1
        changes[row.ended] = changes.get(row.ended, 0) - 1
    times, counts, running = [], [], 0
    for time in sorted(changes):
        running += changes[time]
        times.append(time)
        counts.append(running)
    return times, counts


def tail(record: Record) -> float:
    """Seconds at the end in which less than half as many tasks ran as at the most."""
    times, counts = concurrency(record)
    most = max(counts)
    last = max((i for i, count in enumerate(counts) if 2 * count >= most), default=0)
    return max(0.0, times[-1] - times[min(last + 1, len(times) - 1)])


def stragglers(record: Record, most: int = 10) -> list[tuple[TaskRow, float]]:
    """Map tasks whose partitions took at least twice the usual time, the slowest first."""
    usual = usual_seconds(record)
    slow = [
        (row, seconds_of_partition(row) / usual)
        for row in finished(record, "map")
        if usual and row.partitions and seconds_of_partition(row) >= 2 * usual
    ]
    return sorted(slow, key=lambda pair: -pair[1])[:most]


PARTS = ("cold start", "fetch", "map", "merge", "store")


def cost_by_part(record: Record) -> dict[str, float]:
    """USD by what the workers did, of the tasks that told their cost; the rest is "other"."""
    parts = dict.fromkeys(PARTS, 0.0)
    for row in finished(record):
        rate = share(row.cost, row.starting + row.wall)
        parts["cold start"] += rate * row.starting
        parts["fetch"] += rate * row.fetching
        parts["map" if row.kind == "map" else "merge"] += rate * computing(row)
        parts["store"] += rate * (row.storing - row.fetching)
    parts["other"] = max(0.0, record.cost - sum(parts.values()))
    return {name: cost for name, cost in parts.items() if cost > 1e-6 * record.cost}


# -- for people ----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Such as 12 ms, 3.4 s, 2 min 5 s, 1 h 3 min."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(nbytes: float) -> str:
    """Such as 512 B, 3.4 MB; powers of 1,024."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1023.5:
            return f"{nbytes:.3g} {unit}" if nbytes < 999.5 else f"{nbytes:,.0f} {unit}"
        nbytes /= 1024
    return f"{nbytes:,.1f} TB"


def megabytes(nbytes: float) -> str:
    """Such as 1,769 MB."""
    return f"{nbytes / MB:,.0f} MB"


def percent(part: float) -> str:
    """Such as 41 %."""
    return f"{100 * part:.0f} %"


def dollars(usd: float) -> str:
    """Such as 0.0123 USD: three digits that count."""
    return f"{usd:,.2f} USD" if usd >= 100 else f"{usd:.3g} USD"


def moment(seconds: float) -> str:
    """A time since 1970 as a date, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def state(record: Record) -> str:
    """How a job ended, in a word or two."""
    if record.error:
        return "failed"
    return "partial" if record.failed else "succeeded"


Figure = tuple[str, Callable[[Record], float], Callable[[float], str]]

FIGURES: tuple[Figure, ...] = (
    ("time", lambda r: r.seconds, duration),
    ("partitions", lambda r: r.npartitions, "{:,.0f}".format),
    ("done", lambda r: r.done, "{:,.0f}".format),
    ("failed for good", lambda r: r.failed, "{:,.0f}".format),
    ("from a checkpoint", lambda r: r.resumed, "{:,.0f}".format),
    ("partitions a second", lambda r: share(r.done - r.resumed, r.seconds), "{:,.4g}".format),
    ("median partition", usual_seconds, duration),
    ("tasks", lambda r: len(r.tasks), "{:,.0f}".format),
    ("at once, at most", lambda r: max(concurrency(r)[1]), "{:,.0f}".format),
    ("failed attempts", lambda r: len(r.failures), "{:,.0f}".format),
    ("refused by the engine", lambda r: len(r.throttles), "{:,.0f}".format),
    ("second copies", lambda r: sum(row.speculative for row in r.tasks), "{:,.0f}".format),
    ("workers", lambda r: len({row.worker for row in finished(r)}), "{:,.0f}".format),
    ("cold starts", lambda r: sum(row.cold for row in finished(r)), "{:,.0f}".format),
    ("workers' time", lambda r: sum(row.starting + row.wall for row in r.tasks), duration),
    ("of it CPU", lambda r: sum(row.cpu for row in r.tasks), duration),
    ("read by workers", lambda r: sum(row.bytes_in for row in r.tasks), size),
    ("left by workers", lambda r: sum(row.bytes_out for row in r.tasks), size),
    ("peak memory", peak_memory, megabytes),
    ("memory given", given_memory, megabytes),
    ("cost", lambda r: r.cost, dollars),
)
"""What a summary lists: a name, the number of a record, and how to write it."""
