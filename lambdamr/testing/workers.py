"""Simulated workers: the real worker's values, with times that are made up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from lambdamr.testing import faults as f
from lambdamr.testing.store import SimulatedStore
from lambdamr.wire import Answer, Stats, Task
from lambdamr.worker import Functions, Worker

if TYPE_CHECKING:
    from lambdamr.testing.executor import SimulatedExecutor


@dataclass(slots=True)
class Place:
    """One simulated worker: how slow it is, and how fast its clock runs, 1 being right."""

    number: int
    slowness: float
    clock: float
    is_new: bool = True


class Workers:
    """All workers of a pool. One real `Worker` does the work of all of them."""

    def __init__(
        self, settings: SimulatedExecutor, store: SimulatedStore, lot: random.Random
    ) -> None:
        self._settings = settings
        self._store = store
        self._random = lot
        self._evaluator = _Evaluator(store, "simulated", imports=False)
        self._last: Place | None = None
        self._made = 0
        self._idle: list[Place] = []
        self.running = 0

    def hire(self) -> Place:
        """A worker that is idle, or a new one."""
        self.running += 1
        if self._idle:
            place = min(self._idle, key=lambda place: place.number)
            self._idle.remove(place)
            return place
        self._made += 1
        return Place(
            number=self._made,
            slowness=self._settings.spread ** self._random.uniform(-1, 1),
            clock=self._settings.skew ** self._random.uniform(-1, 1),
        )

    def release(self, place: Place) -> None:
        """It is idle again."""
        self.running -= 1
        self._idle.append(place)

    def evaluate(self, task: Task, fault: f.Fault | None, place: Place, is_cold: bool) -> Answer:
        """The answer of the real worker, with the times of the simulated one."""
        stop = self._stop(task, place)
        if isinstance(fault, f.Partial) and not task.items:
            stop = min(stop, task.lo + max(1, fault.partitions))
        if place is not self._last or is_cold:  # has no values of its own that it may fold
            self._evaluator.forget(everything=True)
        self._last = place
        self._evaluator.raising = fault if isinstance(fault, f.Raise) else None
        answer = self._evaluator.evaluate(task._replace(hi=stop, budget=None))
        self._evaluator.forget()
        storing = self._settings.store_latency * len(self._store.written(answer)) * place.clock
        wall = self._work_time(task, answer.stopped, place) * place.clock + storing
        stats = Stats(
            worker=f"simulated {place.number}",
            wall=wall,
            cpu=wall,
            storing=storing,
            bytes_in=answer.stats.bytes_in,
            bytes_out=answer.stats.bytes_out,
            starting=is_cold * self._settings.cold_start,
            cold=is_cold,
            cost=self._settings.price * wall,
        )
        return answer._replace(stats=stats)

    def time(self, task: Task, place: Place) -> float:
        """Seconds that the task takes, up to its budget."""
        return self._work_time(task, self._stop(task, place), place)

    def _stop(self, task: Task, place: Place) -> int:
        """The first partition that is not tried: where the budget, by the worker's clock, ends."""
        if task.items or task.budget is None:
            return task.hi
        left = task.budget / place.clock
        for partition in range(task.lo, task.hi):
            left -= self._settings.seconds(partition) * place.slowness
            if left < 0:
                return partition + 1
        return task.hi

    def _work_time(self, task: Task, stop: int, place: Place) -> float:
        if task.items:
            return self._settings.merge_seconds * len(task.items) * place.slowness
        return sum(map(self._settings.seconds, range(task.lo, stop))) * place.slowness


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
