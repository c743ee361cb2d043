"""Watches over a template process while it cannot listen: what it prepares may take long, or hang.

`PR_SET_PDEATHSIG` would not do: it counts the death of the thread of the driver that started the
template, and knows nothing of what a warm-up starts.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator

from lambdamr.executors.local_store import LocalStore

_CHECK = 2000  # ms between two looks at the processes, where the system does not tell of their ends
_AFTER = 1000  # ms after the template's death, in which its driver may die of the same cause


@contextlib.contextmanager
def guarded(control: socket.socket, driver: int, store: LocalStore) -> Iterator[None]:
    """Should the driver die meanwhile, so do this process and what it started.

    If this process dies, so does what it started: its driver hears of it when nobody is left that
    has inherited its end of ``control``.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            _start_guard((control, ours), theirs, driver, store)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it is dead
                ours.send(b".")


def _start_guard(
    others: tuple[socket.socket, ...], told: socket.socket, driver: int, store: LocalStore
) -> None:
    """A process that is no child of this one: a warm-up may wait for all children."""
    template = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(ChildProcessError):  # who ignores SIGCHLD need not wait
            os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        for other in others:  # of whose ends nobody would hear while they are open here
            other.close()
        if os.fork() == 0 and not _is_prepared(driver, template, told):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(template, signal.SIGKILL)  # what it started, if it is dead
            if _ends(driver, _AFTER):
                store.remove_folders()
    finally:
        os._exit(0)


def _is_prepared(driver: int, template: int, told: socket.socket) -> bool:
    """Wait until the template is prepared; False if it, or the driver, is dead before."""
    poller = select.poll()
    poller.register(told, select.POLLIN)
    for pid in (driver, template):
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, or not Linux
            poller.register(os.pidfd_open(pid), select.POLLIN)
    while _runs(driver) and _runs(template):
        ready = [fd for fd, _ in poller.poll(_CHECK)]
        if told.fileno() in ready:
            if told.recv(1):
                return True
            poller.unregister(told)  # closed by the template's death, or by what it prepares
        elif ready:
            return False
    return False


def _ends(pid: int, within: int) -> bool:
    """Whether a process is dead, now or after so many ms."""
    with contextlib.suppress(OSError, AttributeError):
        poller = select.poll()
        poller.register(os.pidfd_open(pid), select.POLLIN)
        return bool(poller.poll(within))
    return not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
