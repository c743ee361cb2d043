"""The mappers and reducers that travel to the workers: nothing here knows who runs them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# The two readings of "32 MB" lie on either side of glibc's largest mmap threshold, 32 MiB. Below
# it, a fold in one process gets freed pages back; above it, each array is mapped and faulted in
# anew, which about doubles the CPU of the serial fold. See README.
LENGTH_32_MB = 4_000_000
LENGTH_32_MIB = 4 * 1024 * 1024

CPU_SECONDS = 0.050


def one(partition: object) -> int:
    """Does nothing, and answers 1, so that the sum counts the partitions."""
    return 1


def add(a: int, b: int) -> int:
    return a + b


def array_32_mb(partition: int) -> NDArray[numpy.float64]:
    """A fresh array of 32,000,000 bytes, every element the partition's number."""
    import numpy  # here, so that a worker of the other workloads never pays for it

    return numpy.full(LENGTH_32_MB, float(partition))


def array_32_mib(partition: int) -> NDArray[numpy.float64]:
    """The same of 33,554,432 bytes."""
    import numpy

    return numpy.full(LENGTH_32_MIB, float(partition))


def add_in_place(a: NDArray[numpy.float64], b: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    a += b
    return a


def burn(partition: object) -> int:
    """Keeps a core busy for 50 ms of this thread's own CPU time, then answers 1."""
    end = time.thread_time() + CPU_SECONDS
    while time.thread_time() < end:
        pass
    return 1


def settle(partition: object) -> int:
    """Long enough that one worker cannot take every warm-up partition before the other is up."""
    time.sleep(0.02)
    return 1
