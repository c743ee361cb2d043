"""How fast a job goes, and what follows from it: sizes of tasks, how many at once, what is slow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lambdamr.wire import Stats

BUDGET_LATENCIES = 1000
"""A task answers after so many latencies of its pool, at the next partition: overhead 0.1 %."""

BUDGET_STORINGS = 20
"""... and not before so many times what a task takes to read and store large values."""

STRAGGLER_LATENCIES = 10
"""A task may always take so many latencies longer than expected."""

DECREASE = 0.7
"""Concurrency after the engine refused a task, relative to before. It climbs back by one with each
answer, and by one with each round of answers from where it was refused: AIMD that remembers."""


@dataclass(slots=True, repr=False, eq=False)
class Pace:
    """What was measured so far.

    Args:
        latency: seconds a task costs beyond its own work.
        timeout: seconds a partition may take, if that is limited.
    """

    latency: float
    timeout: float | None
    mapped: int = 0  # partitions
    cost: float = 0.0  # USD
    limit: float = math.inf  # of concurrency, by what the engine lets us
    _first_share: int = 0  # partitions of a task, while nothing is known
    _tasks: int = 0
    _wall: float = 0.0  # seconds of all map tasks
    _storing: float = 0.0  # seconds of all tasks
    _last_cut: float = -math.inf
    _refused_at: float = 0.0  # concurrency

    def count(self, stats: Stats, mapped: int) -> None:
        """A task answered, and mapped so many partitions."""
        self.cost += stats.cost
        self.limit += 1 if self.limit + 1 < self._refused_at else 1 / self.limit
        self._tasks += 1
        self._storing += stats.storing
        self.mapped += mapped
        self._wall += stats.wall - stats.storing if mapped else 0.0

    def cut(self, now: float, started: float, running: int) -> None:
        """The engine refused a task: fewer at once. One cut for all that was in flight together."""
        if started > self._last_cut:
            self._last_cut = now
            self._refused_at = min(self.limit, running)
            limit = round(DECREASE * self._refused_at, 6)  # 0.7 * 90 is 62, and later 63 with it
            self.limit = max(1.0, limit)

    @property
    def cost_of_task(self) -> float:
        """USD that a task cost on average."""
        return self.cost / max(1, self._tasks)

    @property
    def budget(self) -> float:
        """Seconds after which a task should answer."""
        budget = max(BUDGET_LATENCIES * self.latency, BUDGET_STORINGS * self._storing_of_task)
        return min(budget, self.timeout or math.inf)

    def largest_task(self, unmapped: int, seats: int) -> int:
        """How many partitions the next task may have: few tasks, but balanced ones.

        While nothing is known, each seat gets an equal share (a task that takes too long stops
        after its budget); then tasks get smaller as the end comes near, unless their values are
        so large that storing them would take longer.
        """
        if not self.mapped:
            self._first_share = self._first_share or math.ceil(unmapped / seats)
            return self._first_share
        worth_storing = min(unmapped / seats, BUDGET_STORINGS * self._storing_of_task / self._mean)
        worth_sending = self.latency / self._mean
        share = max(unmapped / (2 * seats), worth_storing, worth_sending)
        return max(1, min(math.ceil(share), int(self.budget / self._mean)))

    def expected(self, partitions: int) -> float:
        """Seconds a task of so many partitions should take at most."""
        work = min(self._mean * partitions, self.budget)
        return work + STRAGGLER_LATENCIES * self.latency

    @property
    def _mean(self) -> float:
        return max(1e-7, self._wall / max(1, self.mapped))

    @property
    def _storing_of_task(self) -> float:
        return self._storing / max(1, self._tasks)
