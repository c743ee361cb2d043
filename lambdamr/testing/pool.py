"""A pool that exists in this process only, on any event loop, and fails as it is told to."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambdamr import retry
from lambdamr.testing import faults as f
from lambdamr.testing.store import SimulatedStore
from lambdamr.testing.workers import Place, Workers
from lambdamr.wire import Answer, Buffer, Ref, Task

if TYPE_CHECKING:
    from lambdamr.testing.executor import SimulatedExecutor


@dataclass(frozen=True, slots=True)
class Invocation:
    """What became of one task that was handed to the pool."""

    task: int
    lo: int
    hi: int
    is_merge: bool
    nth: int  # time that just these partitions were invoked
    rung: int
    worker: int  # from 1; 0: refused
    started: float
    ended: float
    fault: f.Fault | None
    end: str  # "answered", "cancelled", or the class of `lambdamr.retry`


class SimulatedPool:
    """One job's workers and store.

    Attributes:
        invocations: what became of each task, in the order in which they ended.
        broken: promises of the pool's contract that the driver did not keep, in words.
        left: keys of values that reached the driver, and that nobody discarded; set by `close`.
    """

    def __init__(self, settings: SimulatedExecutor) -> None:
        self._settings = settings
        self._random = random.Random(f"pool {settings.seed}")
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._store = SimulatedStore(settings.inline)
        self._workers = Workers(settings, self._store, self._random)
        self._closed = False
        self._nth: Counter[tuple[int, int]] = Counter()
        self._costs: Counter[tuple[bool, int, int]] = Counter()
        self._later: list[asyncio.TimerHandle] = []
        self._lost: dict[int, Answer] = {}  # answers that can be found
        self.invocations: list[Invocation] = []
        self.broken = self._store.broken
        self.left: tuple[str, ...] = ()

    # -- the contract of a pool ------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many tasks it says it takes at once, by now."""
        return max(1, self._settings.workers(self._loop.time() - self._born))

    @property
    def latency(self) -> float:
        """Seconds a task takes beyond its own work."""
        return self._settings.latency

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame: inline, or in the store."""
        await self._pause()
        return self._store.put(frame)

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref; one that was discarded is an error of the driver's."""
        await self._pause()
        return self._store.get(ref)

    def discard(self, refs: Iterable[Ref]) -> None:
        """Forget these; from now on, to read one is an error."""
        self._store.discard(refs)

    async def run(self, task: Task) -> Answer:
        """Evaluate a task, or do to it what the script, or chance, says."""
        if self._closed:
            self.broken.append(f"task {task.id} came after the pool was closed")
        self._nth[task.lo, task.hi] += 1
        nth = self._nth[task.lo, task.hi]
        fault, place = self._fault(task, nth), None
        started, end = self._loop.time(), "answered"
        try:
            with self._store.reading(task):
                if isinstance(fault, f.Throttle) or self._is_full():
                    await asyncio.sleep(self._settings.latency)
                    raise retry.Throttled("simulated: too many requests")
                place = self._workers.hire()
                return self._store.deliver(await self._serve(task, fault, place))
        except asyncio.CancelledError:
            end = "cancelled"
            raise
        except retry.TaskFailed as failure:
            end = type(failure).__name__
            raise
        finally:
            if place is not None:
                self._workers.release(place)
            if (end == "cancelled" or f.costs(fault)) and not isinstance(fault, f.Raise):
                self._charge(task, task.lo, task.hi)
            self.invocations.append(
                Invocation(
                    task=task.id,
                    lo=task.lo,
                    hi=task.hi,
                    is_merge=bool(task.items),
                    nth=nth,
                    rung=task.rung,
                    worker=0 if place is None else place.number,
                    started=started,
                    ended=self._loop.time(),
                    fault=fault,
                    end=end,
                )
            )

    async def recover(self, task: Task) -> Answer | None:
        """The answer, if it was lost after it was stored."""
        await self._pause()
        answer = self._lost.pop(task.id, None)
        return None if answer is None else self._store.deliver(answer)

    def close(self) -> None:
        """End what is still under way, and see what is left."""
        self._closed = True
        for later in self._later:
            later.cancel()
        if self._workers.running:
            self.broken.append(f"{self._workers.running} tasks ran when the pool was closed")
        self.left = self._store.left()

    # -- what happens to a task ------------------------------------------------------------------

    async def _serve(self, task: Task, fault: f.Fault | None, place: Place) -> Answer:
        """One task on one worker, from the start to the answer."""
        is_cold, place.is_new = place.is_new, False
        before = self._settings.latency + is_cold * self._settings.cold_start
        match fault:
            case f.Break(message):
                await asyncio.sleep(before)
                raise retry.Broken(message)
            case f.Hang():
                await self._loop.create_future()
            case f.Crash(at):
                await asyncio.sleep(before + at * self._workers.time(task, place))
                place.is_new = True  # it is replaced
                raise retry.Lost("simulated: the worker died")
            case f.TimeOut(at):
                await asyncio.sleep(before + at * self._workers.time(task, place))
                raise retry.TimedOut("simulated: the engine's time limit")
            case f.OutOfMemory(below) if task.rung < below:
                await asyncio.sleep(before + 0.5 * self._workers.time(task, place))
                raise retry.OutOfMemory("simulated: out of memory")
        answer = self._workers.evaluate(task, fault, place, is_cold)
        if answer.failure is not None:
            self._charge(task, answer.failure.lo, answer.failure.hi, in_user_code=True)
        slow = fault if isinstance(fault, f.Slow) else f.Slow(1.0)
        seconds = before + slow.factor * answer.stats.wall / place.clock
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if slow.when_cancelled == "answers":
                return answer
            written = self._store.take_back(answer)
            if slow.when_cancelled == "goes on":
                self._after(seconds, written)
            elif slow.when_cancelled == "lingers":
                await asyncio.sleep(self._settings.latency * 3)
            raise
        if isinstance(fault, f.LoseAnswer):
            if fault.stored:
                self._lost[task.id] = answer
            raise retry.Lost("simulated: the answer was lost")
        if isinstance(fault, f.Twice):
            self._after(fault.later, self._store.written(answer))
        return answer

    def _after(self, seconds: float, written: dict[str, bytes]) -> None:
        """So much later, these are written once more."""
        self._later.append(self._loop.call_later(seconds, self._store.write_again, written))

    def _fault(self, task: Task, nth: int) -> f.Fault | None:
        fault, rates = self._settings.faults(task, nth), self._settings.rates
        if fault is not None or rates is None:
            return fault
        fault = rates.draw(self._random, task)
        spans = [(True, task.lo, task.hi)] if task.items else _singles(task.lo, task.hi)
        if f.costs(fault) and max(self._costs[span] for span in spans) >= rates.most:
            return None
        return fault

    def _charge(self, task: Task, lo: int, hi: int, in_user_code: bool = False) -> None:
        """These partitions, or this merge, may have lost an attempt; tall tasks lose none."""
        if task.items:
            self._costs[True, task.lo, task.hi] += 1
        elif hi - lo == 1 or in_user_code:
            self._costs.update(_singles(lo, hi))

    def _is_full(self) -> bool:
        limit = self._settings.limit
        return limit is not None and self._workers.running >= max(
            1, limit(self._loop.time() - self._born)
        )

    async def _pause(self) -> None:
        if self._settings.store_latency:
            await asyncio.sleep(self._random.uniform(0, self._settings.store_latency))


def _singles(lo: int, hi: int) -> list[tuple[bool, int, int]]:
    return [(False, partition, partition + 1) for partition in range(lo, hi)]
