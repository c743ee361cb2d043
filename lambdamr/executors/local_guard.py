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


@contextlib.contextmanager
def guarded(control: socket.socket, driver: int, store: LocalStore) -> Iterator[None]:
    """Should the driver die meanwhile, so do this process and what it started."""
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
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        for other in others:  # of whose ends nobody would hear while they are open here
            other.close()
        if os.fork() == 0 and _driver_dies_first(driver, template, told):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(template, signal.SIGKILL)
            store.remove_folders()
    finally:
        os._exit(0)


def _driver_dies_first(driver: int, template: int, told: socket.socket) -> bool:
    """Wait until the template is prepared or dead, or the driver is dead."""
    poller = select.poll()
    poller.register(told, select.POLLIN)
    ends = {told.fileno()}  # of the watch
    with contextlib.suppress(OSError, AttributeError):  # an old kernel, or not Linux
        poller.register(os.pidfd_open(driver), select.POLLIN)
        ends.add(of_template := os.pidfd_open(template))
        poller.register(of_template, select.POLLIN)
    while _runs(driver) and _runs(template):
        if ready := poller.poll(_CHECK):
            return ends.isdisjoint(fd for fd, _ in ready)
    return not _runs(driver)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
