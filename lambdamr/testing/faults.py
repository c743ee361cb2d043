"""What can go wrong with one invocation, as data; and how often."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from lambdamr.errors import InputError, InputTypeError
from lambdamr.wire import Task


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker dies after this share of the task's time; all that it did is gone."""

    at: float = 0.5


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The work is done, and the answer gets lost; ``stored``: the pool finds it when asked to."""

    stored: bool = True


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer comes, ever."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """The engine refuses the task."""


@dataclass(frozen=True, slots=True)
class Slow:
    """It takes ``factor`` times as long.

    If it is cancelled meanwhile, it "stops" at once; "lingers" for a while before it does;
    "answers" all the same; or the worker does not notice: it "goes on", and stores its values.
    """

    factor: float = 10.0
    when_cancelled: Literal["stops", "lingers", "answers", "goes on"] = "stops"


@dataclass(frozen=True, slots=True)
class Partial:
    """It answers early, with the values of its first ``partitions`` only. Merges are complete."""

    partitions: int = 1


@dataclass(frozen=True, slots=True)
class Twice:
    """The engine runs it twice, and the second time all is stored again, so many seconds later."""

    later: float = 1.0


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """It dies of too little memory, unless it ran out of memory ``below`` times already."""

    below: int = 1


@dataclass(frozen=True, slots=True)
class TimeOut:
    """The engine's own limit of time ends it, after this share of its time."""

    at: float = 1.0


@dataclass(frozen=True, slots=True)
class Raise:
    """The mapper raises this at its call number ``call``, from 0; in a merge the reducer does.

    With ``in_reducer`` it is the reducer in a map, too.
    """

    exception: Exception
    call: int = 0
    in_reducer: bool = False


@dataclass(frozen=True, slots=True)
class Break:
    """The engine says that no task can ever succeed."""

    message: str = "simulated: no permission"


Fault: TypeAlias = (
    Crash
    | LoseAnswer
    | Hang
    | Throttle
    | Slow
    | Partial
    | Twice
    | OutOfMemory
    | TimeOut
    | Raise
    | Break
)

Script: TypeAlias = (
    "Mapping[int | tuple[int, int] | tuple[int, int, int], Fault] "
    "| Callable[[Task, int], Fault | None]"
)
"""Which fault meets which invocation: a mapping by the task's number, from 1, by the partitions
``(lo, hi)`` of the task, each time, or by ``(lo, hi, n)``, the ``n``-th time, from 1; or a function
of the task and of how often its partitions were invoked, this time included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Faults at random: the share of all invocations, from 0 to 1, that each of them meets.

    Attributes:
        most: how many of those faults that may cost an attempt a partition, or a merge, meets at
            most; below the attempts of the policy, all faults are survived.
        slowest: the largest factor of ``slow``.
        exception: what ``raises`` raises.
    """

    crash: float = 0.0
    lose_answer: float = 0.0
    hang: float = 0.0
    throttle: float = 0.0
    slow: float = 0.0
    partial: float = 0.0
    twice: float = 0.0
    out_of_memory: float = 0.0
    time_out: float = 0.0
    raises: float = 0.0
    most: int = 2
    slowest: float = 20.0
    exception: type[Exception] = ConnectionError

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self)[:10]]
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError(f"rates are shares of all invocations, together at most 1: {self}")

    def draw(self, random: random.Random, task: Task) -> Fault | None:
        """What this invocation meets."""
        size = task.hi - task.lo
        choices: tuple[tuple[float, Callable[[], Fault]], ...] = (
            (self.crash, lambda: Crash(random.choice((0.0, random.random(), 1.0)))),
            (self.lose_answer, lambda: LoseAnswer(random.random() < 0.5)),
            (self.hang, Hang),
            (self.throttle, Throttle),
            (self.slow, lambda: self._slow(random)),
            (self.partial, lambda: Partial(random.randint(1, size))),
            (self.twice, lambda: Twice(random.expovariate(1.0))),
            (self.out_of_memory, lambda: OutOfMemory(task.rung + 1)),
            (self.time_out, lambda: TimeOut(random.random())),
            (self.raises, lambda: self._raise(random, size)),
        )
        at = random.random()
        for share, fault in choices:
            if at < share:
                return fault()
            at -= share
        return None

    def _raise(self, random: random.Random, size: int) -> Raise:
        in_reducer = random.random() < 0.3
        return Raise(self.exception("simulated"), random.randrange(size), in_reducer)

    def _slow(self, random: random.Random) -> Slow:
        how: tuple[Literal["stops", "lingers", "answers", "goes on"], ...]
        how = ("stops", "lingers", "answers", "goes on")
        return Slow(random.uniform(1.0, self.slowest), random.choice(how))


def costs(fault: Fault | None) -> bool:
    """Whether this may cost an attempt: directly, or because the driver loses its patience."""
    return not isinstance(fault, (Throttle, Partial, Twice, type(None)))


def as_function(faults: Script | None) -> Callable[[Task, int], Fault | None]:
    """A script as a function of the task and of the number of the try.

    Raises:
        InputError: this is no script.
    """
    if faults is None:
        return lambda task, nth: None
    if callable(faults):
        return faults
    if not isinstance(faults, Mapping):
        raise InputTypeError(f"faults must be a mapping or a function, not {faults!r:.60}")
    scripted: dict[object, Fault] = {}
    for key, fault in faults.items():
        if not isinstance(fault, Fault):
            raise InputTypeError(f"a fault must be an object such as Crash(), not {fault!r:.60}")
        parts: Any = (key,) if isinstance(key, int) else key
        if not isinstance(parts, tuple) or not all(isinstance(part, int) for part in parts):
            raise InputTypeError(
                f"faults are listed by task number, (lo, hi) or (lo, hi, n), not {key!r:.60}"
            )
        scripted[key] = fault

    def look_up(task: Task, nth: int) -> Fault | None:
        for key in (task.id, (task.lo, task.hi, nth), (task.lo, task.hi)):
            if key in scripted:
                return scripted[key]
        return None

    return look_up
