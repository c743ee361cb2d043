"""A function in a child process: a crash of C++ is an answer, and the next range starts clean.

A child is forked from a process that has compiled the graph. That costs some 4 ms for a process of
550 MB (Linux, measured 2026-11), and gives each range a graph that has never run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import NoReturn

from lambdamr.wire import Buffer

_SIZE = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}
)
"""Signals that the user's code brings on itself; trying again would only crash again."""


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
    answer = bytearray()
    try:
        with open(ours, "rb", buffering=0) as pipe:
            answer = _read(pipe.readinto, _SIZE.size)
            if len(answer) == _SIZE.size:
                size = _SIZE.unpack(answer)[0]
                answer = _read(pipe.readinto, size)
                if len(answer) == size:
                    return answer
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        raise Crashed(f"the process ended with status {code}: does the code call exit()?")
    number = signal.Signals(-code)
    if number in CRASHES:
        raise Crashed(f"the C++ code crashed with {number.name} ({signal.strsignal(number)})")
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(parent, number)
    raise Crashed(f"the process was killed by {number.name}")


def _be_child(parent: int, function: Callable[[], list[Buffer]], pipe: int) -> NoReturn:
    status = 1
    try:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for number in CRASHES:  # not ROOT's handlers, which print for seconds
            signal.signal(number, signal.SIG_DFL)
        frame = [memoryview(part).cast("B") for part in function()]
        with open(pipe, "wb", buffering=0) as file:
            for part in (memoryview(_SIZE.pack(sum(map(len, frame)))), *frame):
                view = part
                while view:
                    view = view[file.write(view) :]
        status = 0
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            libc.fflush(None)
        os._exit(status)


def _read(readinto: Callable[[memoryview], int], size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        count = readinto(view[at:])
        if not count:
            return data[:at]
        at += count
    return data
