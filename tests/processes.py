"""The processes that the local executor starts, as its tests see them."""

import contextlib
import os
import select
import time

import psutil

STRUGGLE = 10  # seconds a process has to be gone; far more than it needs


def crew_processes():
    """Templates and workers among the descendants of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("local_template" in word for word in process.cmdline()):
                found.append(process)
    return found


def still_alive(pids, seconds=STRUGGLE):
    """Those of the processes that do not end in this time; a zombie has ended."""
    deadline, alive = time.monotonic() + seconds, []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
                alive.append(pid)
        finally:
            os.close(fd)
    return alive
