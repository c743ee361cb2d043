"""What the charts of a report show, as columns: computed here, drawn by ``templates/report.js``."""

from __future__ import annotations

import math
from typing import Any

from lambdamr.observers import figures
from lambdamr.observers.record import Record, TaskRow

BINS = 40
"""Bars of the histogram, at most."""

SHORTEST = 1e-6
"""Seconds; a phase that is shorter is not drawn."""

MANY = 15_000
"""Of more boxes than this, those that are narrower than a pixel or two slow a browser down."""

NARROW = (1 / 500, 1 / 250, 1 / 125)
"""Parts of the job's time; where there are many boxes, a shorter phase joins the work beside it."""


def charts(record: Record) -> dict[str, Any]:
    """The data of all charts of a record."""
    times, counts = figures.concurrency(record)
    lanes, lane_of = _lanes(record)
    shortest = SHORTEST
    phases = _phases(record, shortest)
    for narrow in NARROW:
        if sum(len(phase["index"]) for phase in phases.values()) > MANY:
            shortest = max(SHORTEST, narrow * record.seconds)
            phases = _phases(record, shortest)
    return {
        "seconds": record.seconds,
        "capacity": record.capacity,
        "npartitions": record.npartitions,
        "tasks": _tasks(record, lane_of),
        "lanes": lanes,
        "phases": phases,
        "shortest": shortest,  # seconds of a phase that has a box of its own
        "tree": _tree(record),
        "concurrency": {
            "times": times,
            "counts": counts,
            "refused": [row.time for row in record.throttles],
            "limits": [row.limit for row in record.throttles],
        },
        "durations": _histogram(
            [
                (figures.seconds_of_partition(row), row.partitions)
                for row in figures.finished(record, "map")
                if row.partitions
            ]
        ),
    }


def _tasks(record: Record, lane_of: dict[int, int]) -> dict[str, list[Any]]:
    """A line about each task, for those who point at it, and where it is drawn."""
    rows = record.tasks
    return {
        "lane": [lane_of[row.task] for row in rows],
        "task": [row.task for row in rows],
        "kind": [row.kind for row in rows],
        "lo": [row.lo for row in rows],
        "hi": [_end(row) for row in rows],
        "attempt": [row.attempt for row in rows],
        "copy": [row.speculative for row in rows],
        "started": [row.started for row in rows],
        "ended": [row.ended for row in rows],
        "end": [row.failure or row.end for row in rows],
        "queued": [round(figures.waiting(row), 6) for row in rows],
        "cold start": [row.starting for row in rows],
        "fetch": [row.fetching for row in rows],
        "store": [round(row.storing - row.fetching, 6) for row in rows],
        "peak": [row.peak_memory for row in rows],
        "memory": [row.memory for row in rows],
    }


def _end(row: TaskRow) -> int:
    """Where a task stopped: a map task may answer before its end."""
    return row.lo + row.partitions if row.partitions and not row.failure else row.hi


def _lanes(record: Record) -> tuple[list[str], dict[int, int]]:
    """A lane for each worker, and as many as are needed for tasks that none answered."""
    lanes: list[str] = []
    lane_of: dict[int, int] = {}
    number_of: dict[str, int] = {}
    for row in record.tasks:
        if row.worker:
            if row.worker not in number_of:
                number_of[row.worker] = len(lanes)
                lanes.append(row.worker)
            lane_of[row.task] = number_of[row.worker]
    free_from: dict[int, float] = {}
    for row in record.tasks:
        if row.worker:
            continue
        lane = next((lane for lane, free in free_from.items() if free <= row.started), len(lanes))
        if lane == len(lanes):
            lanes.append("no answer")
        free_from[lane] = row.ended
        lane_of[row.task] = lane
    return lanes, lane_of


def _phases(record: Record, shortest: float) -> dict[str, dict[str, list[Any]]]:
    """By name of a phase: which tasks (by their index) were in it, from when, and until when."""
    phases: dict[str, dict[str, list[Any]]] = {}
    for index, row in enumerate(record.tasks):
        at = row.started
        for name, seconds in _joined(_spans(row), shortest):
            phase = phases.setdefault(name, {"index": [], "from": [], "to": []})
            phase["index"].append(index)
            phase["from"].append(round(at, 6))
            phase["to"].append(round(at + seconds, 6))
            at += seconds
    return phases


def _spans(row: TaskRow) -> list[tuple[str, float]]:
    """What a task did, in order, with seconds. What is not known lies before the work."""
    if row.end != "finished":
        return [(row.end, row.ended - row.started)]
    return [
        ("cold start" if row.cold and not row.starting else "queued", figures.waiting(row)),
        ("cold start", row.starting),
        ("fetch", row.fetching),
        (row.kind, figures.computing(row)),
        ("store", row.storing - row.fetching),
    ]


def _joined(spans: list[tuple[str, float]], shortest: float) -> list[tuple[str, float]]:
    """The phases that are long enough; the others are added to the longest."""
    longest = max(spans, key=lambda span: span[1])
    rest = sum(seconds for _, seconds in spans if seconds < shortest)
    if longest[1] < shortest:
        return [(longest[0], max(SHORTEST, rest))]
    return [
        (name, seconds + rest if (name, seconds) == longest else seconds)
        for name, seconds in spans
        if seconds >= shortest
    ]


def _tree(record: Record) -> dict[str, list[int]]:
    """Answered tasks (by their index) and how many folds lie under each."""
    order = sorted(
        (row.ended, index) for index, row in enumerate(record.tasks) if row.end == "finished"
    )
    tops: dict[int, tuple[int, int]] = {}  # first partition -> (end, level) of a value
    indexes, levels = [], []
    for _, index in order:
        row = record.tasks[index]
        level = 0
        if row.kind == "merge":
            at = row.lo
            while at < row.hi:
                end, under = tops.pop(at, (at + 1, 0))
                level = max(level, under + 1)
                at = max(at + 1, end)
        tops[row.lo] = (_end(row), level)
        indexes.append(index)
        levels.append(level)
    return {"index": indexes, "level": levels}


def _histogram(values: list[tuple[float, int]]) -> dict[str, list[float]]:
    """Of values, and how many of each: times differ by orders of magnitude, so bins grow."""
    values = [(value, number) for value, number in values if value > 0]
    if not values:
        return {"left": [], "right": [], "count": []}
    low, high = math.log10(min(values)[0]), math.log10(max(values)[0])
    low, high = (low, high) if high - low > 0.05 else (low - 0.05, high + 0.05)
    bins = max(1, min(BINS, round(4 * math.sqrt(len(values)))))
    width = (high - low) / bins
    count = [0.0] * bins
    for value, number in values:
        count[min(bins - 1, int((math.log10(value) - low) / width))] += number
    edges = [10 ** (low + i * width) for i in range(bins + 1)]
    return {"left": edges[:-1], "right": edges[1:], "count": count}
