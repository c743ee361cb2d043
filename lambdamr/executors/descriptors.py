"""The limit of open files: each connection to a worker takes one."""

from __future__ import annotations

import contextlib

_DESCRIPTORS = 256  # of a process, for other things than connections


def allow_connections(number: int) -> None:
    """Let this process have so many at once, as far as it may say so itself.

    The soft limit of open files is 1,024 or 256 on most systems. It stays raised: another job may
    need it when this one ends.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has one more limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
