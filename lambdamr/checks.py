"""Are the arguments of a call what they should be? Each answer says what to do instead."""

from __future__ import annotations

import inspect
import math
import os
import reprlib
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final

from lambdamr.errors import InputError, InputTypeError
from lambdamr.retry import RetryPolicy

if TYPE_CHECKING:
    from lambdamr.events import Observer


class _Missing:
    def __repr__(self) -> str:
        return "<no initial value>"


MISSING: Final = _Missing()
"""The default of ``initial``: any value, None included, may be an initial one."""

_ORDER = "the order is map_reduce(mapper, reducer, data)"


def check(
    name: str, value: object, kind: Any, what: str, accepts: Callable[[Any], object] | None = None
) -> None:
    """Whether an argument is of a kind (a class, or several), and accepted.

    Raises:
        InputTypeError: it is of another kind.
        InputError: it is of this kind, but not accepted.
    """
    message = f"{name} must be {what}, not {reprlib.repr(value)}"
    if not isinstance(value, kind) or (isinstance(value, bool) and kind != bool | None):
        raise InputTypeError(message)
    if accepts is not None and not accepts(value):
        raise InputError(message)


def count(name: str, value: object) -> int | None:
    """The value, if it is None or a whole number of at least 1.

    Raises:
        InputError: it is neither.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"{name} must be a whole number, not {value!r:.60}")
    if value < 1:
        raise InputError(f"{name} must be at least 1, not {value}")
    return value


def functions(mapper: Any, reducer: Any) -> None:
    """Whether these can be a mapper and a reducer.

    Raises:
        InputError: they cannot.
    """
    for name, function in (("the mapper", mapper), ("the reducer", reducer)):
        check(name, function, Callable, f"callable ({_ORDER})")
        check(
            name,
            function,
            object,
            "a plain function: nobody awaits it, and a generator cannot be sent back "
            "(call asyncio.run in it; return a list instead of yielding)",
            lambda function: not _is_lazy(function),
        )
    if not (_accepts(mapper, 1) and _accepts(reducer, 2)):
        raise InputTypeError(
            f"the mapper must take one argument, a partition, and the reducer two, values of the "
            f"mapper; these are {_shown(mapper)} and {_shown(reducer)}; {_ORDER}"
        )


def options(
    fan_in: object,
    retry: object,
    timeout: object,
    checkpoint: object,
    errors: object,
    max_cost: object,
    progress: object,
) -> None:
    """Whether the other arguments of a call can be used.

    Raises:
        InputError: one cannot.
    """
    number, path = Real | None, str | os.PathLike | None
    check("fan_in", fan_in, Integral, "a whole number from 2 up", lambda n: n >= 2)
    check("retry", retry, RetryPolicy | None, "a RetryPolicy, say RetryPolicy(attempts=3)")
    check("timeout", timeout, number, "a number of seconds above 0", _is_positive)
    place = "the path of a file on this machine, or s3://bucket/prefix"
    check("checkpoint", checkpoint, path, place, _is_place)
    check("errors", errors, str, "'raise' or 'return'", {"raise", "return"}.__contains__)
    check("max_cost", max_cost, number, "a number of USD above 0", _is_positive)
    check("progress", progress, bool | None, "True, False or None")


def observers(given: Iterable[Observer]) -> list[Observer]:
    """The observers as a list.

    Raises:
        InputError: these are none.
    """
    check("observers", given, Iterable, "a list of callables, observers=[...]")
    listed = list(given)
    for observer in listed:
        check(
            "an observer",
            observer,
            Callable,
            "a plain function of one event, or an object that is called like one",
            lambda o: _accepts(o, 1) and not (isinstance(o, type) or _is_lazy(o)),
        )
    return listed


def _is_positive(number: Any) -> bool:
    return number is None or 0 < number < math.inf


def _is_place(path: str | os.PathLike[str] | None) -> bool:
    name = "checkpoint" if path is None else os.fsdecode(path)
    if "://" in name:
        bucket, _, prefix = name.removeprefix("s3://").partition("/")
        return name.startswith("s3://") and bool(bucket and prefix.strip("/"))
    return name != "" and not os.path.isdir(name)


def _is_lazy(function: Any) -> bool:
    """Whether a function, or an object by its ``__call__``, does nothing when it is called."""
    tests = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    return any(test(part) for part in (function, type(function).__call__) for test in tests)


def _signature(function: Any) -> inspect.Signature | None:
    """The signature (of a decorator, not of what it wraps); None if it does not tell."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):  # a builtin
        return None


def _accepts(function: Any, count: int) -> bool:
    """Whether a callable takes so many positional arguments."""
    signature = _signature(function)
    try:
        return signature is None or bool(signature.bind(*range(count)))
    except TypeError:
        return False


def _shown(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}{_signature(function) or '(...)'}"
