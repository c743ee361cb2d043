"""A call of `map_reduce`: its arguments, checked before anything is started or sent."""

from __future__ import annotations

import importlib
import inspect
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final, Literal

from lambdamr.checks import check
from lambdamr.chunk import Chunk
from lambdamr.errors import EmptyDataError, InputTypeError
from lambdamr.executor import Executor
from lambdamr.partition import as_chunk
from lambdamr.retry import RetryPolicy

if TYPE_CHECKING:
    from lambdamr.events import Observer


class _Missing:
    def __repr__(self) -> str:
        return "<no initial value>"


MISSING: Final = _Missing()
"""The default of ``initial``: any value, None included, may be an initial one."""

DEFAULT_FAN_IN = 2
"""Children of a node of the reduction: sums of floats are then pairwise, and so most exact."""

_ORDER = "the order is map_reduce(mapper, reducer, data)"


@dataclass(repr=False, eq=False)
class Call:
    """The arguments of `lambdamr.map_reduce`; for what they mean, see there.

    Attributes:
        engine: the executor that is meant.
        chunk: all of the data, and where it is cut.

    Raises:
        InputError: one cannot be used.
    """

    mapper: Any
    reducer: Any
    data: Any
    _: KW_ONLY
    npartitions: int | None = None
    executor: Executor | str | None = None
    initial: Any = MISSING
    fan_in: int = DEFAULT_FAN_IN
    retry: RetryPolicy | None = None
    timeout: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    errors: Literal["raise", "return"] = "raise"
    max_cost: float | None = None
    progress: bool | None = None
    observers: Iterable[Observer] = ()
    engine: Executor = field(init=False)
    chunk: Chunk = field(init=False)

    def __post_init__(self) -> None:
        number, path = Real | None, str | os.PathLike | None
        functions(self.mapper, self.reducer)
        check("fan_in", self.fan_in, Integral, "a whole number from 2 up", lambda n: n >= 2)
        retry = "a RetryPolicy, say RetryPolicy(attempts=3)"
        check("retry", self.retry, RetryPolicy | None, retry)
        check("timeout", self.timeout, number, "a number of seconds above 0", _is_positive)
        place = "the path of a file on this machine, or s3://bucket/prefix"
        check("checkpoint", self.checkpoint, path, place, _is_place)
        check("errors", self.errors, str, "'raise' or 'return'", {"raise", "return"}.__contains__)
        check("max_cost", self.max_cost, number, "a number of USD above 0", _is_positive)
        check("progress", self.progress, bool | None, "True, False or None")
        self.observers = _observers(self.observers)
        executors = importlib.import_module("lambdamr.executors.names")
        self.engine = executors.resolve(self.executor)
        self.chunk = as_chunk(self.data, self.npartitions)
        if self.chunk.npartitions == 0 and self.initial is MISSING:
            raise EmptyDataError("map_reduce() of empty data with no initial value")


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


def _observers(given: Iterable[Observer]) -> list[Observer]:
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
