"""A crew at work for one job: sends tasks to its workers, and minds their memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
from collections.abc import Iterable

from lambdamr.executors.descriptors import allow_connections
from lambdamr.executors.local_crew import Crew, TemplateDied, WorkerProcess
from lambdamr.executors.local_messages import LENGTH, framed
from lambdamr.retry import Broken, Lost, OutOfMemory, Throttled
from lambdamr.wire import Answer, Buffer, Ref, Task, frame_size

_MEMORY_CHECK = 0.02  # seconds
_FORGET = framed(None)
_RESTARTS = 20  # of the template in one job
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


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
        """Order the workers, and wait until the template is ready to fork them."""
        self._crew.attach()
        if not self._crew.alive:  # killed while it was idle
            await self._crew.restart()
        allow_connections(2 * self.capacity)  # both ends, until the template has one
        try:
            while len(self._crew.idle) < self.capacity:
                self._crew.idle.append(self._crew.fork())
        except Throttled as error:
            if not self._crew.idle:
                raise Broken(f"{error}. Raise the limit of open files (ulimit -n)") from error
        except Lost:
            pass  # `run` finds out
        try:
            await self._crew.ready()
        except TemplateDied:
            await self._crew.restart()
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
        if size <= self._crew.store.inline:
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
            await loop.sock_sendall(worker.connection, framed(task))
            (length,) = LENGTH.unpack(await _exactly(worker.connection, LENGTH.size))
            answer: Answer = pickle.loads(await _exactly(worker.connection, length))
        except (OSError, EOFError):
            self._crew.kill(worker)  # it may live, without its connection
            try:
                await worker.dead.wait()
            finally:  # nobody may wait for it any more
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
        """None: a worker that dies leaves nothing.

        If it died with its template, here is the time for another one: a ``timeout`` runs no more.
        """
        await self._revive()
        return None

    async def _worker(self) -> WorkerProcess:
        await self._revive()
        if self._crew.idle:
            return self._crew.idle.popleft()
        return self._crew.fork()

    async def _revive(self) -> None:
        """Start another template, if this one is dead."""
        async with self._restarting:
            if not self._crew.alive:
                self._restarts += 1
                if self._restarts > _RESTARTS:
                    raise Broken(f"the local executor cannot go on: {self._crew.failed}, again")
                await self._crew.restart()

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
