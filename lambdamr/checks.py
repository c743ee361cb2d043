"""Are the arguments of a call what they should be? Each answer says what to do instead."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, Final

from lambdamr.errors import InputError, InputTypeError
from lambdamr.events import Observer
from lambdamr.retry import RetryPolicy


class _Missing:
    def __repr__(self) -> str:
        return "<no initial value>"


MISSING: Final = _Missing()
"""The default of ``initial``: any value, None included, may be an initial one."""

_ORDER = "the order is map_reduce(mapper, reducer, data)"


def functions(mapper: object, reducer: object) -> None:
    """Whether these can be a mapper and a reducer.

    Raises:
        InputTypeError: they cannot.
    """
    for name, function in (("mapper", mapper), ("reducer", reducer)):
        if not callable(function):
            raise InputTypeError(
                f"the {name} must be callable, not {type(function).__name__}; {_ORDER}"
            )
        target = inspect.unwrap(function)
        if inspect.iscoroutinefunction(target):
            raise InputTypeError(
                f"the {name} is a coroutine function, and workers await nothing; "
                f"pass a plain function (it may call asyncio.run itself)"
            )
        if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
            raise InputTypeError(
                f"the {name} is a generator function, and a generator cannot be sent back; "
                f"return a list instead of yielding"
            )
    maps, folds = _accepts(mapper, 1), _accepts(reducer, 2)
    if not (maps and folds) and _accepts(mapper, 2) and _accepts(reducer, 1):
        raise InputTypeError(f"mapper and reducer seem to be swapped: {_ORDER}")
    if not maps:
        raise InputTypeError(f"the mapper must take one argument, a partition: {_shown(mapper)}")
    if not folds:
        raise InputTypeError(f"the reducer must take two arguments, two values: {_shown(reducer)}")


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
    if isinstance(fan_in, bool) or not isinstance(fan_in, int):
        raise InputTypeError(f"fan_in must be a whole number, not {fan_in!r:.60}")
    if fan_in < 2:
        raise InputError(f"fan_in must be at least 2, not {fan_in}")
    if isinstance(retry, int):
        raise InputTypeError(f"retry must be a RetryPolicy; write RetryPolicy(attempts={retry})")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InputTypeError(f"retry must be a RetryPolicy object, not {retry!r:.60}")
    _positive("timeout", timeout, "seconds")
    _positive("max_cost", max_cost, "USD")
    if checkpoint is not None:
        if not isinstance(checkpoint, (str, os.PathLike)):
            raise InputTypeError(
                f"checkpoint must be the path of a file, not {type(checkpoint).__name__}"
            )
        if "://" in os.fspath(checkpoint):
            raise InputError(f"checkpoint must be a path on this machine, not {checkpoint!r:.80}")
    if errors not in ("raise", "return"):
        raise InputError(f"errors must be 'raise' or 'return', not {errors!r:.60}")
    if progress not in (None, True, False):
        raise InputTypeError(f"progress must be True, False or None, not {progress!r:.60}")


def observers(given: Iterable[Observer]) -> list[Observer]:
    """The observers as a list.

    Raises:
        InputTypeError: these are none.
    """
    if callable(given):
        raise InputTypeError("observers must be a list of callables; write observers=[...]")
    try:
        listed = list(given)
    except TypeError:
        raise InputTypeError(
            f"observers must be a list of callables, not {type(given).__name__}"
        ) from None
    for observer in listed:
        if not callable(observer):
            raise InputTypeError(f"an observer must be callable with one event: {observer!r:.60}")
    return listed


def _positive(name: str, value: object, unit: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputTypeError(f"{name} must be a number of {unit}, not {value!r:.60}")
    if not value > 0 or math.isinf(value):
        raise InputError(f"{name} must be a number of {unit} above 0, not {value!r}")


def _accepts(function: Callable[..., Any] | object, count: int) -> bool:
    """Whether a callable takes so many positional arguments; True if it does not tell."""
    try:
        inspect.signature(function).bind(*range(count))  # type: ignore[arg-type]
    except ValueError:  # builtins without a signature
        return True
    except TypeError:
        return False
    return True


def _shown(function: object) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}{inspect.signature(function)}"  # type: ignore[arg-type]
