"""The template process of the local executor, as the driver holds it, before and after any job.

Knows no event loop: it can be started before asyncio is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

from lambdamr.executors.local_messages import LENGTH, ORDER, CrewSettings, framed

FAREWELL = 5.0
"""Seconds that processes have to end."""

_BOOT = (
    "import gc, os, sys; gc.disable(); "  # what is imported stays
    "sys.path[:] = sys.argv[2].split(os.pathsep); "
    "from lambdamr.executors.local_template import main; main(int(sys.argv[1]))"
)


class TemplateProcess:
    """A template process, the socket to it, and the folders of its workers' store.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, settings: CrewSettings) -> None:
        self.owner = os.getpid()
        self._settings = settings
        self._folders: list[str] = []
        self._locks: list[int] = []
        self._spawn()
        try:
            # Only now: what they take to import, the process takes to start.
            from lambdamr.executors.local_folders import make_folders
            from lambdamr.executors.local_store import LocalStore

            self._folders, self._locks = make_folders()
            self.store = LocalStore(self._folders, settings.inline)
            self._instruct()
        except BaseException:
            self.close()
            raise

    def restart(self) -> None:
        """Another process in the place of one that ended.

        Raises:
            OSError: it cannot be started.
        """
        self._spawn()
        self._instruct()

    def _spawn(self) -> None:
        here = ""
        with contextlib.suppress(FileNotFoundError):  # it was deleted
            here = os.getcwd()
        self.control, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-c",
                    _BOOT,
                    str(theirs.fileno()),
                    os.pathsep.join(
                        path or here
                        for path in sys.path
                        if isinstance(path, str)  # type: ignore[redundant-expr]  # not always
                    ),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()

    def _instruct(self) -> None:
        message = framed((self._settings, self._folders))
        with contextlib.suppress(ConnectionError):  # then who listens will see that it is dead
            # The locks go along: the folders are in use as long as any of the processes lives.
            socket.send_fds(self.control, [message[: LENGTH.size]], self._locks)
            self.control.sendall(message[LENGTH.size :])
        self.control.setblocking(False)

    def fork(self, number: int, connection: socket.socket) -> None:
        """Order a worker that serves a connection.

        Raises:
            BlockingIOError: the template has orders enough for now.
            OSError: it is dead.
        """
        socket.send_fds(self.control, [ORDER.pack(b"F", number)], [connection.fileno()])

    def kill(self, number: int) -> None:
        """Kill a worker; the template is its parent, so no other process can be hit.

        Raises:
            BlockingIOError: the template has orders enough for now.
        """
        try:
            self.control.send(ORDER.pack(b"K", number))
        except BlockingIOError:
            raise
        except OSError:  # it is dead, and so are they
            pass

    def wait(self) -> int | None:
        """How a template that is about to end does: its exit status, or minus its signal.

        None if it does not.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL)
        return self._process.returncode

    def end(self, *, listens: bool) -> None:
        """End the process, and with it its workers. Blocks until they are gone."""
        self.control.close()
        if not listens:
            self._kill()
        if self.wait() is None:
            self._kill()
            self._process.wait()

    def close(self, *, listens: bool = False) -> None:
        """End it, if it is ours to end, and remove what its workers kept."""
        if self.owner == os.getpid():
            from lambdamr.executors.local_folders import release_folders

            try:
                self.end(listens=listens)
            finally:  # Ctrl-C may come again
                release_folders(self._folders, self._locks)
            return
        self.control.close()
        self._process.returncode = 0  # in a fork of the driver: not ours to wait for
        for lock in self._locks:
            os.close(lock)

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # and what preload started
