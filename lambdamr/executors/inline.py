"""In this process, one task after the other: for debugging, and as the reference of all others.

Functions and data are pickled all the same, so that what works here works elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from lambdamr.wire import Answer, Buffer, Ref, Task, frame_size
from lambdamr.worker import Worker


class InlineExecutor:
    """Runs every task in this process and thread. It blocks the event loop while it computes."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[InlinePool]:
        """A pool with one place."""
        yield InlinePool()


class InlinePool:
    """Values stay in memory, as frames."""

    capacity = 1
    latency = 0.001

    def __init__(self) -> None:
        self._worker = Worker(None, "inline", imports=False)

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame inline."""
        return Ref(frame_size(frame), data=b"".join(frame))

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref."""
        assert ref.data is not None
        return ref.data

    def discard(self, refs: Iterable[Ref]) -> None:
        """Nothing is kept but in the refs."""

    async def run(self, task: Task) -> Answer:
        """Evaluate the task here and now."""
        return self._worker.evaluate(task)

    async def recover(self, task: Task) -> Answer | None:
        """Nothing is lost here."""
        return None
