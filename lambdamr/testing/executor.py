"""Settings of a simulated pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lambdamr.errors import InputError
from lambdamr.testing import faults as f
from lambdamr.testing.pool import SimulatedPool


class SimulatedExecutor:
    """Workers that are simulated: tasks are evaluated for real, but time and faults are made up.

    All that is random comes from ``seed``: the same call meets the same faults at the same times.
    Made for `lambdamr.testing.simulate`, whose clock is virtual; on another event loop it works
    too, and takes the time it says.

    Args:
        faults: what goes wrong, by invocation (see `lambdamr.testing.Script`).
        rates: what goes wrong at random with the other invocations.
        seed: of all random choices.
        workers: tasks that it says it takes at once: a number, or a function of the time in
            seconds since the job began.
        limit: tasks that it really takes at once, and does not say: more are refused. Likewise.
        seconds: that a partition takes: a number, or a function of its number.
        merge_seconds: that the fold of two values takes.
        latency: seconds that a task takes beyond that.
        cold_start: seconds before the first task of a worker.
        store_latency: seconds that `put`, `get` and `recover` take at most.
        spread: the slowest worker takes so many times as long as it should, the fastest as much
            less.
        skew: clocks of workers go wrong by at most this factor, either way.
        inline: values of up to so many bytes travel inline; larger ones are kept in the store.
        price: USD for a second of work.
    """

    def __init__(
        self,
        faults: f.Script | None = None,
        *,
        rates: f.Rates | None = None,
        seed: int = 0,
        workers: int | Callable[[float], int] = 4,
        limit: int | Callable[[float], int] | None = None,
        seconds: float | Callable[[int], float] = 1.0,
        merge_seconds: float = 0.01,
        latency: float = 0.01,
        cold_start: float = 0.0,
        store_latency: float = 0.0,
        spread: float = 1.0,
        skew: float = 1.0,
        inline: int = 1024,
        price: float = 0.0,
    ) -> None:
        if spread < 1 or skew < 1:
            raise InputError(f"spread and skew are factors of at least 1: {spread}, {skew}")
        self.faults = f.as_function(faults)
        self.rates = rates
        self.seed = seed
        self.workers = _as_function(workers)
        self.limit = None if limit is None else _as_function(limit)
        self.seconds = seconds if callable(seconds) else lambda partition: seconds
        self.merge_seconds = merge_seconds
        self.latency = latency
        self.cold_start = cold_start
        self.store_latency = store_latency
        self.spread = spread
        self.skew = skew
        self.inline = inline
        self.price = price
        self.watch: Callable[[SimulatedPool], object] = lambda pool: None  # is shown each pool

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SimulatedPool]:
        """A pool of its own for each job."""
        pool = SimulatedPool(self)
        self.watch(pool)
        try:
            yield pool
        finally:
            pool.close()


def _as_function(number: int | Callable[[float], int]) -> Callable[[float], int]:
    return number if callable(number) else lambda time: number
