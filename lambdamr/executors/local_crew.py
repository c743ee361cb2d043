"""The processes of the local executor, as the driver sees them: one template, and its workers.

A crew outlives the event loop of a job, so that the next job finds it warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from lambdamr.executors.local_folders import make_folders, release_folders
from lambdamr.executors.local_store import LocalStore
from lambdamr.executors.local_template import LENGTH, ORDER, CrewSettings
from lambdamr.retry import Broken, Lost, TaskFailed

_BOOT = (
    "import os, sys; sys.path[:] = sys.argv[2].split(os.pathsep); "
    "from lambdamr.executors.local_template import main; main(int(sys.argv[1]))"
)
_FAREWELL = 5.0  # seconds that processes have to end


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker, forked or about to be."""

    number: int
    connection: socket.socket
    pid: int | None = None
    tasks: int = 0
    killed_for: TaskFailed | None = None
    epitaph: str = ""  # once it is dead
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class Crew:
    """A template process, its workers, and the folders of their store. Serves one job at a time."""

    def __init__(self, settings: CrewSettings) -> None:
        self.owner = os.getpid()
        self.idle: deque[WorkerProcess] = deque()
        self._settings = settings
        self._workers: dict[int, WorkerProcess] = {}
        self._numbers = 0
        self._folders, self._locks = make_folders()
        self.store = LocalStore(self._folders, settings.inline)
        try:
            self._start()
        except BaseException:
            release_folders(self._folders, self._locks)
            raise

    def _start(self) -> None:
        self.failed = ""
        self._ready = asyncio.Event()
        self._reports = bytearray()
        self._control, theirs = socket.socketpair()
        try:
            # The locks go along: the folders are in use as long as any of the processes lives.
            self._template = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-c",
                    _BOOT,
                    str(theirs.fileno()),
                    os.pathsep.join(
                        path or os.getcwd()
                        for path in sys.path
                        if isinstance(path, str)  # type: ignore[redundant-expr]  # not always
                    ),
                ],
                pass_fds=[theirs.fileno(), *self._locks],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver
            )
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        message = pickle.dumps((self._settings, self._folders, self._locks))
        with contextlib.suppress(ConnectionError):  # then `attach` will see that it is dead
            self._control.sendall(LENGTH.pack(len(message)) + message)
        self._control.setblocking(False)

    # -- in an event loop ------------------------------------------------------------------------

    async def attach(self) -> None:
        """Listen to the template, in the running loop, and wait until it is ready.

        Raises:
            Broken: it cannot start.
        """
        for worker in self._workers.values():
            worker.dead = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._control, self._listen)
        if self._ready.is_set():
            self._listen()  # to what was reported while nobody listened
            return
        await self._ready.wait()
        if not self.alive:
            raise Broken(self.failed)

    async def restart(self) -> None:
        """Another template in the place of a dead one. What is in the store stays.

        Raises:
            Broken: it cannot start.
        """
        self._end_template()
        try:
            self._start()
        except OSError as error:
            self.failed = f"the template process cannot be started again: {error}"
            raise Broken(self.failed) from error
        await self.attach()

    def detach(self) -> None:
        """Listen no more."""
        if self.alive:
            asyncio.get_running_loop().remove_reader(self._control)

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
            Lost: the template is dead.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise Lost(f"no worker can be connected: {error}") from error
        ours.setblocking(False)
        self._numbers += 1
        worker = WorkerProcess(self._numbers, ours)
        self._workers[worker.number] = worker
        try:
            socket.send_fds(self._control, [ORDER.pack(b"F", worker.number)], [theirs.fileno()])
        except OSError as error:
            del self._workers[worker.number]
            ours.close()
            raise Lost(f"the template process is gone: {error}") from error
        finally:
            theirs.close()
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """Kill a worker; the template is its parent, so no other process can be hit."""
        with contextlib.suppress(OSError):
            self._control.send(ORDER.pack(b"K", worker.number))

    async def bury(self) -> None:
        """Kill all workers that are not idle, and wait for their deaths."""
        busy = [worker for worker in self._workers.values() if worker not in self.idle]
        for worker in busy:
            self.kill(worker)
        try:
            async with asyncio.timeout(_FAREWELL):
                for worker in busy:
                    await worker.dead.wait()
        except TimeoutError:  # stopped, or stuck in the system
            self._fail("the template process does not answer")

    def _listen(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._template.wait(_FAREWELL)  # it is about to be dead, if it is not
            when = "" if self._ready.is_set() else " while it started (preload, warm_up)"
            self._fail(f"the template process {_ending(self._template.returncode)}{when}")
            return
        *lines, rest = (self._reports + data).split(b"\n")
        self._reports = rest
        for line in lines:
            self._hear(json.loads(line))

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
        worker.epitaph = epitaph
        if worker in self.idle:
            self.idle.remove(worker)
            worker.connection.close()
        else:  # whoever waits for its answer reads what came, and EOF
            with contextlib.suppress(OSError):
                worker.connection.shutdown(socket.SHUT_RDWR)
        worker.dead.set()

    def _fail(self, why: str) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self.failed = self.failed or why
        self._ready.set()
        for worker in list(self._workers.values()):
            if worker.pid is not None and worker not in self.idle:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, signal.SIGKILL)  # what it started: nobody else will
            self._forget(worker, f"the worker died with its template: {why}")

    # -- anywhere --------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes, and remove what they kept. Blocks until they are gone."""
        if self.owner == os.getpid():
            self._end_template()
            release_folders(self._folders, self._locks)
            return
        self._hang_up()  # in a fork of the driver: they are not ours to end
        self._template.returncode = 0  # nor to wait for
        for lock in self._locks:
            os.close(lock)

    def _hang_up(self) -> None:
        self._control.close()
        for worker in self._workers.values():
            worker.connection.close()

    def _end_template(self) -> None:
        self._hang_up()
        if not self.fit:  # it does not listen
            self._kill_template()
        try:
            self._template.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._kill_template()
            self._template.wait()

    def _kill_template(self) -> None:
        if self._template.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._template.pid, signal.SIGKILL)  # and what preload started


def _ending(status: int | None) -> str:
    """How a process ended, by its exit code or minus its signal."""
    if status is None:
        return "broke its connection"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
