"""The processes of the local executor, as the driver sees them: one template, and its workers.

A crew outlives the event loop of a job, so that the next job finds it warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambdamr.executors.local_store import LOCK, LocalStore, remove_folders
from lambdamr.executors.local_template import LENGTH, ORDER, CrewSettings
from lambdamr.retry import Broken, Lost

_BOOT = (
    "import os, sys; sys.path[:] = sys.argv[2].split(os.pathsep); "
    "from lambdamr.executors.local_template import main; main(int(sys.argv[1]))"
)
_PREFIX = f"lambdamr-{os.getuid()}-" if hasattr(os, "getuid") else ""
_FAREWELL = 5.0  # seconds that a template has to end by itself


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker, forked or about to be."""

    number: int
    connection: socket.socket
    pid: int | None = None
    tasks: int = 0
    killed_for: Exception | None = None
    status: int | None = None  # once it is dead: its exit code, or minus the signal
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    def epitaph(self) -> str:
        """What is known of its death."""
        if self.status is None:
            return "the worker's connection broke"
        if self.status < 0:
            with contextlib.suppress(ValueError):
                return f"the worker was killed by {signal.Signals(-self.status).name}"
        return f"the worker exited with status {self.status}"


class Crew:
    """A template process, its workers, and the folders of their store. Serves one job at a time."""

    def __init__(self, settings: CrewSettings) -> None:
        self.owner = os.getpid()
        self.idle: deque[WorkerProcess] = deque()
        self._settings = settings
        self._workers: dict[int, WorkerProcess] = {}
        self._numbers = 0
        self._folders, self._locks = _make_folders()
        self.store = LocalStore(self._folders, settings.inline)
        self._start()

    def _start(self) -> None:
        self._failed: str | None = None
        self._ready: asyncio.Event | None = None
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
                    os.pathsep.join(path or os.getcwd() for path in sys.path),
                ],
                pass_fds=[theirs.fileno(), *self._locks],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver
            )
        finally:
            theirs.close()
        message = pickle.dumps((self._settings, self._folders))
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
        ready = self._ready is not None
        if not ready:
            self._ready = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._control, self._listen)
        if ready:
            self._listen()  # to what was reported while nobody listened
        elif self._ready is not None:
            await self._ready.wait()
        if self._failed is not None and not ready:
            raise Broken(self._failed)

    async def restart(self) -> None:
        """Another template in the place of a dead one. What is in the store stays.

        Raises:
            Broken: it cannot start.
        """
        self._end_template()
        self._start()
        await self.attach()

    def detach(self) -> None:
        """Listen no more."""
        if self.alive:
            asyncio.get_running_loop().remove_reader(self._control)

    @property
    def alive(self) -> bool:
        """Whether the template can fork."""
        return self._failed is None

    def fork(self) -> WorkerProcess:
        """A new worker: tasks can be sent to it at once.

        Raises:
            Lost: the template is dead.
        """
        ours, theirs = socket.socketpair()
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
        """Wait for the deaths of all workers that are not idle."""
        for worker in list(self._workers.values()):
            if worker not in self.idle:
                self.kill(worker)
                await worker.dead.wait()

    def _listen(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._fail("the template process of the local executor died while it started")
            return
        *lines, rest = (self._reports + data).split(b"\n")
        self._reports = rest
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, report: dict[str, Any]) -> None:
        if "ready" in report:
            assert self._ready is not None
            self._ready.set()
        elif "failed" in report:
            self._fail(f"preload or warm_up failed: {report['failed']}\n\n{report['traceback']}")
        elif "forked" in report:
            if worker := self._workers.get(report["forked"]):
                worker.pid = report["pid"]
        elif worker := self._workers.get(report["died"]):
            worker.status = report["status"]
            self._forget(worker)

    def _forget(self, worker: WorkerProcess) -> None:
        del self._workers[worker.number]
        if worker in self.idle:
            self.idle.remove(worker)
        with contextlib.suppress(OSError):  # whoever waits for an answer reads what came, and EOF
            worker.connection.shutdown(socket.SHUT_RDWR)
        worker.dead.set()

    def _fail(self, why: str) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self._failed = self._failed or why
        assert self._ready is not None
        self._ready.set()
        for worker in list(self._workers.values()):
            self._forget(worker)

    # -- anywhere --------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes, and remove what they kept. Blocks until they are gone."""
        if self.owner != os.getpid():  # a fork of the driver: not ours to end
            return
        self._end_template()
        remove_folders(self._folders)
        for lock in self._locks:
            os.close(lock)

    def _end_template(self) -> None:
        self._control.close()
        for worker in self._workers.values():
            worker.connection.close()
        try:
            self._template.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._template.kill()
            self._template.wait()


def _make_folders() -> tuple[list[str], list[int]]:
    """New private folders, in shared memory and on disk, and the locks that say they are in use.

    First removes what processes left that were killed: folders that nobody has locked.
    """
    roots = [tempfile.gettempdir()]
    if os.access("/dev/shm", os.W_OK | os.X_OK):
        roots.insert(0, "/dev/shm")
    folders, locks = [], []
    for root in roots:
        _sweep(Path(root))
        draft = tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=root)
        locks.append(os.open(os.path.join(draft, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC))
        fcntl.flock(locks[-1], fcntl.LOCK_EX)
        folder = os.path.join(root, f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
        os.rename(draft, folder)  # only now, locked, may a sweep see it
        folders.append(folder)
    return folders, locks


def _sweep(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folders([str(folder)])
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
