"""The template process of the local executor: imports once, then forks every worker from itself.

It has one thread and does nothing but wait: for orders of the driver (fork, kill) and for the
deaths of workers, which it reports. When a worker is dead, it kills what that one started. When the
driver is gone, it kills all of them, removes the folders of the store, and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from lambdamr.executors.local_messages import (
    LENGTH,
    ORDER,
    CrewSettings,
    exactly,
    framed,
    receive,
)
from lambdamr.executors.local_store import LocalStore
from lambdamr.worker import Worker

_LOCKS = 2  # folders, at most
_PARENT_CHECK = 2.0  # seconds; a driver that forked may leave its end of the socket to a child
_FAREWELL = 5  # seconds that what modules registered to run at exit may take
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)

_MALLOC = {
    "M_TRIM_THRESHOLD": (-1, 128 << 20),
    "M_TOP_PAD": (-2, 64 << 20),
    "M_MMAP_THRESHOLD": (-3, 64 << 20),
}
"""glibc, mallopt(3): number of a parameter, and bytes. What a worker frees it keeps until its job
ends. By default an array over 32 MiB goes back to the system at once, and the next one is faulted
in anew: 32 of them, made and summed, took 0.18 s in the place of 0.15 (2026-11-25)."""


def main(control_fd: int) -> None:
    """Entry point of the template process."""
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # threads of the driver may block signals
    control = socket.socket(fileno=control_fd)
    try:
        length, locks, _, _ = socket.recv_fds(control, LENGTH.size, _LOCKS)
        settings, folders = pickle.loads(exactly(control, *LENGTH.unpack(length)))
    except (EOFError, ConnectionError, struct.error):  # the driver is gone already
        return
    for lock in locks:
        os.set_inheritable(lock, False)  # a daemon that a mapper starts uses no folder
    if os.getppid() != parent:
        return
    store = LocalStore(folders, settings.inline)
    try:
        importlib.import_module("cloudpickle")  # functions by value need it: once, for all workers
        gc.enable()
        if settings.preload or settings.warm_up:
            from lambdamr.executors.local_guard import guarded

            with guarded(control, parent, store):
                _prepare(settings)
            gc.collect()
    except BaseException as error:  # noqa: BLE001  # sys.exit too: the driver has to hear of it
        import traceback

        text = "".join(traceback.format_exception(error))
        _report(control, failed=f"{type(error).__name__}: {error}", traceback=text)
    else:
        _keep_freed_memory()
        gc.freeze()  # so that the collector of a worker does not copy the template's pages
        template = _Template(control, parent, store)  # its sockets end with the process
        template.run()
    _leave()


def _prepare(settings: CrewSettings) -> None:
    pid = os.getpid()
    try:
        for name in settings.preload:
            importlib.import_module(name)
        if settings.warm_up is not None:
            pickle.loads(settings.warm_up)()
    finally:
        if os.getpid() != pid:  # a child that it forked came back: it is no template
            os._exit(0)
    _flush()  # or every worker prints again what was printed here


def _leave() -> NoReturn:
    """End, with all that preload or warm_up started: threads, and the processes of this group."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_FAREWELL)
    atexit._run_exitfuncs()
    _flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


class _Template:
    def __init__(self, control: socket.socket, parent: int, store: LocalStore) -> None:
        self._control = control
        self._parent = parent
        self._pid = os.getpid()
        self._store = store
        self._numbers: dict[int, int] = {}  # pid -> number
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a warm-up may have blocked SIGCHLD
        self._wakeup, wakeup_end = socket.socketpair()
        for end in (self._wakeup, wakeup_end):
            end.setblocking(False)
        self._wakeup_end = wakeup_end
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        _report(self._control, ready=os.getpid())
        sockets = [self._control, self._wakeup]
        while os.getppid() == self._parent:
            readable, _, _ = select.select(sockets, [], [], _PARENT_CHECK)
            if self._wakeup in readable:
                self._wakeup.recv(4096)
                self._bury()
            if self._control in readable and not self._obey():
                break
        self._end()

    def _obey(self) -> bool:
        """Carry out one order; False if the driver is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
        except ConnectionError:
            return False
        if len(data) < ORDER.size:
            return False
        order, number = ORDER.unpack(data)
        if order == b"F":
            self._fork(number, fds[0])
        else:
            for pid, known in self._numbers.items():
                if known == number:
                    _kill(pid)
        return True

    def _fork(self, number: int, fd: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(fd)
            _report(self._control, died=number, status=None, unborn=error.strerror)
            return
        if pid == 0:
            self._become_worker(number, fd)
        os.close(fd)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here and in the child: whoever comes first
        self._numbers[pid] = number
        _report(self._control, forked=number, pid=pid)

    def _become_worker(self, number: int, fd: int) -> None:
        status = 1
        try:
            os.setpgid(0, 0)
            _die_with_template()
            if os.getppid() != self._pid:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._control, self._wakeup, self._wakeup_end):
                end.close()
            if "numpy.random" in sys.modules:  # or all workers draw the same numbers
                sys.modules["numpy.random"].seed()
            with socket.socket(fileno=fd) as connection:
                serve(connection, Worker(self._store, str(os.getpid())))
            status = 0
        except BaseException:  # noqa: BLE001  # nothing may get back into the template's loop
            import traceback

            traceback.print_exc()
        finally:
            _flush()
            os._exit(status)

    def _bury(self) -> None:
        while self._numbers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                _kill(pid, reaped=True)
                _report(self._control, died=number, status=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        for pid in self._numbers:
            _kill(pid)
        for pid in self._numbers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._store.remove_folders()


def serve(connection: socket.socket, worker: Worker) -> None:
    """Evaluate tasks until the driver closes the connection."""
    pid = os.getpid()
    while True:
        try:
            task = pickle.loads(receive(connection))
        except (EOFError, ConnectionError):
            return
        if task is None:  # the job is over
            worker.end_job()
            _give_back_freed_memory()
            continue
        answer = framed(worker.evaluate(task))
        if os.getpid() != pid:  # a child that the mapper forked came back from it: the parent
            os._exit(0)  # answers, and a second answer would be taken for the next task's
        _flush()
        try:
            connection.sendall(answer)
        except ConnectionError:
            return
        worker.forget()  # only now: it takes time


def _report(control: socket.socket, **report: object) -> None:
    with contextlib.suppress(ConnectionError):
        control.sendall(framed(report))


def _kill(pid: int, *, reaped: bool = False) -> None:
    """Kill a worker and the processes that it started."""
    for kill in (os.killpg,) if reaped else (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _keep_freed_memory() -> None:
    if any(name.startswith("MALLOC_") for name in os.environ):  # the user knows better
        return
    with contextlib.suppress(AttributeError):  # not glibc
        for number, size in _MALLOC.values():
            _libc().mallopt(number, size)


def _give_back_freed_memory() -> None:
    with contextlib.suppress(AttributeError):
        _libc().malloc_trim(0)


def _flush() -> None:
    """Print what was printed, by C and C++ too: no process here ends in the usual way."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    _libc().fflush(None)


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)


def _die_with_template() -> None:
    """Be killed when the parent dies, or its one thread that forks. Only Linux has that."""
    if sys.platform.startswith("linux"):
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
