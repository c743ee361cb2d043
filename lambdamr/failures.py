"""From a failure in a worker to the error that the user sees."""

from __future__ import annotations

from lambdamr import errors, retry
from lambdamr.travel.tracebacks import put_together
from lambdamr.wire import Failure, decode

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


def describe(failure: Failure) -> str:
    """What happened in the worker, with its traceback."""
    traceback = put_together(failure.traceback)
    if failure.kind != "loading":
        return traceback
    return (
        f"a worker cannot load the functions or the data: {failure.message}. Install what they "
        f"import where the workers run.\n\n{traceback}"
    )


def partition_error(
    kind: str,
    lo: int,
    hi: int,
    attempts: int,
    npartitions: int,
    failure: Failure | retry.TaskFailed,
) -> errors.PartitionError:
    """The error for partitions that failed for good, with the worker's exception as its cause."""
    error, where = _KINDS[kind]
    advice = _ADVICE.get(kind, "")
    which = f"partition {lo}" if hi - lo == 1 else f"partitions {lo} to {hi - 1}"
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    message = f"{which} of {npartitions} failed after {times}{where}: "
    if isinstance(failure, Failure):
        remote = describe(failure)
        message += f"{failure.message}{advice}\n\nIn the worker:\n{remote.rstrip()}"
        made = error(message, lo, hi, attempts, remote)
        made.__cause__ = _exception(failure)
    else:
        made = error(f"{message}{failure}{advice}", lo, hi, attempts)
        made.__cause__ = failure
    return made


def _exception(failure: Failure) -> BaseException | None:
    """The worker's exception; None if it loads only there: the text has to do."""
    try:
        exception = None if failure.exception is None else decode(failure.exception)
    except Exception:
        return None
    return exception if isinstance(exception, BaseException) else None
