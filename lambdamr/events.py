"""What observers are told: frozen events, in the order in which things happened.

An observer is any callable that takes one event. Times are seconds on the event loop's clock;
only differences of them mean anything, except ``JobStarted.wall_time``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lambdamr.wire import Stats

TaskKind: TypeAlias = Literal["map", "merge"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job begins."""

    time: float
    job: str
    npartitions: int
    fan_in: int
    executor: str
    capacity: int
    wall_time: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Resumed:
    """So many partitions are done already: their values came from a checkpoint."""

    time: float
    job: str
    partitions: int


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task was handed to the pool: the partitions ``lo <= i < hi``."""

    time: float
    job: str
    task: int
    kind: TaskKind
    lo: int
    hi: int
    attempt: int
    speculative: bool  # a second copy of a straggler


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """An answer came, and counts. ``partitions`` more partitions are done (0 for a merge)."""

    time: float
    job: str
    task: int
    kind: TaskKind
    lo: int
    hi: int
    partitions: int
    stats: Stats


@dataclass(frozen=True, slots=True)
class TaskAbandoned:
    """Another copy was faster, or the job ended: this one's answer is not awaited."""

    time: float
    job: str
    task: int
    kind: TaskKind
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task, or part of it, failed. It is tried again after ``delay`` seconds, or never (None)."""

    time: float
    job: str
    task: int
    kind: TaskKind
    lo: int
    hi: int
    failure: str  # the class: "mapper", "reducer", "result", "lost", "memory", "timeout"
    message: str
    traceback: str
    delay: float | None


@dataclass(frozen=True, slots=True)
class Throttled:
    """The engine refused a task; at most ``limit`` run at once now."""

    time: float
    job: str
    task: int
    kind: TaskKind
    lo: int
    hi: int
    limit: int
    message: str


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A job ended. ``error`` is None if it has a value."""

    time: float
    job: str
    done: int  # partitions in the value
    failed: int  # partitions that are not, with errors="return"
    cost: float  # USD
    error: BaseException | None


Event: TypeAlias = (
    JobStarted
    | Resumed
    | TaskStarted
    | TaskFinished
    | TaskAbandoned
    | TaskFailed
    | Throttled
    | JobFinished
)
Observer: TypeAlias = Callable[[Event], object]


class Observers:
    """Tells each observer each event. One that raises is logged, once, and never hurts the job."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)
        self._complained: set[int] = set()

    def __call__(self, event: Event) -> None:
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except Exception:
                if number not in self._complained:
                    self._complained.add(number)
                    _log.exception("the observer %r raised on %r", observer, event)
