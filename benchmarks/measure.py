"""What one sample measures, in the process that drives the peer."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks import work
from benchmarks.peers import WORKERS, Mapper, MapReduce

R = TypeVar("R")


class WrongValue(AssertionError):
    """The peer answered, but not with the value of the serial fold."""


def rate(run: MapReduce, partitions: int) -> dict[str, float]:
    """No-op partitions a second."""
    numbers = list(range(partitions))
    run(work.settle, work.add, range(2 * WORKERS))
    run(work.one, work.add, range(2 * WORKERS))
    seconds, value = _timed(lambda: run(work.one, work.add, numbers))
    _expect(value, partitions)
    return {"rate": partitions / seconds}


def array_sum_32_mb(run: MapReduce, partitions: int) -> dict[str, float]:
    """Seconds until the sum of the arrays is in the driver."""
    return _array_sum(run, partitions, work.array_32_mb, work.LENGTH_32_MB)


def array_sum_32_mib(run: MapReduce, partitions: int) -> dict[str, float]:
    """The same with arrays that glibc never takes from its heap."""
    return _array_sum(run, partitions, work.array_32_mib, work.LENGTH_32_MIB)


def _array_sum(run: MapReduce, partitions: int, array_of: Mapper, length: int) -> dict[str, float]:
    run(work.settle, work.add, range(2 * WORKERS))
    run(array_of, work.add_in_place, range(2 * WORKERS))
    seconds, total = _timed(lambda: run(array_of, work.add_in_place, range(partitions)))
    _expect(total.shape, (length,))
    _expect((float(total.min()), float(total.max())), (sum(range(partitions)),) * 2)
    return {"seconds": seconds}


def efficiency(run: MapReduce, partitions: int) -> dict[str, float]:
    """Ideal over actual time, in per cent: the ideal has every worker busy until the end."""
    run(work.settle, work.add, range(2 * WORKERS))
    seconds, value = _timed(lambda: run(work.burn, work.add, range(partitions)))
    _expect(value, partitions)
    return {"efficiency": 100 * partitions * work.CPU_SECONDS / WORKERS / seconds}


def footprint(run: MapReduce, partitions: int) -> dict[str, float]:
    """Growth of the driver's peak resident memory (MB of 10^6 bytes), and its CPU a partition."""
    numbers = list(range(partitions))
    run(work.settle, work.add, range(2 * WORKERS))
    run(work.one, work.add, range(2 * WORKERS))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before = _resident("VmRSS")
    cpu = time.process_time()
    value = run(work.one, work.add, numbers)
    cpu = time.process_time() - cpu
    _expect(value, partitions)
    return {
        "peak_mb": (_resident("VmHWM") - before) / 1e6,
        "cpu_us": cpu / partitions * 1e6,
    }


def _timed(call: Callable[[], R]) -> tuple[float, R]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def _expect(value: object, expected: object) -> None:
    if value != expected:
        raise WrongValue(f"got {value!r}, the serial fold gives {expected!r}")


def _resident(field: str) -> int:
    """Bytes, from a line such as `VmHWM:     12345 kB` of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: this workload needs Linux")
