"""Runs a reduction on a pool: what to start next, and what to make of each answer.

One coroutine owns all state. Every attempt is an asyncio task that does nothing but wait for the
pool; when it ends, it puts itself on a queue and wakes the owner, who settles it.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lambdamr import retry
from lambdamr.errors import BrokenExecutorError, CostLimitError, PartitionError, ThrottledError
from lambdamr.executor import Pool
from lambdamr.failures import partition_error
from lambdamr.frontier import Frontier, Work
from lambdamr.pace import Pace
from lambdamr.travel.answers import describe
from lambdamr.travel.functions import encode_chunk
from lambdamr.wire import Answer, Buffer, Failure, Item, Ref, Task

if TYPE_CHECKING:
    from lambdamr.call import Call
    from lambdamr.checkpoint import Checkpoint
    from lambdamr.events import Observer, Observers

MOSTLY_DONE = 0.75
"""Stragglers are looked for when so much of the partitions is done."""

jitter_seed: ContextVar[int | None] = ContextVar("jitter_seed", default=None)
"""Of the random waits: `lambdamr.testing` sets it, so that a schedule can be repeated."""

AnyFailure: TypeAlias = Failure | retry.TaskFailed

_AT_ONCE = ("memory", "timeout")  # waiting would not help these


@dataclass(slots=True, eq=False)
class _Attempt:
    """A task that is under way."""

    number: int
    work: Work
    started: float
    task: asyncio.Task[Answer]


class Driver:
    """One job on one pool. `run` is called once.

    Args:
        call: what is to be done.
        pool: where.
        functions: the mapper and the reducer, as the pool keeps them.
        initial: the initial value, if there is one; the same.
        observers: who is told of it.
        checkpoint: what remembers the values.
    """

    def __init__(
        self,
        call: Call,
        pool: Pool,
        functions: Ref,
        initial: Ref | None = None,
        observers: Sequence[Observer] = (),
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._call = call
        self._pool = pool
        self._functions = functions
        self._initial = initial
        self._observers: Observers | None = None
        if observers:  # or no event is made: they take time to import
            from lambdamr.events import Observers

            self._observers = Observers(observers)
        self._checkpoint = checkpoint
        self._id = os.urandom(8).hex()
        self._policy = call.retry or retry.RetryPolicy()
        self._npartitions = call.chunk.npartitions
        self._frontier = Frontier(self._npartitions, call.fan_in)
        self._pace = Pace(pool.latency, call.timeout)
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(jitter_seed.get())
        self._copies: dict[Work, list[_Attempt]] = {}
        self._attempts = 0
        self._running = 0
        self._ended: deque[_Attempt] = deque()
        self._wake = asyncio.Event()
        self._refused_since: float | None = None
        self.failed: set[int] = set()  # partitions that are in no value
        self.failures: list[PartitionError] = []
        self.done = 0  # partitions in the values so far

    async def run(self) -> Buffer | None:
        """Reduce all partitions to one value: its frame, or None if all of them failed.

        Raises:
            PartitionError: a partition failed for good, and ``errors`` is "raise".
            BrokenExecutorError, ThrottledError, CostLimitError: nothing can go on.
        """
        self._tell(
            "JobStarted",
            npartitions=self._npartitions,
            fan_in=self._call.fan_in,
            executor=type(self._call.engine).__name__,
            capacity=self._pool.capacity,
            wall_time=time.time(),
        )
        error: BaseException | None = None
        try:
            return await self._reduce()
        except BaseException as caught:
            error = caught
            raise
        finally:
            await self._abandon([one for copies in self._copies.values() for one in copies])
            failed = len(self.failed)
            self._tell(
                "JobFinished", done=self.done, failed=failed, cost=self._pace.cost, error=error
            )

    async def _reduce(self) -> Buffer | None:
        frontier, initial = self._frontier, self._initial
        await self._resume()
        while (root := frontier.root) is None:
            await self._step()
        if initial is not None and root.ref is not None:
            frontier.add(Work(root.lo, root.hi, items=(root,), initial=initial))
            while frontier.root is root:
                await self._step()
            root = frontier.root or root
        return None if root.ref is None else await self._fetch(root.ref)

    async def _fetch(self, ref: Ref) -> Buffer:
        """The frame of the value; a store that stumbles is asked again."""
        attempts = 0
        while True:
            try:
                return await self._pool.get(ref)
            except retry.TaskFailed as error:
                attempts += 1
                if isinstance(error, retry.Broken) or attempts == self._policy.attempts:
                    raise BrokenExecutorError(
                        f"the value is made, but cannot be fetched: {error}"
                    ) from error
            await asyncio.sleep(self._jitter(attempts))

    async def _resume(self) -> None:
        """Take what a checkpoint has; the rest is to be mapped."""
        lo = 0
        if self._checkpoint is not None:
            async for item, frame in self._checkpoint.finished():
                self._frontier.add(Work(lo, item.lo))
                self._frontier.finish(Item(item.lo, item.hi, await self._pool.put([frame])))
                self.done += item.hi - item.lo
                lo = item.hi
        self._frontier.add(Work(lo, self._npartitions))
        if self.done:
            self._tell("Resumed", partitions=self.done)

    # -- starting --------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Start what can be started, wait until something happens, and settle it."""
        next_time = self._frontier.wake(self._loop.time())
        while self._may_start():
            largest = self._pace.largest_task(self._frontier.unmapped, self._seats())
            if (work := self._frontier.take(largest)) is None:
                break
            self._start(work)
        if self._may_start():
            next_time = min(next_time, self._copy_stragglers())
        timer = None if math.isinf(next_time) else self._loop.call_at(next_time, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer is not None:
            timer.cancel()
        while self._ended:
            await self._settle(self._ended.popleft())

    def _seats(self) -> int:
        return int(max(1, min(self._pace.limit, self._pool.capacity)))

    def _may_start(self) -> bool:
        """Whether a seat is free, and one more task is within ``max_cost``."""
        if self._running >= self._seats():
            return False
        most = self._call.max_cost
        if most is None or self._pace.cost + self._pace.cost_of_task * (self._running + 1) <= most:
            return True
        if self._running:  # is paid for already: let it finish
            return False
        raise CostLimitError(
            f"the job has cost {self._pace.cost:.6f} USD, and one more task would take it past "
            f"max_cost={most:g} USD; {self.done} of {self._npartitions} partitions are done. "
            f"Raise max_cost; with checkpoint=... a second call goes on from where this one stopped"
        )

    def _start(self, work: Work, speculative: bool = False) -> None:
        self._attempts += 1
        running = asyncio.create_task(self._attempt(self._attempts, work))
        attempt = _Attempt(self._attempts, work, self._loop.time(), running)
        running.add_done_callback(lambda _: self._end(attempt))
        self._copies.setdefault(work, []).append(attempt)
        self._running += 1
        self._event("TaskStarted", attempt, attempt=work.attempts + 1, speculative=speculative)

    def _end(self, attempt: _Attempt) -> None:
        self._ended.append(attempt)
        self._wake.set()

    async def _attempt(self, number: int, work: Work) -> Answer:
        chunk = None
        if not work.is_merge:
            chunk = await self._pool.put(encode_chunk(self._call.chunk.part(work.lo, work.hi)))
        task = Task(
            job=self._id,
            id=number,
            lo=work.lo,
            hi=work.hi,
            npartitions=self._npartitions,
            fan_in=self._call.fan_in,
            functions=self._functions,
            chunk=chunk,
            items=work.items,
            initial=work.initial,
            budget=self._pace.budget if work.hi - work.lo > 1 and not work.is_merge else None,
            rung=work.rung,
        )
        try:
            answer = await self._run(task)
        finally:
            if chunk is not None:
                self._pool.discard([chunk])
        try:
            if self._checkpoint is not None and work.initial is None:
                for item in answer.items:
                    await self._remember(self._checkpoint, item)
        except BaseException:  # cancelled, or a value is gone: this answer reaches nobody
            self._discard(answer.items)
            raise
        return answer

    async def _run(self, task: Task) -> Answer:
        allowed = self._call.timeout  # for one partition, or one fold
        if allowed is not None:
            allowed = allowed * max(1, len(task.items) - 1) + (task.budget or 0)
        try:
            async with asyncio.timeout(allowed):
                return await self._pool.run(task)
        except TimeoutError as error:
            why = "the engine says so" if allowed is None else f"no answer within {allowed:g} s"
            raise retry.TimedOut(why) from error
        except retry.Lost:
            if (answer := await self._pool.recover(task)) is not None:
                return answer
            raise

    async def _remember(self, checkpoint: Checkpoint, item: Item) -> None:
        """Keep a value in the checkpoint, unless something is missing in it."""
        if item.ref is not None and self.failed.isdisjoint(range(item.lo, item.hi)):
            await checkpoint.append(item.lo, item.hi, await self._pool.get(item.ref))

    def _copy_stragglers(self) -> float:
        """Start second copies of what takes too long; when to look again."""
        factor, soonest = self._policy.straggler_factor, math.inf
        mostly_done = self.done + len(self.failed) >= MOSTLY_DONE * self._npartitions
        if factor is None or not mostly_done or self._frontier.unmapped or not self._pace.mapped:
            return soonest
        for work, copies in list(self._copies.items()):
            due = copies[0].started + factor * self._pace.expected(work.hi - work.lo)
            if work.copied == work.attempts:  # this attempt had its copy
                continue
            if due > self._loop.time():
                soonest = min(due, soonest)
            elif self._may_start():
                work.copied = work.attempts
                self._start(work, speculative=True)
        return soonest

    # -- settling --------------------------------------------------------------------------------

    async def _settle(self, attempt: _Attempt) -> None:
        work, copies = attempt.work, self._copies.get(attempt.work, [])
        try:
            if attempt.task.cancelled():
                raise retry.Lost("the engine cancelled it")
            answer, failure = attempt.task.result(), None
            if not (answer.items or answer.failure):
                raise retry.Lost("the worker answered nothing")
        except retry.TaskFailed as error:
            answer, failure = None, error
        if attempt not in copies:  # abandoned
            self._discard(answer.items if answer else ())
            return
        copies.remove(attempt)
        self._running -= 1
        if failure is None or not copies:
            del self._copies[work]
        if answer is not None:
            try:
                await self._abandon(copies)
            finally:  # the job may be cancelled meanwhile; this answer is here all the same
                self._settle_answered(attempt, answer)
        elif isinstance(failure, retry.Broken):
            self._failed_event(attempt, work, failure, None)
            raise BrokenExecutorError(str(failure)) from failure
        elif isinstance(failure, retry.Throttled):
            self._slow_down(attempt, failure, others=bool(copies))
        elif failure is not None:
            self._settle_failed(attempt, failure, others=bool(copies))

    def _settle_answered(self, attempt: _Attempt, answer: Answer) -> None:
        work, failure = attempt.work, answer.failure
        self._refused_since = None
        self._pace.count(answer.stats, 0 if work.is_merge else answer.stopped - work.lo)
        mapped = 0
        if not work.is_merge:
            mapped = sum(item.hi - item.lo for item in answer.items)
            self._accept(work, answer)
        elif failure is None:
            self._frontier.replace(work.items, answer.items)
            self._discard(work.items)
        else:
            self._discard(answer.items)
        self.done += mapped
        self._event("TaskFinished", attempt, partitions=mapped, stats=answer.stats)
        if failure is not None:
            self._settle_user_error(attempt, failure)

    def _accept(self, work: Work, answer: Answer) -> None:
        """Keep the values of a map task; what has neither value nor failure is mapped again."""
        spans = [(item.lo, item.hi) for item in answer.items]
        if answer.failure is not None:
            spans.append((answer.failure.lo, answer.failure.hi))
        lo = work.lo
        for start, end in [*sorted(spans), (work.hi, work.hi)]:
            self._frontier.add(Work(lo, start))
            lo = end
        for item in answer.items:
            self._frontier.finish(item)

    def _settle_user_error(self, attempt: _Attempt, failure: Failure) -> None:
        """An exception in the worker: of the user's functions, or of what they need."""
        work, policy = attempt.work, self._policy
        if failure.kind == "loading":
            self._failed_event(attempt, work, failure, None)
            raise BrokenExecutorError(describe(failure))
        if not work.is_merge:
            if (failure.lo, failure.hi) != (work.lo, work.hi):
                work = Work(failure.lo, failure.hi)
            if failure.kind in ("result", "memory") and work.hi - work.lo > 1:  # whose fault is it?
                self._delay(attempt, work, self._frontier.pieces(work), failure)
                return
        again = failure.kind == "memory" or policy.retries_user_error(failure.types)
        self._try_again(attempt, work, failure, again)

    def _settle_failed(self, attempt: _Attempt, failure: retry.TaskFailed, others: bool) -> None:
        """No answer came: the pool says why."""
        work = attempt.work
        if others:
            self._failed_event(attempt, work, failure, 0.0)
        elif not work.is_merge and work.hi - work.lo > 1:
            self._delay(attempt, work, self._frontier.pieces(work), failure)
        else:
            self._try_again(attempt, work, failure, again=True)

    def _slow_down(self, attempt: _Attempt, failure: retry.Throttled, others: bool) -> None:
        """Additive increase, multiplicative decrease; costs no attempt."""
        now, work, patience = self._loop.time(), attempt.work, self._policy.patience
        if self._refused_since is None:
            self._refused_since = now
        self._pace.cut(now, attempt.started, self._running + 1)
        self._event("Throttled", attempt, limit=self._seats(), message=str(failure))
        if now - self._refused_since > patience:
            raise ThrottledError(
                f"the engine has refused every task for {patience:g} s: {failure}. Raise its "
                f"limits, or RetryPolicy(patience=...)"
            ) from failure
        if not others:
            work.throttles += 1
            wait = max(self._pool.latency, self._jitter(work.throttles))
            self._frontier.add_later(work, now + wait)

    def _try_again(self, attempt: _Attempt, work: Work, failure: AnyFailure, again: bool) -> None:
        """One attempt is spent: another, or none."""
        work.attempts += 1
        work.rung += failure.kind == "memory"
        if again and work.attempts < self._policy.attempts:
            self._delay(attempt, work, [work], failure)
        else:
            self._give_up(attempt, work, failure)

    def _delay(
        self, attempt: _Attempt, failed: Work, works: Iterable[Work], failure: AnyFailure
    ) -> None:
        delay = 0.0 if failure.kind in _AT_ONCE else self._jitter(max(1, failed.attempts))
        self._failed_event(attempt, failed, failure, delay)
        for work in works:
            self._frontier.add_later(work, self._loop.time() + delay)

    def _jitter(self, attempts: int) -> float:
        return self._random.uniform(0, self._policy.longest_delay(attempts))

    def _give_up(self, attempt: _Attempt, work: Work, failure: AnyFailure) -> None:
        """These partitions, or this fold of them, failed for good."""
        lo, hi = (failure.lo, failure.hi) if isinstance(failure, Failure) else (work.lo, work.hi)
        self._failed_event(attempt, work, failure, None)
        error = partition_error(failure, lo, hi, work.attempts, self._npartitions)
        if self._call.errors == "raise":
            raise error
        self.failures.append(error)
        if work.is_merge:  # these were done, but for those that had failed before
            self.done -= len(set(range(lo, hi)) - self.failed)
        self.failed.update(range(lo, hi))
        hole = Item(lo, hi, None)
        if work.is_merge:
            lost = [item for item in work.items if lo <= item.lo < hi]
            kept = [item for item in work.items if item not in lost]
            self._frontier.replace(work.items, [*kept, hole])
            self._discard(lost)
        else:
            self._frontier.finish(hole)

    async def _abandon(self, attempts: list[_Attempt]) -> None:
        """Await no more what another copy, or the end of the job, made needless."""
        for attempt in attempts:
            self._copies.pop(attempt.work, None)
            self._running -= 1
            attempt.task.cancel()
            self._event("TaskAbandoned", attempt)
        await asyncio.gather(*(attempt.task for attempt in attempts), return_exceptions=True)

    def _discard(self, items: Iterable[Item]) -> None:
        self._pool.discard([item.ref for item in items if item.ref is not None])

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, event: str, /, *about: object, **facts: object) -> None:
        """Of an event, by its name."""
        if self._observers is not None:
            self._observers(event, self._loop.time(), self._id, *about, **facts)

    def _event(
        self, event: str, attempt: _Attempt, part: Work | None = None, /, **facts: object
    ) -> None:
        work, kind = part or attempt.work, "merge" if attempt.work.is_merge else "map"
        self._tell(event, attempt.number, kind, work.lo, work.hi, **facts)

    def _failed_event(
        self, attempt: _Attempt, work: Work, failure: AnyFailure, delay: float | None
    ) -> None:
        said = {"message": str(failure), "traceback": describe(failure)}
        self._event("TaskFailed", attempt, work, failure=failure.kind, delay=delay, **said)
