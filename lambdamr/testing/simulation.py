"""`simulate`: a job on a virtual clock, against simulated workers, with its promises checked."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from lambdamr import events
from lambdamr.driver import jitter_seed
from lambdamr.errors import InputError
from lambdamr.mapreduce import amap_reduce
from lambdamr.retry import RetryPolicy
from lambdamr.testing import clock
from lambdamr.testing.executor import SimulatedExecutor
from lambdamr.testing.faults import Rates, Script
from lambdamr.testing.ledger import Ledger
from lambdamr.testing.pool import Invocation, SimulatedPool


class PromiseError(AssertionError):
    """lambdamr broke a promise of its own: please report it, with the call that shows it."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What became of a job.

    Attributes:
        result: what `lambdamr.map_reduce` would have returned; None after an error.
        error: what it would have raised; None if it ended well.
        events: what an observer would have seen.
        invocations: what became of each task, in the order in which they were handed over.
        seconds: of virtual time.
        left: keys of values that were neither discarded before the end, nor the result.
    """

    result: Any
    error: BaseException | None
    events: tuple[events.Event, ...]
    invocations: tuple[Invocation, ...]
    seconds: float
    left: tuple[str, ...]

    @property
    def value(self) -> Any:
        """The result; raises the error, if that is how the job ended."""
        if self.error is not None:
            raise self.error
        return self.result


def simulate(
    mapper: Callable[[Any], Any],
    reducer: Callable[[Any, Any], Any],
    data: Any,
    *,
    faults: Script | None = None,
    rates: Rates | None = None,
    seed: int = 0,
    executor: SimulatedExecutor | None = None,
    cancel_after: float | None = None,
    most_seconds: float = clock.MOST_SECONDS,
    **options: Any,
) -> Simulation:
    """Run a job against simulated workers, without waiting: hours of faults take milliseconds.

    The mapper and the reducer are pickled, and called for real, in this process. The same call
    gives the same schedule each time. Whatever goes wrong, the promises that lambdamr makes are
    checked: of its events, its limits, its attempts, and what it asks of a pool.

    Args:
        mapper: as for `lambdamr.map_reduce`.
        reducer: likewise.
        data: likewise.
        faults: what goes wrong, by invocation (see `lambdamr.testing.Script`).
        rates: what goes wrong at random with the other invocations.
        seed: of all that is random: what goes wrong, and the waits between attempts.
        executor: more to set; the faults are then its own.
        cancel_after: virtual seconds after which the driver is cancelled, as by Ctrl-C.
        most_seconds: virtual seconds after which the job is called endless.
        options: the others of `lambdamr.map_reduce`.

    Raises:
        DeadlockError: the job waits for what can never happen, such as a task that hangs while
            there is no ``timeout``.
        EndlessError: the job does not end.
        PromiseError: lambdamr is broken.
    """
    if executor is None:
        executor = SimulatedExecutor(faults, rates=rates, seed=seed)
    elif faults is not None or rates is not None:
        raise InputError("pass the faults to the executor: SimulatedExecutor(faults, ...)")
    pools: list[SimulatedPool] = []  # one; none, if the call was wrong, or there is nothing to do
    executor = copy.copy(executor)
    executor.watch = pools.append
    ledger = Ledger(
        attempts=(options.get("retry") or RetryPolicy()).attempts,
        capacity=lambda: pools[0].capacity,
    )
    options["observers"] = [ledger, *options.get("observers", ())]
    options.setdefault("progress", False)
    job = amap_reduce(mapper, reducer, data, executor=executor, **options)
    result, error, seconds = clock.run(_end(job, cancel_after, seed), most_seconds=most_seconds)
    broken = ledger.broken + [text for pool in pools for text in pool.broken]
    if broken:
        raise PromiseError("\n".join(broken)) from error
    invocations = [invocation for pool in pools for invocation in pool.invocations]
    return Simulation(
        result=result,
        error=error,
        events=tuple(ledger.events),
        invocations=tuple(sorted(invocations, key=lambda invocation: invocation.task)),
        seconds=seconds,
        left=tuple(key for pool in pools for key in pool.left),
    )


async def _end(
    job: Coroutine[Any, Any, Any], cancel_after: float | None, seed: int
) -> tuple[Any, BaseException | None, float]:
    """Result, error and seconds of a job."""
    jitter_seed.set(seed)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(job)
    if cancel_after is not None:
        loop.call_later(cancel_after, running.cancel)
    try:
        return await running, None, loop.time()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # for who asked
        return None, error, loop.time()
