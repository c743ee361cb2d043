"""From a failure in a worker to the error that the user sees."""

from __future__ import annotations

from lambdamr import errors
from lambdamr.retry import TaskFailed
from lambdamr.travel.answers import describe, exception_of
from lambdamr.wire import Failure

_KINDS: dict[str, tuple[type[errors.PartitionError], str]] = {
    "mapper": (errors.MapperError, " in the mapper"),
    "reducer": (errors.ReducerError, " in the reducer"),
    "result": (errors.ResultError, " in sending back the value"),
    "lost": (errors.WorkerLostError, ""),
    "memory": (errors.OutOfMemoryError, ""),
    "timeout": (errors.PartitionTimeoutError, ""),
}

_ADVICE = {
    "result": ". Return plain data, arrays or picklable objects from the mapper and the reducer",
    "lost": ". If it crashes each time, run it with executor='inline' under a debugger",
    "memory": ". Cut the data into more partitions, or give the workers more memory",
    "timeout": ". Cut the data into more partitions, or raise timeout",
}


def partition_error(
    failure: Failure | TaskFailed, lo: int, hi: int, attempts: int, npartitions: int
) -> errors.PartitionError:
    """The error for partitions that failed for good, with the worker's exception as its cause."""
    error, where = _KINDS[failure.kind]
    which = f"partition {lo}" if hi - lo == 1 else f"partitions {lo} to {hi - 1}"
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    message = f"{which} of {npartitions} failed after {times}{where}: {failure}"
    message += _ADVICE.get(failure.kind, "")
    remote = describe(failure)
    if remote:
        message += f"\n\nIn the worker:\n{remote.rstrip()}"
    made = error(message, lo, hi, attempts, remote)
    made.__cause__ = failure if isinstance(failure, TaskFailed) else exception_of(failure)
    return made
