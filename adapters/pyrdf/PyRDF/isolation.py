"""A function in a child process: a crash of C++ is an answer, and the next range starts clean.

A child is forked from a process that has compiled the graph. That costs some 4 ms for a process of
550 MB (Linux, measured 2026-11), and gives each range a graph that has never run.

Where the user has C++, libraries or a function loaded, a deputy compiles the graph and forks in
place of the worker: what it has loaded goes with it, and the worker has another one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from lambdamr.wire import Buffer

_SIZE = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}
)
"""Signals that the user's code brings on itself; trying again would only crash again."""


OUTDATED = 75  # EX_TEMPFAIL of sysexits.h
"""The status with which a process ends so that a fresh one takes its place."""


class Outdated(Exception):
    """A deputy ended with `OUTDATED`."""


class Crashed(Exception):
    """The child died of one of `CRASHES`, or ended without an answer."""


def threads() -> int:
    """How many threads this process has; forking is safe with one alone. 0 if nobody knows."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def in_child(function: Callable[[], list[Buffer]]) -> bytearray:
    """What a function answers that is called in a child of this process.

    The function must not raise. If the child is killed from outside (SIGKILL, by the out-of-memory
    killer or an operator), so is this process: whoever runs it knows what to do about that.

    Raises:
        Crashed: says how.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _be_child(parent, function, theirs)
    os.close(theirs)
    try:
        with open(ours, "rb", buffering=0) as pipe:
            answer = _read_frame(pipe)
            if answer is not None:
                return answer
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    raise _fate(os.waitstatus_to_exitcode(status))


class Deputy:
    """A child of this process that stays, to answer one request after the other.

    Args:
        serve: answers a request, in the child; it must not raise.
    """

    def __init__(self, serve: Callable[[bytearray], list[Buffer]]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            _be_deputy(parent, serve, theirs.makefile("rwb", buffering=0))
        theirs.close()
        self._line = ours.makefile("rwb", buffering=0)
        ours.close()  # the file keeps it

    def ask(self, request: list[Buffer]) -> bytearray:
        """What it answers. If it is killed from outside, so is this process, as in `in_child`.

        Raises:
            Outdated: it wants to be replaced.
            Crashed: says how.
        """
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _write_frame(self._line, request)
                answer = _read_frame(self._line)
                if answer is not None:
                    return answer
        except BaseException:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            raise
        self._line.close()
        code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        raise Outdated if code == OUTDATED else _fate(code)


def _fate(code: int) -> Crashed:
    """How a child ended that did not answer; this process shares it if that came from outside."""
    if code >= 0:
        return Crashed(f"the process ended with status {code}: does the code call exit()?")
    number = signal.Signals(-code)
    if number in CRASHES:
        return Crashed(f"the C++ code crashed with {number.name} ({signal.strsignal(number)})")
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    return Crashed(f"the process was killed by {number.name}")


def _be_child(parent: int, function: Callable[[], list[Buffer]], pipe: int) -> NoReturn:
    def run() -> None:
        with open(pipe, "wb", buffering=0) as file:
            _write_frame(file, function())

    _be(parent, run)


def _be_deputy(parent: int, serve: Callable[[bytearray], list[Buffer]], line: Any) -> NoReturn:
    def run() -> None:
        while (request := _read_frame(line)) is not None:
            _write_frame(line, serve(request))

    _be(parent, run)


def _be(parent: int, run: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for number in CRASHES:  # not ROOT's handlers, which print for seconds
            signal.signal(number, signal.SIG_DFL)
        run()
        status = 0
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            libc.fflush(None)
        os._exit(status)


def _write_frame(file: Any, frame: list[Buffer]) -> None:
    views = [memoryview(part).cast("B") for part in frame]
    for part in (memoryview(_SIZE.pack(sum(map(len, views)))), *views):
        view = part
        while view:
            view = view[file.write(view) :]


def _read_frame(file: Any) -> bytearray | None:
    """None: it ended before."""
    head = _read(file, _SIZE.size)
    if len(head) < _SIZE.size:
        return None
    size = _SIZE.unpack(head)[0]
    frame = _read(file, size)
    return frame if len(frame) == size else None


def _read(file: Any, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        count = file.readinto(view[at:])
        if not count:
            return data[:at]
        at += count
    return data
