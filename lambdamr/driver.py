"""Runs a reduction on a pool: what to start next, and what to make of each answer.

One coroutine owns all state. Every attempt is an asyncio task that does nothing but wait for the
pool; when it ends, it puts itself on a queue and wakes the owner, who settles it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lambdamr import events, retry
from lambdamr.checkpoint import Checkpoint
from lambdamr.errors import BrokenExecutorError, CostLimitError, PartitionError, ThrottledError
from lambdamr.executor import Pool
from lambdamr.failures import describe, partition_error
from lambdamr.frontier import Frontier, Work
from lambdamr.partition import Chunk
from lambdamr.wire import Answer, Buffer, Failure, Item, Ref, Stats, Task

BUDGET_LATENCIES = 250
"""A task answers after so many latencies of its pool, at the next partition: overhead < 0.5 %."""

BUDGET_STORINGS = 20
"""... and not before so many times what it takes to store its values."""

MOSTLY_DONE = 0.75
"""Stragglers are looked for when so much of the partitions is done."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that is known of a job before it starts."""

    id: str
    chunk: Chunk
    fan_in: int
    functions: Ref
    functions_id: str
    encode: Callable[[Chunk], list[Buffer]]
    initial: Ref | None = None
    policy: retry.RetryPolicy = field(default_factory=retry.RetryPolicy)
    timeout: float | None = None
    errors: Literal["raise", "return"] = "raise"
    max_cost: float | None = None
    seed: int | None = None

    @property
    def npartitions(self) -> int:
        return self.chunk.npartitions


@dataclass(slots=True, eq=False)
class _Attempt:
    """A task that is under way."""

    number: int
    work: Work
    started: float
    speculative: bool
    task: asyncio.Task[Answer] | None = None


class Driver:
    """One job on one pool. `run` is called once."""

    def __init__(
        self,
        job: Job,
        pool: Pool,
        observers: Callable[[events.Event], None],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._job = job
        self._pool = pool
        self._tell = observers
        self._checkpoint = checkpoint
        self._frontier = Frontier(job.npartitions, job.fan_in)
        self._copies: dict[Work, list[_Attempt]] = {}
        self._ended: deque[_Attempt] = deque()
        self._wake = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._random = random.Random(job.seed)
        self._attempts = 0
        self._running = 0
        self._limit = float("inf")  # of concurrency, by what the engine lets us
        self._last_cut = -math.inf
        self._throttled_since: float | None = None
        self._wall = self._storing = 0.0  # seconds of all map tasks so far
        self._tasks_answered = self._mapped = 0
        self.failures: list[PartitionError] = []
        self.cost = 0.0
        self.done = 0

    async def run(self) -> Item:
        """Reduce all partitions to one item, whose ref is None if all of them failed.

        Raises:
            PartitionError: a partition failed for good, and the job's ``errors`` is "raise".
            BrokenExecutorError, ThrottledError, CostLimitError: nothing can go on.
        """
        frontier = self._frontier
        await self._resume()
        try:
            while frontier.root is None:
                await self._step()
            root = frontier.root
            if self._job.initial is not None and root.ref is not None:
                work = Work(root.lo, root.hi, items=(root,), initial=self._job.initial)
                frontier.add(work)
                while frontier.root is root:
                    await self._step()
                root = frontier.root
            return root
        finally:
            await self._abandon(
                [attempt for copies in self._copies.values() for attempt in copies]
            )

    async def _resume(self) -> None:
        """Take what a checkpoint has; the rest is to be mapped."""
        lo = 0
        for item, frame in self._checkpoint.finished() if self._checkpoint else ():
            self._frontier.add(Work(lo, item.lo))
            self._frontier.finish(Item(item.lo, item.hi, await self._pool.put([frame])))
            self.done += item.hi - item.lo
            lo = item.hi
        self._frontier.add(Work(lo, self._job.npartitions))
        if self.done:
            self._tell(events.Resumed(self._clock(), self._job.id, self.done))

    # -- starting --------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Start what can be started, wait until something happens, and settle it."""
        now = self._clock()
        next_time = self._frontier.wake(now)
        while self._may_start() and (work := self._frontier.take(self._most())):
            self._start(work)
        if self._may_start():
            next_time = min(next_time, self._copy_stragglers(now))
        timer = None
        if next_time < math.inf:
            timer = asyncio.get_running_loop().call_at(next_time, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer is not None:
            timer.cancel()
        while self._ended:
            await self._settle(self._ended.popleft())

    def _may_start(self) -> bool:
        """Whether a seat is free, and one more task is within ``max_cost``."""
        if self._free_seats() <= 0:
            return False
        most, per_task = self._job.max_cost, self.cost / max(1, self._tasks_answered)
        if most is None or self.cost + per_task * (self._running + 1) <= most:
            return True
        if self._running:  # is paid for already: let it finish
            return False
        raise CostLimitError(
            f"the job has cost {self.cost:.6f} USD, and one more task would take it past "
            f"max_cost={most:g} USD; {self.done} of {self._job.npartitions} partitions are done. "
            f"Raise max_cost; with checkpoint=... a second call goes on from where this one stopped"
        )

    def _free_seats(self) -> int:
        return int(max(1, min(self._limit, self._pool.capacity))) - self._running

    def _most(self) -> int:
        """How many partitions the next task may have: few tasks, but balanced ones."""
        unmapped, free = self._frontier.unmapped, self._free_seats()
        if not self._mapped:  # nothing is known: all to those who are free, within the budget
            return max(1, math.ceil(unmapped / free))
        share = math.ceil(unmapped / (2 * (free + self._running)))
        return max(1, min(share, int(self._budget() / self._mean())))

    def _mean(self) -> float:
        """Seconds a partition took so far."""
        return max(1e-7, (self._wall - self._storing) / max(1, self._mapped))

    def _budget(self) -> float:
        """Seconds after which a task should answer."""
        storing = self._storing / max(1, self._tasks_answered)
        budget = max(BUDGET_LATENCIES * self._pool.latency, BUDGET_STORINGS * storing)
        return min(budget, self._job.timeout or math.inf)

    def _start(self, work: Work, speculative: bool = False) -> None:
        job = self._job
        self._attempts += 1
        attempt = _Attempt(self._attempts, work, self._clock(), speculative)
        attempt.task = asyncio.create_task(self._attempt(attempt))
        attempt.task.add_done_callback(lambda _: self._end(attempt))
        self._copies.setdefault(work, []).append(attempt)
        self._running += 1
        self._tell(
            events.TaskStarted(
                time=attempt.started,
                job=job.id,
                task=attempt.number,
                kind=_kind(work),
                lo=work.lo,
                hi=work.hi,
                attempt=work.attempts + 1,
                speculative=speculative,
            )
        )

    async def _attempt(self, attempt: _Attempt) -> Answer:
        job, work = self._job, attempt.work
        single = work.hi - work.lo == 1
        chunk = None
        if not work.is_merge:
            chunk = await self._pool.put(job.encode(job.chunk.part(work.lo, work.hi)))
        task = Task(
            job=job.id,
            id=attempt.number,
            lo=work.lo,
            hi=work.hi,
            npartitions=job.npartitions,
            fan_in=job.fan_in,
            functions=job.functions,
            functions_id=job.functions_id,
            chunk=chunk,
            items=work.items,
            initial=work.initial,
            budget=None if work.is_merge or single else self._budget(),
            rung=work.rung,
        )
        try:
            async with asyncio.timeout(self._allowed(task)):
                answer = await self._pool.run(task)
        except TimeoutError:
            raise retry.TimedOut(f"no answer within {self._allowed(task):g} s") from None
        except retry.Lost:
            recovered = await self._pool.recover(task)
            if recovered is None:
                raise
            answer = recovered
        finally:
            if chunk is not None:
                self._pool.discard([chunk])
        if self._checkpoint is not None and work.initial is None:
            for item in answer.items:
                await self._remember(self._checkpoint, item)
        return answer

    def _allowed(self, task: Task) -> float | None:
        """Seconds until a task has timed out: one partition, or one fold, has ``timeout``."""
        if self._job.timeout is None:
            return None
        return self._job.timeout * max(1, len(task.items) - 1) + (task.budget or 0)

    async def _remember(self, checkpoint: Checkpoint, item: Item) -> None:
        """Keep a value in the checkpoint, unless something is missing in it."""
        if item.ref is None or any(item.lo <= e.lo < item.hi for e in self.failures):
            return
        checkpoint.append(item.lo, item.hi, await self._pool.get(item.ref))

    def _copy_stragglers(self, now: float) -> float:
        """Start second copies of what takes too long; when to look again."""
        factor = self._job.policy.straggler_factor
        if factor is None or self._frontier.unmapped or not self._mapped:
            return math.inf
        if self.done < MOSTLY_DONE * self._job.npartitions:
            return math.inf
        soonest = math.inf
        for work, copies in list(self._copies.items()):
            if len(copies) > 1:
                continue
            expected = min(self._mean() * (work.hi - work.lo), self._budget())
            due = copies[0].started + factor * (expected + 10 * self._pool.latency)
            if due > now:
                soonest = min(due, soonest)
            elif self._may_start():
                self._start(work, speculative=True)
        return soonest

    # -- settling --------------------------------------------------------------------------------

    def _end(self, attempt: _Attempt) -> None:
        self._ended.append(attempt)
        self._wake.set()

    async def _settle(self, attempt: _Attempt) -> None:
        copies = self._copies.get(attempt.work, [])
        assert attempt.task is not None
        if attempt not in copies:  # abandoned
            if not attempt.task.cancelled() and attempt.task.exception() is None:
                self._pool.discard(i.ref for i in attempt.task.result().items if i.ref)
            return
        copies.remove(attempt)
        self._running -= 1
        try:
            if attempt.task.cancelled():  # not by us
                raise retry.Lost("the engine cancelled it")
            answer = attempt.task.result()
        except retry.TaskFailed as failure:
            if not copies:
                del self._copies[attempt.work]
            self._settle_failed(attempt, failure, others=bool(copies))
            return
        del self._copies[attempt.work]
        await self._abandon(copies)
        self._settle_answered(attempt, answer)

    def _settle_answered(self, attempt: _Attempt, answer: Answer) -> None:
        work, failure = attempt.work, answer.failure
        self._throttled_since = None
        self._limit += 1 / self._limit
        self._count(work, answer.stats, answer.stopped - work.lo)
        if work.is_merge and failure is None:
            self._frontier.replace(work.items, answer.items)
            self._pool.discard(item.ref for item in work.items if item.ref)
        elif work.is_merge:
            self._pool.discard(item.ref for item in answer.items if item.ref)
        else:
            self._accept(work, answer)
        mapped = 0 if work.is_merge else sum(item.hi - item.lo for item in answer.items)
        self.done += mapped
        self._tell(
            events.TaskFinished(
                time=self._clock(),
                job=self._job.id,
                task=attempt.number,
                kind=_kind(work),
                lo=work.lo,
                hi=work.hi,
                partitions=mapped,
                stats=answer.stats,
            )
        )
        if failure is not None:
            self._settle_user_error(attempt, failure)

    def _count(self, work: Work, stats: Stats, mapped: int) -> None:
        self.cost += stats.cost
        self._tasks_answered += 1
        self._storing += stats.storing
        if not work.is_merge:
            self._mapped += mapped
            self._wall += stats.wall

    def _accept(self, work: Work, answer: Answer) -> None:
        """Keep the values of a map task; what has neither value nor failure is mapped again."""
        spans = [(item.lo, item.hi) for item in answer.items]
        if answer.failure is not None:
            spans.append((answer.failure.lo, answer.failure.hi))
        lo = work.lo
        for start, end in [*sorted(spans), (work.hi, work.hi)]:
            self._frontier.add(Work(lo, start, attempts=work.attempts, rung=work.rung))
            lo = end
        for item in answer.items:
            self._frontier.finish(item)

    def _settle_user_error(self, attempt: _Attempt, failure: Failure) -> None:
        """An exception in the worker: of the user's functions, or of what they need."""
        work = attempt.work
        if failure.kind == "functions":
            raise BrokenExecutorError(describe(failure))
        failed = work if work.is_merge else Work(failure.lo, failure.hi, attempts=work.attempts)
        failed.rung = work.rung + (failure.kind == "memory")
        failed.attempts += 1
        again = failure.kind == "memory" or self._job.policy.retries_user_error(failure.types)
        if again and failed.attempts < self._job.policy.attempts:
            self._again(attempt, [failed], failure.kind, failure)
        else:
            self._give_up(attempt, failed, failure.kind, failure)

    def _settle_failed(self, attempt: _Attempt, failure: retry.TaskFailed, others: bool) -> None:
        """No answer came: the pool says why."""
        work = attempt.work
        if isinstance(failure, retry.Broken):
            raise BrokenExecutorError(str(failure)) from failure
        if isinstance(failure, retry.Throttled):
            self._slow_down(attempt, failure, others)
            return
        kind = _FAILURES[type(failure)]
        if others:
            self._tell(self._failed_event(attempt, work, kind, failure, 0.0))
        elif not work.is_merge and work.hi - work.lo > 1:
            self._again(attempt, list(self._frontier.pieces(work)), kind, failure)
        else:
            work.attempts += 1
            work.rung += kind == "memory"
            if work.attempts < self._job.policy.attempts:
                self._again(attempt, [work], kind, failure)
            else:
                self._give_up(attempt, work, kind, failure)

    def _slow_down(self, attempt: _Attempt, failure: retry.Throttled, others: bool) -> None:
        """Additive increase, multiplicative decrease; at most one decrease for what was in flight."""
        now, policy, work = self._clock(), self._job.policy, attempt.work
        if self._throttled_since is None:
            self._throttled_since = now
        if now - self._throttled_since > policy.patience:
            raise ThrottledError(
                f"the engine has refused every task for {policy.patience:g} s: {failure}. Raise "
                f"its limits, or RetryPolicy(patience=...)"
            ) from failure
        if attempt.started > self._last_cut:
            self._last_cut = now
            self._limit = max(
                1.0, 0.7 * min(self._limit, self._pool.capacity, self._running + 1)
            )
        self._tell(
            events.Throttled(now, self._job.id, attempt.number, int(self._limit), str(failure))
        )
        if not others:
            work.throttles += 1
            self._frontier.add_later(work, now + self._jitter(work.throttles))

    def _again(
        self,
        attempt: _Attempt,
        works: Sequence[Work],
        kind: str,
        failure: Failure | retry.TaskFailed,
    ) -> None:
        delay = self._jitter(max(1, works[0].attempts)) if kind not in ("memory", "timeout") else 0
        self._tell(self._failed_event(attempt, attempt.work, kind, failure, delay))
        for work in works:
            self._frontier.add_later(work, self._clock() + delay)

    def _jitter(self, attempts: int) -> float:
        return self._random.uniform(0, self._job.policy.longest_delay(attempts))

    def _give_up(
        self, attempt: _Attempt, work: Work, kind: str, failure: Failure | retry.TaskFailed
    ) -> None:
        """These partitions, or this fold of them, failed for good."""
        lo, hi = (failure.lo, failure.hi) if isinstance(failure, Failure) else (work.lo, work.hi)
        self._tell(self._failed_event(attempt, work, kind, failure, None))
        error = partition_error(kind, lo, hi, work.attempts, self._job.npartitions, failure)
        if self._job.errors == "raise":
            raise error
        self.failures.append(error)
        hole = Item(lo, hi, None)
        if not work.is_merge:
            self._frontier.finish(hole)
            return
        inside = [item for item in work.items if lo <= item.lo < hi]
        self._frontier.replace(
            work.items, [*(item for item in work.items if item not in inside), hole]
        )
        self._pool.discard(item.ref for item in inside if item.ref)

    async def _abandon(self, attempts: Sequence[_Attempt]) -> None:
        for attempt in attempts:
            copies = self._copies.get(attempt.work, [])
            if attempt in copies:
                copies.remove(attempt)
            self._running -= 1
            assert attempt.task is not None
            attempt.task.cancel()
            self._tell(events.TaskAbandoned(self._clock(), self._job.id, attempt.number))
        await asyncio.gather(*(a.task for a in attempts if a.task), return_exceptions=True)

    def _failed_event(
        self,
        attempt: _Attempt,
        work: Work,
        kind: str,
        failure: Failure | retry.TaskFailed,
        delay: float | None,
    ) -> events.TaskFailed:
        return events.TaskFailed(
            time=self._clock(),
            job=self._job.id,
            task=attempt.number,
            kind=_kind(work),
            lo=work.lo,
            hi=work.hi,
            failure=kind,
            message=failure.message if isinstance(failure, Failure) else str(failure),
            traceback=describe(failure) if isinstance(failure, Failure) else "",
            delay=delay,
        )


_FAILURES = {retry.Lost: "lost", retry.OutOfMemory: "memory", retry.TimedOut: "timeout"}


def _kind(work: Work) -> events.TaskKind:
    return "merge" if work.is_merge else "map"
