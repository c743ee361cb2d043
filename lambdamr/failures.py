"""From a failure in a worker to the error that the user sees."""

from __future__ import annotations

from lambdamr import errors, retry
from lambdamr.remote import put_together
from lambdamr.wire import Failure, decode

_ERRORS: dict[str, type[errors.PartitionError]] = {
    "mapper": errors.MapperError,
    "reducer": errors.ReducerError,
    "result": errors.ResultError,
    "lost": errors.WorkerLostError,
    "memory": errors.OutOfMemoryError,
    "timeout": errors.PartitionTimeoutError,
}

_ADVICE = {
    "mapper": "",
    "reducer": "",
    "result": "Return plain data, arrays or picklable objects from the mapper and the reducer.",
    "lost": "If it crashes each time, run it with executor='inline' under a debugger.",
    "memory": "Cut the data into more partitions, or give the workers more memory.",
    "timeout": "Cut the data into more partitions, or raise timeout.",
}

_WHERE = {"mapper": "the mapper", "reducer": "the reducer", "result": "sending back the value"}


def describe(failure: Failure) -> str:
    """What happened in the worker, with its traceback."""
    if failure.kind == "loading":
        return (
            f"a worker cannot load the functions or the data: {failure.message}. Install what they "
            f"import where the workers run.\n\n{put_together(failure.traceback)}"
        )
    return put_together(failure.traceback)


def partition_error(
    kind: str,
    lo: int,
    hi: int,
    attempts: int,
    npartitions: int,
    failure: Failure | retry.TaskFailed,
) -> errors.PartitionError:
    """The error for partitions that failed for good, with the worker's exception as its cause."""
    which = f"partition {lo}" if hi - lo == 1 else f"partitions {lo} to {hi - 1}"
    message = f"{which} of {npartitions} failed after {attempts} attempt{'s'[: attempts > 1]}"
    remote = ""
    cause: BaseException | None = failure if isinstance(failure, retry.TaskFailed) else None
    if isinstance(failure, Failure):
        remote = describe(failure)
        message += f" in {_WHERE.get(kind, 'the worker')}: {failure.message}"
        cause = _exception(failure)
    else:
        message += f": {failure}"
    if _ADVICE[kind]:
        message += f". {_ADVICE[kind]}"
    if remote:
        message += f"\n\nIn the worker:\n{remote.rstrip()}"
    error = _ERRORS[kind](message, lo, hi, attempts, remote)
    error.__cause__ = cause
    return error


def _exception(failure: Failure) -> BaseException | None:
    if failure.exception is None:
        return None
    try:
        exception = decode(failure.exception)
    except Exception:  # its class unpickles only in the worker: the text has to do
        return None
    return exception if isinstance(exception, BaseException) else None
