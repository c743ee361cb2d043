"""The contracts of executors: what one must do, and what the core does for it.

An `Executor` holds settings. `Executor.open` gives a `Pool`, the live thing, for one job in one
event loop. A pool runs tasks and keeps values; it never retries, never sleeps and never decides:
the core does. ``docs/write-an-executor.md`` is the page for those who write one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lambdamr.wire import Answer, Buffer, Ref, Task


@runtime_checkable
class Pool(Protocol):
    """Runs tasks and keeps values, for one job. All methods are called in one event loop."""

    @property
    def capacity(self) -> int:
        """How many tasks it takes at once; at least 1. May change while the job runs."""

    @property
    def latency(self) -> float:
        """About how many seconds a task costs beyond its own work.

        The core makes tasks so large that this does not matter.
        """

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame, inline if it is small, where every worker of the job can read it."""

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref that `put` or a worker made; writable if that costs nothing.

        Raises:
            TaskFailed: it is gone, with the worker that kept it.
        """

    def discard(self, refs: Iterable[Ref]) -> None:
        """Nobody will ask for these again. Returns at once, and never fails."""

    async def run(self, task: Task) -> Answer:
        """Have one worker evaluate the task (`lambdamr.worker.Worker.evaluate`).

        Cancelling it stops the worker's work if the engine can, and frees its place in any case.

        Raises:
            TaskFailed: one of the classes in `lambdamr.retry`, by what went wrong.
        """

    async def recover(self, task: Task) -> Answer | None:
        """The answer of a task that was lost, if it is stored all the same."""


@runtime_checkable
class Executor(Protocol):
    """Settings of an engine, and the way to open a pool on it."""

    def open(self) -> AbstractAsyncContextManager[Pool]:
        """A pool for one job. Leaving it removes all that the job kept.

        Raises:
            BrokenExecutorError: the engine cannot be used; says what to do.
        """


@runtime_checkable
class Prepares(Protocol):
    """An executor that can begin to start before it is opened."""

    def prepare(self) -> None:
        """Start what takes long, if it is not started, and do not wait for it.

        Raises:
            BrokenExecutorError: it cannot be started.
        """

    def close(self) -> None:
        """End what was started. The executor cannot be used again."""
