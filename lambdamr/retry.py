"""The classes of failure, and the policy of what is tried again, when, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

from lambdamr.checks import check
from lambdamr.errors import InputTypeError


class TaskFailed(Exception):
    """Raised by a pool: a task gave no answer. The subclasses say how; the message says why.

    Attributes:
        kind: the word for it in events.
    """

    kind = "lost"


class Throttled(TaskFailed):
    """The engine is full, for now. Costs no attempt; the core lowers its concurrency."""


class Lost(TaskFailed):
    """The worker died, or the connection to it: the same task may succeed elsewhere."""


class OutOfMemory(TaskFailed):
    """The task needs more memory than its worker has."""

    kind = "memory"


class TimedOut(TaskFailed):
    """The task took longer than the engine, or ``timeout``, allows."""

    kind = "timeout"


class Broken(TaskFailed):
    """No task can succeed: wrong version, missing function, no permission. Ends the job."""

    kind = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What is tried again.

    Attributes:
        attempts: how often a partition (or a reduction) is tried, the first time included;
            default 3. A task of several partitions that fails is split, and that costs none.
        base_delay: seconds; before attempt ``k + 1`` the core waits a random time, evenly
            distributed between 0 and ``min(max_delay, base_delay * 2**(k - 1))`` ("full jitter":
            M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015-03-04).
        max_delay: seconds, default 20.
        retry_on: exception classes of the mapper or reducer that are worth another attempt, such
            as ``ConnectionError``; default none: an exception of the user's code ends the job.
        straggler_factor: a task that takes so many times longer than the others led one to
            expect gets a second copy, once most partitions are done and a worker is free;
            default 3. None: never a copy.
        patience: seconds for which the engine may refuse all tasks before the job ends with
            `ThrottledError`; default 300.
    """

    attempts: int = 3
    base_delay: float = 0.1
    max_delay: float = 20.0
    retry_on: tuple[type[BaseException], ...] = ()
    straggler_factor: float | None = 3.0
    patience: float = 300.0

    def __post_init__(self) -> None:
        if isinstance(self.retry_on, type):
            object.__setattr__(self, "retry_on", (self.retry_on,))
        check("attempts", self.attempts, Integral, "a whole number from 1 up", lambda n: n >= 1)
        for name in ("base_delay", "max_delay", "patience"):
            seconds = getattr(self, name)
            check(name, seconds, Real, "a number of seconds from 0 up", lambda n: n >= 0)
        factor, least = self.straggler_factor, "a number from 1 up, or None"
        check("straggler_factor", factor, Real | None, least, lambda n: n is None or n >= 1)
        for kind in self.retry_on:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):  # type: ignore[redundant-expr]  # the user may not check types
                raise InputTypeError(
                    f"retry_on must be a tuple of exception classes, not {kind!r:.60} in it"
                )

    def retries_user_error(self, types: tuple[str, ...]) -> bool:
        """Whether an exception with these classes (qualified names) is worth another attempt."""
        return any(f"{kind.__module__}.{kind.__qualname__}" in types for kind in self.retry_on)

    def longest_delay(self, attempts: int) -> float:
        """The upper end of the wait after so many attempts, in seconds."""
        return min(self.max_delay, self.base_delay * 2.0 ** min(attempts - 1, 60))
