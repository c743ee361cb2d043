"""Time and cost of a task by the memory of its worker, where an engine sells CPU with memory.

AWS Lambda gives CPU in proportion to memory, one vCPU at 1,769 MB, and bills memory times seconds,
the start of a cold worker included ("Configure Lambda function memory", "Understanding the Lambda
execution environment lifecycle", AWS Lambda Developer Guide; read on 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Iterable

from lambdamr.observers.record import TaskRow

MB = 1 << 20
"""What the engine calls a MB."""

VCPU = 1769 * MB
"""Bytes of memory that come with one vCPU."""

RUNGS = tuple(MB * size for size in (128, 256, 512, 1024, 1769, 3008, 5308, 7076, 10240))
"""Bytes of memory that are worth a function of their own."""

HEADROOM = 1.25
"""A worker should have so many times the memory that was needed at most."""


def seconds_at(row: TaskRow, memory: int) -> float:
    """Seconds that a task would take, its worker's start included, with so many bytes of memory.

    What the task waited for (data, other machines) takes as long as it did; what it computed
    goes by the vCPUs, as far as it has threads to use them. What the driver folded itself has no
    memory given, and takes as long as it did.
    """
    if not row.memory:
        return row.starting + row.wall
    threads = max(1.0, row.cpu / row.wall if row.wall else 1.0)
    waited = max(0.0, row.wall - row.cpu / min(threads, row.memory / VCPU))
    return row.starting + waited + row.cpu / min(threads, memory / VCPU)


def cost_at(rows: Iterable[TaskRow], memory: int) -> float:
    """USD that the tasks would cost with so many bytes of memory, at the price that they had."""
    total = 0.0
    for row in rows:
        billed = row.memory * (row.starting + row.wall)
        if billed:
            total += row.cost * memory * seconds_at(row, memory) / billed
    return total


def smallest_rung(peak: int) -> int | None:
    """The smallest memory that holds a peak of so many bytes with `HEADROOM`; None if none does."""
    return next((rung for rung in RUNGS if rung >= HEADROOM * peak), None)
