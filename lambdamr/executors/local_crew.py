"""The workers of a template process, in an event loop: forked, heard of, buried.

A crew outlives the event loop of a job, so that the next job finds it warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lambdamr.executors.local_messages import LENGTH
from lambdamr.executors.local_process import FAREWELL, TemplateProcess
from lambdamr.retry import Broken, Lost, TaskFailed, Throttled


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker, forked or about to be."""

    number: int
    connection: socket.socket
    other_end: socket.socket  # closed once the template has it
    pid: int | None = None
    tasks: int = 0
    killed_for: TaskFailed | None = None
    epitaph: str = ""  # once it is dead
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class TemplateDied(Broken):
    """The template process was killed, or crashed, before it could fork."""


_Order: TypeAlias = tuple[Callable[[WorkerProcess], None], WorkerProcess]


class Crew:
    """A template process and its workers. Serves one job at a time."""

    def __init__(self, template: TemplateProcess) -> None:
        self.owner = template.owner
        self.store = template.store
        self.idle: deque[WorkerProcess] = deque()
        self._template = template
        self._workers: dict[int, WorkerProcess] = {}
        self._numbers = 0
        self._orders: deque[_Order] = deque()  # that the socket had no room for
        self._begin()

    def _begin(self) -> None:
        self.failed = ""
        self._died = False
        self._ready = asyncio.Event()
        self._reports = bytearray()

    def attach(self) -> None:
        """Listen to the template, in the running loop. Orders need not wait for it."""
        for worker in self._workers.values():
            worker.dead = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._template.control, self._listen)
        if self._ready.is_set():
            self._listen()  # to what was reported while nobody listened
        if self.alive and self._orders:
            asyncio.get_running_loop().add_writer(self._template.control, self._give_orders)

    async def ready(self) -> None:
        """Wait until the template has started.

        Raises:
            TemplateDied: another one may start.
            Broken: it cannot start.
        """
        await self._ready.wait()
        if not self.alive:
            raise (TemplateDied if self._died else Broken)(self.failed)

    async def restart(self) -> None:
        """Another template in the place of a dead one. What is in the store stays.

        Raises:
            Broken: it cannot start.
        """
        self._hang_up()
        self._template.end(listens=self.fit)
        try:
            self._template.restart()
        except OSError as error:
            self.failed = f"the template process cannot be started again: {error}"
            raise Broken(self.failed) from error
        self._begin()
        self.attach()
        await self.ready()

    def detach(self) -> None:
        """Listen no more."""
        if self.alive:
            asyncio.get_running_loop().remove_reader(self._template.control)
            asyncio.get_running_loop().remove_writer(self._template.control)

    @property
    def alive(self) -> bool:
        """Whether the template can fork, now or when it is ready."""
        return not self.failed

    @property
    def fit(self) -> bool:
        """Whether another job can have this crew."""
        return self.alive and self._ready.is_set()

    def fork(self) -> WorkerProcess:
        """A new worker: tasks can be sent to it at once.

        Raises:
            Throttled: this process may open no more files.
            Lost: the template is dead.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise Throttled(f"no more workers can be connected: {error}") from error
        ours.setblocking(False)
        self._numbers += 1
        worker = WorkerProcess(self._numbers, ours, theirs)
        self._workers[worker.number] = worker
        try:
            self._order(self._start, worker)
        except OSError as error:
            self._forget(worker, "")
            ours.close()
            raise Lost(f"the template process is gone: {error}") from error
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """Kill a worker, and what it started."""
        self._order(self._stop, worker)

    def _order(self, order: Callable[[WorkerProcess], None], worker: WorkerProcess) -> None:
        """Give an order, now or when the template has read those before it."""
        if not self._orders:
            try:
                order(worker)
                return
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._template.control, self._give_orders)
        self._orders.append((order, worker))

    def _give_orders(self) -> None:
        while self._orders:
            order, worker = self._orders[0]
            try:
                order(worker)
            except BlockingIOError:
                return
            except OSError as error:
                if worker.number in self._workers:
                    self._forget(worker, f"the worker could not be ordered: {error}")
            self._orders.popleft()
        asyncio.get_running_loop().remove_writer(self._template.control)

    def _start(self, worker: WorkerProcess) -> None:
        self._template.fork(worker.number, worker.other_end)
        worker.other_end.close()

    def _stop(self, worker: WorkerProcess) -> None:
        self._template.kill(worker.number)

    async def bury(self) -> None:
        """Kill all workers that are not idle, and wait for their deaths."""
        busy = [worker for worker in self._workers.values() if worker not in self.idle]
        for worker in busy:
            self.kill(worker)
        try:
            async with asyncio.timeout(FAREWELL):
                for worker in busy:
                    await worker.dead.wait()
        except TimeoutError:  # stopped, or stuck in the system
            self._fail("the template process does not answer")

    def _listen(self) -> None:
        try:
            data = self._template.control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._died = True
            when = "" if self._ready.is_set() else " while it started (preload, warm_up)"
            self._fail(f"the template process {_ending(self._template.wait())}{when}")
            return
        self._reports += data
        while len(self._reports) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._reports)[0]
            if len(self._reports) < end:
                return
            report = pickle.loads(self._reports[LENGTH.size : end])
            del self._reports[:end]
            self._hear(report)

    def _hear(self, report: dict[str, Any]) -> None:
        if "ready" in report:
            self._ready.set()
        elif "failed" in report:
            self._fail(f"preload or warm_up failed: {report['failed']}\n\n{report['traceback']}")
        elif "forked" in report:
            if worker := self._workers.get(report["forked"]):
                worker.pid = report["pid"]
        elif worker := self._workers.get(report["died"]):
            unborn = report.get("unborn")
            how = f"could not be forked: {unborn}" if unborn else _ending(report["status"])
            self._forget(worker, f"the worker {how}")

    def _forget(self, worker: WorkerProcess, epitaph: str) -> None:
        del self._workers[worker.number]
        worker.other_end.close()
        worker.epitaph = epitaph
        if worker in self.idle:
            self.idle.remove(worker)
            worker.connection.close()
        else:  # whoever waits for its answer reads what came, and EOF
            with contextlib.suppress(OSError):
                worker.connection.shutdown(socket.SHUT_RDWR)
        worker.dead.set()

    def _fail(self, why: str) -> None:
        self._orders.clear()
        self.detach()
        self.failed = self.failed or why
        self._ready.set()
        for worker in list(self._workers.values()):
            if worker.pid is not None and worker not in self.idle:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, signal.SIGKILL)  # what it started: nobody else will
            self._forget(worker, f"the worker died with its template: {why}")

    def close(self) -> None:
        """End all processes, and remove what they kept. Blocks until they are gone."""
        self._hang_up()
        self._template.close(listens=self.fit)

    def _hang_up(self) -> None:
        self._orders.clear()
        for worker in self._workers.values():
            worker.connection.close()
            worker.other_end.close()


def _ending(status: int | None) -> str:
    """How a process ended, by its exit code or minus its signal."""
    if status is None:
        return "broke its connection"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
