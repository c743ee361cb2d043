"""An event loop on a virtual clock: waiting takes no time, and waiting for nothing is an error."""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from lambdamr.errors import LambdamrError

T = TypeVar("T")

MOST_SECONDS = 1e7
"""Virtual seconds after which a simulation is called endless: four months."""

MOST_STEPS = 1_000_000
"""Turns of the loop after which a simulation is called endless."""


class SimulationError(LambdamrError):
    """What was simulated does not end."""


class DeadlockError(SimulationError):
    """Every coroutine waits, and nothing is under way that could wake one."""


class EndlessError(SimulationError):
    """It went on and on: a loop without an end, or one that is too long to be simulated."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to be done.

    The same coroutine runs through it in the same order each time. It watches no files, sockets,
    threads or signals: what waits for one of those waits for ever, which is a `DeadlockError`.

    Args:
        most_seconds: of virtual time; then `EndlessError`.
        most_steps: turns of the loop; then `EndlessError`.
    """

    def __init__(self, most_seconds: float = MOST_SECONDS, most_steps: int = MOST_STEPS) -> None:
        self._jump = _Jump(self._stuck, most_seconds, most_steps)
        super().__init__(self._jump)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jump.now

    def _stuck(self) -> str:
        return "; ".join(sorted(_where(task) for task in asyncio.all_tasks(self))) or "nobody"


class _Jump(selectors.BaseSelector):
    """Where a loop would sleep until the next timer, the clock moves on to it instead."""

    def __init__(self, stuck: Callable[[], str], most_seconds: float, most_steps: int) -> None:
        self.now = 0.0
        self._stuck = stuck
        self._most_seconds = most_seconds
        self._most_steps = most_steps
        self._steps = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._steps += 1
        if timeout is None:
            raise DeadlockError(
                f"nothing can happen any more, at {self.now:g} virtual seconds; "
                f"who waits: {self._stuck()}"
            )
        if timeout > 0:  # one step up, so that rounding does not end just before the timer
            self.now = math.nextafter(self.now + timeout, math.inf)
        if self.now > self._most_seconds or self._steps > self._most_steps:
            steps, self._steps = self._steps, 0  # room to clean up
            self._most_seconds += self.now
            raise EndlessError(
                f"no end after {self.now:g} virtual seconds and {steps} steps; "
                f"who waits: {self._stuck()}"
            )
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


def run(
    coroutine: Coroutine[Any, Any, T],
    *,
    most_seconds: float = MOST_SECONDS,
    most_steps: int = MOST_STEPS,
) -> T:
    """Run a coroutine on a virtual clock of its own. Works where a loop is running already, too.

    Raises:
        DeadlockError: it waits for what can never happen.
        EndlessError: it does not end in time.
    """

    def run_here() -> T:
        with asyncio.Runner(
            loop_factory=lambda: VirtualClockLoop(most_seconds, most_steps)
        ) as runner:
            return runner.run(coroutine)

    return _aside(run_here) if _is_running() else run_here()


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _aside(function: Callable[[], T]) -> T:
    """Call a function in a thread of its own, where no loop is running."""
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  # raised again, by the caller
            errors.append(error)

    thread = threading.Thread(target=call, name="lambdamr-simulation")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _where(task: asyncio.Task[Any]) -> str:
    """The innermost coroutine of a task, and the line where it waits."""
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        coroutine = inner
    frame = getattr(coroutine, "cr_frame", None)
    name = getattr(coroutine, "__qualname__", "?")
    if frame is None:
        return name
    return f"{name} ({frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno})"
