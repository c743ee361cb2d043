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

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a job."""

    time: float
    job: str


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    """A job begins."""

    npartitions: int
    fan_in: int
    executor: str
    capacity: int
    wall_time: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """So many partitions are done already: their values came from a checkpoint."""

    partitions: int


@dataclass(frozen=True, slots=True)
class JobFinished(Event):
    """A job ended. ``error`` is None if it has a value."""

    done: int  # partitions in the value
    failed: int  # partitions that are not, with errors="return"
    cost: float  # USD
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class TaskEvent(Event):
    """Something happened to a task: the map, or the fold, of the partitions ``lo <= i < hi``."""

    task: int
    kind: Literal["map", "merge"]
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class TaskStarted(TaskEvent):
    """A task was handed to the pool."""

    attempt: int
    speculative: bool  # a second copy of a straggler


@dataclass(frozen=True, slots=True)
class TaskFinished(TaskEvent):
    """An answer came, and counts. ``partitions`` more partitions are done (0 for a merge)."""

    partitions: int
    stats: Stats


@dataclass(frozen=True, slots=True)
class TaskAbandoned(TaskEvent):
    """Another copy was faster, or the job ended: this one's answer is not awaited."""


@dataclass(frozen=True, slots=True)
class TaskFailed(TaskEvent):
    """A task failed, or part of one that finished.

    Tried again after ``delay`` seconds, or never (None). ``failure`` is "mapper", "reducer",
    "result", "lost", "memory", "timeout", "loading" or "broken".
    """

    failure: str
    message: str
    traceback: str
    delay: float | None


@dataclass(frozen=True, slots=True)
class Throttled(TaskEvent):
    """The engine refused a task; at most ``limit`` run at once now."""

    limit: int
    message: str


Observer: TypeAlias = Callable[[Event], object]


class Observers:
    """Tells each observer each event. One that raises is logged, once, and never hurts the job."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)
        self._complained: set[int] = set()

    def __call__(self, kind: str, /, *about: object, **facts: object) -> None:
        """Tell them of an event, by the name of its class and its fields."""
        event: Event = globals()[kind](*about, **facts)
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except Exception:
                if number not in self._complained:
                    self._complained.add(number)
                    _log.exception("the observer %r raised on %r", observer, event)
