"""What workers send back: values of any class, and exceptions as data."""

from __future__ import annotations

import pickle
from typing import Any

from lambdamr.travel.tracebacks import put_together, take_apart
from lambdamr.wire import Buffer, Failure, FailureKind, decode, encode


def encode_value(value: Any) -> list[Buffer]:
    """Plain pickle where it will do; `pickler` for classes and functions of ``__main__``."""
    try:
        return encode(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        from lambdamr.travel import pickler

        return encode(value, pickler)


def failure_of(kind: FailureKind, lo: int, hi: int, error: BaseException) -> Failure:
    """An exception that was caught in a worker, as data."""
    if isinstance(error, MemoryError):
        kind = "memory"
    blocks = take_apart(error)
    # Some libraries teach pickle to take frames along with exceptions.
    cause: BaseException | None = error
    while cause is not None and cause.__traceback__ is not None:  # a loop ends, too
        cause.__traceback__, cause = None, cause.__cause__ or cause.__context__
    try:
        exception = b"".join(encode_value(error))
    except Exception:
        exception = None
    types = tuple(f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__)
    return Failure(kind, lo, hi, blocks[0][2].strip(), types, blocks, exception)


def exception_of(failure: Failure) -> BaseException | None:
    """The worker's exception; None if it loads only there: the text has to do."""
    try:
        exception = None if failure.exception is None else decode(failure.exception)
    except Exception:
        return None
    return exception if isinstance(exception, BaseException) else None


def describe(failure: object) -> str:
    """What happened in the worker, with its traceback; nothing if it did not say."""
    if not isinstance(failure, Failure):
        return ""
    traceback = put_together(failure.traceback)
    if failure.kind != "loading":
        return traceback
    return (
        f"a worker cannot load the functions or the data: {failure.message}. Install what they "
        f"import where the workers run.\n\n{traceback}"
    )
