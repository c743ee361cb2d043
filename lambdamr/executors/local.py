"""Processes on this machine: workers forked from one clean template process.

The template imports and warms up once, and has no threads and no state of the driver, so a fork
of it is cheap and safe. A script needs no ``if __name__ == "__main__"``: nothing is imported again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from lambdamr import checks
from lambdamr.errors import BrokenExecutorError, InputError, InputTypeError, UnpicklableError
from lambdamr.executors.local_messages import CrewSettings
from lambdamr.executors.local_process import TemplateProcess
from lambdamr.retry import Broken

if TYPE_CHECKING:
    from lambdamr.executors.local_crew import Crew
    from lambdamr.executors.local_pool import LocalPool

INLINE = 64 << 10
"""Bytes; larger values are files in shared memory, which are mapped and not copied."""

_LEAST_MEMORY = 16 << 20  # bytes


class LocalExecutor:
    """Worker processes on this machine. Linux and macOS.

    An object that is used again finds its workers warm. Close it, or use it as a context manager,
    to end them sooner than the program does.

    Args:
        workers: how many; default the CPUs that this process may use.
        memory: bytes of resident memory a worker, or a process that it starts, may use (what it
            shares with the template counts); a task that needs more is killed and tried again
            with the next of ``memory``, if several are given. Default no limit. Linux only.
        preload: names of modules to import once, in the template.
        warm_up: called once, in the template, after that; for what compiles or loads lazily.
            It must leave no threads behind.
        max_tasks_per_child: a worker is replaced after so many tasks; default never.
        stay_warm: keep the workers between jobs (default).

    Raises:
        InputError: an argument cannot be used.
        BrokenExecutorError: this system cannot fork.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        memory: int | Sequence[int] | None = None,
        preload: Sequence[str] = (),
        warm_up: Callable[[], object] | None = None,
        max_tasks_per_child: int | None = None,
        stay_warm: bool = True,
    ) -> None:
        if not hasattr(os, "fork"):
            raise BrokenExecutorError(
                "LocalExecutor needs fork(), which this system has not; "
                "use it under WSL, or executor='inline'"
            )
        self._workers = checks.count("workers", workers) or _cpus()
        self._memory = _ladder(memory)
        self._most_tasks = checks.count("max_tasks_per_child", max_tasks_per_child)
        self._stay_warm = stay_warm
        self._settings = CrewSettings(_modules(preload), _pickled(warm_up), INLINE)
        self._lock = threading.Lock()
        self._idle: list[TemplateProcess | Crew] = []  # one at most
        self._closed = False
        weakref.finalize(self, _close, self._idle)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[LocalPool]:
        """A pool on warm workers, if there are some that nobody uses, or on new ones."""
        from lambdamr.executors.local_pool import LocalPool  # brings asyncio: see `prepare`

        crew = self._crew()
        pool = LocalPool(self._workers, self._memory, self._most_tasks, crew)
        kept = False
        try:
            await pool.start()
            yield pool
        except Broken as error:
            raise BrokenExecutorError(str(error)) from error
        finally:
            try:
                await pool.stop()
                kept = self._keep(crew)
            finally:  # Ctrl-C may come again
                if not kept:
                    crew.close()

    def prepare(self) -> None:
        """Start the template now: it imports and warms up while the caller does other things.

        Raises:
            BrokenExecutorError: it cannot be started, or the executor is closed.
        """
        with self._lock:
            if not self._idle:
                self._idle.append(self._start())

    def _crew(self) -> Crew:
        from lambdamr.executors.local_crew import Crew

        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None and idle.owner != os.getpid():
            idle.close()
            idle = None
        return idle if isinstance(idle, Crew) else Crew(idle or self._start())

    def _start(self) -> TemplateProcess:
        if self._closed:
            raise BrokenExecutorError("this LocalExecutor is closed; make another")
        try:
            return TemplateProcess(self._settings)
        except OSError as error:
            raise BrokenExecutorError(f"the local executor cannot start: {error}") from error

    def _keep(self, crew: Crew) -> bool:
        with self._lock:
            keep = self._stay_warm and not self._closed and not self._idle and crew.fit
            if keep:
                self._idle.append(crew)
        return keep

    def close(self) -> None:
        """End the workers. The executor cannot be used again."""
        with self._lock:
            self._closed = True
        _close(self._idle)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalExecutor(workers={self._workers})"


def _close(idle: list[TemplateProcess | Crew]) -> None:
    while idle:
        idle.pop().close()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ladder(memory: int | Sequence[int] | None) -> tuple[int, ...]:
    if memory is None:
        return ()
    if not os.path.exists("/proc/self/statm"):
        raise InputError("memory= needs /proc, which this system has not; leave it out")
    try:
        rungs = (memory,) if isinstance(memory, (int, float, str)) else tuple(memory)
    except TypeError:
        raise InputTypeError(f"memory must be a number of bytes, not {memory!r:.60}") from None
    for rung in rungs:
        checks.count("memory", rung)
        if rung < _LEAST_MEMORY:
            raise InputError(
                f"memory={rung} bytes is less than a Python worker needs to start; "
                f"it is in bytes: memory={rung} << 20 for {rung} MiB"
            )
    if not rungs or list(rungs) != sorted(rungs):
        raise InputError(f"memory must be ascending, at least one number: {memory!r:.60}")
    return rungs


def _modules(preload: Sequence[str]) -> tuple[str, ...]:
    if isinstance(preload, str):
        raise InputTypeError(f"preload must be a list of module names; write [{preload!r}]")
    for name in preload:
        if not isinstance(name, str):
            raise InputTypeError(f"preload must hold names of modules, not {name!r:.60}")
    return tuple(preload)


def _pickled(warm_up: Callable[[], object] | None) -> bytes | None:
    if warm_up is None:
        return None
    if not callable(warm_up):
        raise InputTypeError(f"warm_up must be callable, not {warm_up!r:.60}")
    import cloudpickle  # takes time: not for who has none

    try:
        pickled: bytes = cloudpickle.dumps(warm_up)
    except Exception as error:
        raise UnpicklableError(f"warm_up cannot be sent to the template: {error}") from error
    return pickled
