"""Keeps the books of a job from its events, and says which promises they break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from lambdamr import events

_Span = tuple[str, int, int]


class Ledger:
    """An observer that believes nothing.

    Args:
        attempts: of the job's policy.
        capacity: of the pool, at the moment of the call.

    Attributes:
        events: all of them, as they came.
        broken: promises that were not kept, in words.
    """

    def __init__(self, attempts: int, capacity: Callable[[], int]) -> None:
        self._attempts = attempts
        self._capacity = capacity
        self._running: dict[int, events.TaskStarted] = {}
        self._spans: Counter[_Span] = Counter()  # what runs
        self._copies: Counter[_Span] = Counter()  # ... as a second copy
        self._attempts_spent: Counter[_Span] = Counter()
        self._answered: set[int] = set()
        self._seen: set[int] = set()
        self._most: float = float("inf")  # tasks at once, by what the engine said
        self._mapped = 0
        self.events: list[events.Event] = []
        self.broken: list[str] = []

    def __call__(self, event: events.Event) -> None:
        """Enter one event."""
        if self.events and event.time < self.events[-1].time:
            self._complain("time runs backwards", event)
        if bool(self.events) == isinstance(event, events.JobStarted):
            self._complain("a job starts with JobStarted, and only then", event)
        if self.events and isinstance(self.events[-1], events.JobFinished):
            self._complain("nothing comes after JobFinished", event)
        self.events.append(event)
        match event:
            case events.Resumed():
                self._mapped += event.partitions
            case events.TaskStarted():
                self._start(event)
            case events.TaskFinished():
                self._mapped += event.partitions
                self._most += 1
                self._answered.add(event.task)
                self._end(event)
            case events.TaskFailed():
                answered = event.task in self._answered
                if not answered:
                    self._end(event)
                self._answered.discard(event.task)  # part of it: an error of the user's
                self._charge(event, answered)
            case events.TaskAbandoned():
                self._end(event)
            case events.Throttled():
                if event.limit < self._capacity():  # else it is the pool's own
                    self._most = min(self._most, event.limit)
                self._end(event)
            case events.JobFinished():
                self._finish(event)

    def _start(self, event: events.TaskStarted) -> None:
        span = (event.kind, event.lo, event.hi)
        if event.task in self._seen:
            self._complain("a task number is used twice", event)
        if event.attempt > self._attempts:
            self._complain(f"more than {self._attempts} attempts", event)
        if event.speculative and (self._spans[span] != 1 or self._copies[span]):
            self._complain("a copy of what does not run, or has a copy", event)
        if not event.speculative and self._spans[span]:
            self._complain("the same partitions are under way twice", event)
        self._seen.add(event.task)
        self._running[event.task] = event
        if event.kind == "merge" and event.attempt == 1:  # of the root: with `initial`, another one
            self._attempts_spent[span] = 0
        self._spans[span] += 1
        self._copies[span] += event.speculative
        if len(self._running) > max(1, self._capacity()):
            self._complain(f"{len(self._running)} at once, above capacity", event)
        if len(self._running) > self._most:
            self._complain(f"{len(self._running)} at once, though the engine refused that", event)

    def _end(self, event: Any) -> None:
        started = self._running.pop(event.task, None)
        if started is None:
            self._complain("the end of a task that does not run", event)
            return
        span = (started.kind, started.lo, started.hi)
        self._spans[span] -= 1
        self._copies[span] -= started.speculative

    def _charge(self, event: events.TaskFailed, answered: bool) -> None:
        """A failure costs an attempt, unless a copy goes on, or a range is cut into pieces."""
        span = (event.kind, event.lo, event.hi)
        if not answered and self._spans[span]:
            return
        cut = event.failure in ("result", "memory") if answered else True
        if event.kind == "map" and event.hi - event.lo > 1 and cut and event.delay is not None:
            return
        spans = [span]
        if event.kind == "map":
            spans = [("map", lo, lo + 1) for lo in range(event.lo, event.hi)]
        self._attempts_spent.update(spans)
        spent = max(self._attempts_spent[span] for span in spans)
        if spent > self._attempts or (event.delay is not None and spent == self._attempts):
            self._complain(f"{spent} of {self._attempts} attempts spent", event)
        if event.delay is None:  # what is folded around the hole is another merge
            del self._attempts_spent[span]

    def _finish(self, event: events.JobFinished) -> None:
        npartitions = next(e.npartitions for e in self.events if isinstance(e, events.JobStarted))
        if self._running:
            self._complain(f"tasks {sorted(self._running)} have started, but never ended", event)
        if event.error is not None:
            return
        if event.done + event.failed != npartitions:
            self._complain("done and failed partitions are not all partitions", event)
        if not event.failed and self._mapped != npartitions:
            self._complain(f"{self._mapped} partitions counted", event)

    def _complain(self, what: str, event: events.Event) -> None:
        self.broken.append(f"{what}: {event}")
