"""A pool that exists in this process only, on any event loop, and fails as it is told to."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from lambdamr import retry
from lambdamr.errors import InputError
from lambdamr.testing import faults as f
from lambdamr.wire import Answer, Buffer, Ref, Stats, Task, frame_size
from lambdamr.worker import Functions, Worker


@dataclass(frozen=True, slots=True)
class Invocation:
    """What became of one task that was handed to the pool."""

    task: int
    lo: int
    hi: int
    is_merge: bool
    nth: int  # time that just these partitions were invoked
    rung: int
    worker: int  # -1: refused
    started: float
    ended: float
    fault: f.Fault | None
    end: str  # "answered", "cancelled", or the class of `lambdamr.retry`


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


class SimulatedPool:
    """One job's workers and store.

    Attributes:
        invocations: what became of each task, in the order in which they ended.
        mapped: how often each partition's mapper was called by a worker that was not dead yet.
        broken: promises of the pool's contract that the driver did not keep.
        left: keys that nobody discarded though their values reached the driver; set by `close`.
    """

    def __init__(self, settings: SimulatedExecutor) -> None:
        self._settings = settings
        self.inline = settings.inline  # bytes; larger values are stored
        self._random = random.Random(f"pool {settings.seed}")
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._closed = False
        self._evaluator = _Evaluator(self, "simulated", imports=False)
        self._last_place: _Place | None = None
        self._places: list[_Place] = []
        self._idle: list[int] = []
        self._running = 0
        self._nth: Counter[tuple[int, int]] = Counter()
        self._costs: Counter[tuple[bool, int, int]] = Counter()
        self._later: list[asyncio.TimerHandle] = []
        self._answers: dict[int, Answer] = {}  # that were lost, and can be found
        self._readers: Counter[str] = Counter()
        self._owed: set[str] = set()  # keys of values that the driver has, and should discard
        self._last_got: str | None = None  # in a job that ends well: the result
        self._discarded: set[str] = set()
        self._puts = 0
        self.store: dict[str, bytes] = {}
        self.invocations: list[Invocation] = []
        self.mapped: Counter[int] = Counter()
        self.broken: list[str] = []
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
        size = frame_size(frame)
        if size <= self._settings.inline:
            return Ref(size, data=b"".join(frame))
        self._puts += 1
        key = f"put-{self._puts}"
        self.store[key] = b"".join(frame)
        return Ref(size, key=key)

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref; one that was discarded is an error of the driver's."""
        await self._pause()
        if ref.data is not None:
            return ref.data
        assert ref.key is not None
        self._last_got = ref.key
        return self.read(ref.key)

    def discard(self, refs: Iterable[Ref]) -> None:
        """Forget these; from now on, to read one is an error."""
        for ref in refs:
            if ref.key is None:
                continue
            if self._readers[ref.key]:
                self._complain(f"{ref.key} was discarded while a task that is awaited reads it")
            if ref.key in self._discarded:
                self._complain(f"{ref.key} was discarded twice")
            self._discarded.add(ref.key)
            self.store.pop(ref.key, None)

    async def run(self, task: Task) -> Answer:
        """Evaluate a task, or do to it what the script, or chance, says."""
        if self._closed:
            self._complain(f"task {task.id} came after the pool was closed")
        nth = self._count(task)
        fault = self._fault(task, nth)
        started, end, number = self._loop.time(), "answered", -1
        keys = [ref.key for ref in _refs(task) if ref.key is not None]
        self._readers.update(keys)
        self._owed.update(keys)
        try:
            if isinstance(fault, f.Throttle) or self._is_full():
                await asyncio.sleep(self._settings.latency)
                raise retry.Throttled("simulated: too many requests")
            number = self._hire()
            try:
                answer = await self._serve(task, fault, self._places[number])
            finally:
                self._release(number)
            self._owed.update(_keys(answer))
            return answer
        except asyncio.CancelledError:
            end = "cancelled"
            raise
        except retry.TaskFailed as failure:
            end = type(failure).__name__
            raise
        finally:
            self._readers.subtract(keys)
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
                    worker=number,
                    started=started,
                    ended=self._loop.time(),
                    fault=fault,
                    end=end,
                )
            )

    async def recover(self, task: Task) -> Answer | None:
        """The answer, if it was lost after it was stored."""
        await self._pause()
        answer = self._answers.pop(task.id, None)
        if answer is not None:
            self._owed.update(_keys(answer))
        return answer

    # -- the store of the workers ----------------------------------------------------------------

    def read(self, key: str) -> Buffer:
        """The frame under a key."""
        if key in self._discarded:
            self._complain(f"{key} was read after it was discarded")
            raise AssertionError(self.broken[-1])
        return self.store[key]

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        """Keep a frame."""
        key = f"{task.id}-{lo}-{hi}"
        self.store[key] = b"".join(frame)
        return key

    # -- the rest --------------------------------------------------------------------------------

    def close(self) -> None:
        """End what is still under way, and see what is left."""
        self._closed = True
        for later in self._later:
            later.cancel()
        if self._running:
            self._complain(f"{self._running} tasks still ran when the pool was closed")
        self.left = tuple(sorted((self._owed & self.store.keys()) - {self._last_got}))

    async def _serve(self, task: Task, fault: f.Fault | None, place: _Place) -> Answer:
        """One task on one worker, from the start to the answer."""
        settings = self._settings
        is_cold, place.is_new = place.is_new, False
        before = settings.latency + is_cold * settings.cold_start
        match fault:
            case f.Break(message):
                await asyncio.sleep(before)
                raise retry.Broken(message)
            case f.Hang():
                await self._loop.create_future()
            case f.Crash(at):
                await asyncio.sleep(before + at * self._whole_time(task, place))
                place.is_new = True  # its worker is replaced
                raise retry.Lost("simulated: the worker died")
            case f.TimeOut(at):
                await asyncio.sleep(before + at * self._whole_time(task, place))
                raise retry.TimedOut("simulated: the engine's time limit")
            case f.OutOfMemory(below) if task.rung < below:
                await asyncio.sleep(before + 0.5 * self._whole_time(task, place))
                raise retry.OutOfMemory("simulated: out of memory")
        answer = self._evaluate(task, fault, place, is_cold)
        factor = fault.factor if isinstance(fault, f.Slow) else 1.0
        seconds = before + factor * answer.stats.wall / place.clock
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            how = fault.when_cancelled if isinstance(fault, f.Slow) else "stops"
            if how == "answers":
                return answer
            written = self._written(answer)
            for key in written:
                del self.store[key]
            if how == "goes on":
                self._after(seconds, lambda: self.store.update(written))
            elif how == "lingers":
                await asyncio.sleep(settings.latency * 3)
            raise
        if isinstance(fault, f.LoseAnswer):
            if fault.stored:
                self._answers[task.id] = answer
            raise retry.Lost("simulated: the answer was lost")
        if isinstance(fault, f.Twice):
            written = self._written(answer)
            self._after(fault.later, lambda: self._write_again(written))
        return answer

    def _evaluate(self, task: Task, fault: f.Fault | None, place: _Place, is_cold: bool) -> Answer:
        """The answer of the real worker, with the times of the simulated one."""
        settings = self._settings
        stop = task.hi
        if not task.items:
            stop = self._stop(task, place)
            if isinstance(fault, f.Partial):
                stop = min(stop, task.lo + max(1, fault.partitions))
        if place is not self._last_place or is_cold:  # has no values of its own that it may fold
            self._evaluator.forget(everything=True)
        self._last_place = place
        self._evaluator.raising = fault if isinstance(fault, f.Raise) else None
        answer = self._evaluator.evaluate(replace(task, hi=stop, budget=None))
        self._evaluator.forget()
        if answer.failure is not None:
            self._charge(task, answer.failure.lo, answer.failure.hi, in_user_code=True)
        if not task.items:
            self.mapped.update(range(task.lo, answer.stopped))
        storing = settings.store_latency * len(_keys(answer)) * place.clock
        wall = self._work_time(task, answer.stopped, place) * place.clock + storing
        stats = Stats(
            worker=f"simulated {place.number}",
            wall=wall,
            cpu=wall,
            storing=storing,
            bytes_in=answer.stats.bytes_in,
            bytes_out=answer.stats.bytes_out,
            cold=is_cold,
            cost=settings.price * wall,
        )
        return replace(answer, stats=stats)

    def _stop(self, task: Task, place: _Place) -> int:
        """Where the budget ends a map task: the first partition that is not mapped."""
        left = float("inf") if task.budget is None else task.budget / place.clock
        for partition in range(task.lo, task.hi):
            left -= self._settings.seconds(partition) * place.speed
            if left < 0:
                return partition + 1
        return task.hi

    def _work_time(self, task: Task, stop: int, place: _Place) -> float:
        if task.items:
            return self._settings.merge_seconds * len(task.items) * place.speed
        return sum(map(self._settings.seconds, range(task.lo, stop))) * place.speed

    def _whole_time(self, task: Task, place: _Place) -> float:
        return self._work_time(task, task.hi if task.items else self._stop(task, place), place)

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

    def _count(self, task: Task) -> int:
        self._nth[task.lo, task.hi] += 1
        return self._nth[task.lo, task.hi]

    def _is_full(self) -> bool:
        limit = self._settings.limit
        return limit is not None and self._running >= max(1, limit(self._loop.time() - self._born))

    def _hire(self) -> int:
        """The number of a worker that is idle, or new."""
        self._running += 1
        if self._idle:
            self._idle.sort()
            return self._idle.pop(0)
        spread, skew = self._settings.spread, self._settings.skew
        place = _Place(
            number=len(self._places),
            speed=spread ** self._random.uniform(-1, 1),
            clock=skew ** self._random.uniform(-1, 1),
        )
        self._places.append(place)
        return place.number

    def _release(self, number: int) -> None:
        self._running -= 1
        self._idle.append(number)

    async def _pause(self) -> None:
        if self._settings.store_latency:
            await asyncio.sleep(self._random.uniform(0, self._settings.store_latency))

    def _after(self, seconds: float, call: Callable[[], object]) -> None:
        self._later.append(self._loop.call_later(seconds, call))

    def _written(self, answer: Answer) -> dict[str, bytes]:
        return {key: self.store[key] for key in _keys(answer)}

    def _write_again(self, written: dict[str, bytes]) -> None:
        """What a second run stores: under the keys of the first, the same bytes."""
        self._owed -= written.keys() & self._discarded  # what comes back then is nobody's
        self.store.update(written)

    def _complain(self, text: str) -> None:
        self.broken.append(text)


@dataclass(slots=True)
class _Place:
    """A simulated worker: how fast it is, and how fast its clock runs."""

    number: int
    speed: float
    clock: float
    is_new: bool = True


class _Evaluator(Worker):
    """The real worker, with an exception up its sleeve."""

    raising: f.Raise | None = None

    def _load(self, task: Task, evaluation: Any) -> Functions:
        mapper, reducer = super()._load(task, evaluation)
        if self.raising is None:
            return mapper, reducer
        if task.items or self.raising.in_reducer:
            return mapper, _Raising(reducer, self.raising)
        return _Raising(mapper, self.raising), reducer


class _Raising:
    """A function, but one of its calls raises."""

    def __init__(self, function: Callable[..., Any], fault: f.Raise) -> None:
        self._function = function
        self._fault = fault
        self._calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self._calls += 1
        if self._calls == self._fault.call + 1:
            _raise(self._fault.exception)
        return self._function(*arguments)


def _raise(exception: Exception) -> NoReturn:
    raise exception.with_traceback(None)


def _refs(task: Task) -> list[Ref]:
    """What a task reads, beyond what is the same for all of them."""
    return [ref for ref in (task.chunk, *(item.ref for item in task.items)) if ref is not None]


def _keys(answer: Answer) -> list[str]:
    return [item.ref.key for item in answer.items if item.ref and item.ref.key is not None]


def _singles(lo: int, hi: int) -> list[tuple[bool, int, int]]:
    return [(False, partition, partition + 1) for partition in range(lo, hi)]


def _as_function(number: int | Callable[[float], int]) -> Callable[[float], int]:
    return number if callable(number) else lambda time: number
