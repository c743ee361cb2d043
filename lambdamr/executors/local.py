"""Processes on this machine: workers forked from one clean template process.

The template imports and warms up once, and has no threads and no state of the driver, so a fork
of it is cheap and safe. A script needs no ``if __name__ == "__main__"``: nothing is imported again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType

import cloudpickle

from lambdamr import checks
from lambdamr.errors import BrokenExecutorError, InputError, InputTypeError, UnpicklableError
from lambdamr.executors.local_crew import Crew, WorkerProcess
from lambdamr.executors.local_template import LENGTH, CrewSettings
from lambdamr.retry import Broken, Lost, OutOfMemory
from lambdamr.wire import Answer, Buffer, Ref, Task, frame_size

INLINE = 64 << 10
"""Bytes; larger values are files in shared memory, which are mapped and not copied."""

_MEMORY_CHECK = 0.02  # seconds
_LEAST_MEMORY = 16 << 20  # bytes
_FORGET = LENGTH.pack(len(pickle.dumps(None))) + pickle.dumps(None)
_RESTARTS = 20  # of the template in one job
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


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
        self._crews: list[Crew] = []
        self._closed = False
        weakref.finalize(self, _close, self._crews)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[LocalPool]:
        """A pool on warm workers, if there are some that nobody uses, or on new ones."""
        if self._closed:
            raise BrokenExecutorError("this LocalExecutor is closed; make another")
        try:
            crew = self._warm_crew() or Crew(self._settings)
        except OSError as error:
            raise BrokenExecutorError(f"the local executor cannot start: {error}") from error
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
            if self._closed:
                raise BrokenExecutorError("this LocalExecutor is closed; make another")
            if self._crews:
                return
            try:
                self._crews.append(Crew(self._settings))
            except OSError as error:
                raise BrokenExecutorError(f"the local executor cannot start: {error}") from error

    def _warm_crew(self) -> Crew | None:
        with self._lock:
            crew = self._crews.pop() if self._crews else None
        if crew is None or crew.owner == os.getpid():
            return crew
        crew.close()
        return None

    def _keep(self, crew: Crew) -> bool:
        with self._lock:
            keep = self._stay_warm and not self._closed and not self._crews and crew.fit
            if keep:
                self._crews.append(crew)
        return keep

    def close(self) -> None:
        """End the workers. The executor cannot be used again."""
        with self._lock:
            self._closed = True
        _close(self._crews)

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


class LocalPool:
    """A crew at work, in one event loop."""

    latency = 0.001

    def __init__(
        self, workers: int, memory: tuple[int, ...], most_tasks: int | None, crew: Crew
    ) -> None:
        self.capacity = workers
        self._memory = memory
        self._most_tasks = most_tasks
        self._crew = crew
        self._restarts = 0
        self._restarting = asyncio.Lock()
        self._puts = 0
        self._busy: dict[WorkerProcess, Task] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Wait until the template is ready, and fork the workers."""
        await self._crew.attach()
        if not self._crew.alive:  # killed while it was idle
            await self._crew.restart()
        with contextlib.suppress(Lost):  # then `run` finds out
            while len(self._crew.idle) < self.capacity:
                self._crew.idle.append(self._crew.fork())
        if self._memory:
            self._watch = asyncio.create_task(self._watch_memory())

    async def stop(self) -> None:
        """Stop what runs, and forget what is kept."""
        if self._watch is not None:
            self._watch.cancel()
        try:
            await self._crew.bury()
        finally:
            self._crew.detach()
        for worker in self._crew.idle:
            with contextlib.suppress(OSError):  # it is dead, as the next job will see
                worker.connection.send(_FORGET)
        self._crew.store.clear()

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame: inline, or as a file."""
        size = frame_size(frame)
        if size <= INLINE:
            return Ref(size, data=b"".join(frame))
        self._puts += 1
        try:
            return Ref(size, key=self._crew.store.keep(f"put-{self._puts}", frame))
        except OSError as error:
            raise Broken(str(error)) from error

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref; a large one is mapped."""
        if ref.data is not None:
            return ref.data
        assert ref.key is not None
        return self._crew.store.read(ref.key)

    def discard(self, refs: Iterable[Ref]) -> None:
        """Unlink the files of large values."""
        for ref in refs:
            if ref.key is not None:
                self._crew.store.remove(ref.key)

    async def run(self, task: Task) -> Answer:
        """Send the task to an idle worker, and wait for its answer."""
        worker = await self._worker()
        worker.tasks += 1
        self._busy[worker] = task
        loop = asyncio.get_running_loop()
        try:
            message = pickle.dumps(task, protocol=5)
            await loop.sock_sendall(worker.connection, LENGTH.pack(len(message)) + message)
            (length,) = LENGTH.unpack(await _exactly(worker.connection, LENGTH.size))
            answer: Answer = pickle.loads(await _exactly(worker.connection, length))
        except (OSError, EOFError):
            self._crew.kill(worker)  # it may live, without its connection
            await worker.dead.wait()
            worker.connection.close()
            raise worker.killed_for or Lost(worker.epitaph) from None
        except asyncio.CancelledError:
            self._crew.kill(worker)
            worker.connection.close()
            raise
        finally:
            del self._busy[worker]
        worn = self._most_tasks is not None and worker.tasks >= self._most_tasks
        if worn or worker.killed_for or worker.dead.is_set():
            worker.connection.close()  # if it lives, it notices, and ends
        else:
            self._crew.idle.appendleft(worker)  # the one whose caches are warmest goes first
        if self._memory:
            answer = answer._replace(stats=answer.stats._replace(memory=self._limit(task)))
        return answer

    async def recover(self, task: Task) -> Answer | None:
        """A worker that dies leaves nothing."""
        return None

    async def _worker(self) -> WorkerProcess:
        async with self._restarting:
            if not self._crew.alive:
                self._restarts += 1
                if self._restarts > _RESTARTS:
                    raise Broken(f"the local executor cannot go on: {self._crew.failed}, again")
                await self._crew.restart()
        if self._crew.idle:
            return self._crew.idle.popleft()
        return self._crew.fork()

    def _limit(self, task: Task) -> int:
        return self._memory[min(task.rung, len(self._memory) - 1)]

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(_MEMORY_CHECK)
            for worker, task in self._busy.items():
                limit = self._limit(task)
                if worker.pid is None or worker.killed_for is not None:
                    continue
                used = _resident(worker.pid)
                if used > limit:
                    worker.killed_for = OutOfMemory(
                        f"the worker used {used >> 20} MiB; it may use {limit >> 20} MiB"
                    )
                    self._crew.kill(worker)


async def _exactly(connection: socket.socket, size: int) -> bytearray:
    loop = asyncio.get_running_loop()
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = await loop.sock_recv_into(connection, view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data


def _resident(pid: int) -> int:
    """Bytes of resident memory of a process, or of its child that has most; 0 if it is gone.

    The largest, and not the sum: a child that a mapper forked shares its pages with the worker.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            used = int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        for child in file.read().split():
            used = max(used, _resident(int(child)))
    return used


def _close(crews: list[Crew]) -> None:
    while crews:
        crews.pop().close()


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
    try:
        pickled: bytes = cloudpickle.dumps(warm_up)
    except Exception as error:
        raise UnpicklableError(f"warm_up cannot be sent to the template: {error}") from error
    return pickled
