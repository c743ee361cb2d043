"""cloudpickle, and what it leaves out: cached functions and properties, and where code comes from.

It also notes the modules that functions need, by what is pickled and by what code imports.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib.util
import io
import operator
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from lambdamr.travel.tracebacks import code_from

_CACHED = type(functools.cache(len))


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by value what a worker could not import, and notes what it has to import."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.needed: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        kind = type(obj)
        if kind is ModuleType:
            self.needed.add(obj.__name__)
        elif isinstance(obj, (type, FunctionType, _CACHED)) and is_importable(obj):
            self.needed.add(obj.__module__)
        elif kind is FunctionType:
            self.needed.update(imports_of(obj))
        elif kind is CodeType:
            return code_from, (obj.co_filename, *self.dispatch_table[CodeType](obj))
        elif kind is _CACHED:
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        elif kind is functools.cached_property:  # has a lock, until Python 3.12
            return kind, (obj.func,), {"attrname": obj.attrname}
        return super().reducer_override(obj)


def dumps(
    value: object, protocol: int = 5, buffer_callback: Callable[[Any], object] | None = None
) -> bytes:
    """The pickle of a value; see `pickle.dumps`."""
    stream = io.BytesIO()
    Pickler(stream, protocol, buffer_callback=buffer_callback).dump(value)
    return stream.getvalue()


def needed_by(*values: object) -> set[str]:
    """The names of the modules that must be importable where these values are loaded, and more.

    Some are no modules (``from package import name``).
    """
    pickler = Pickler(io.BytesIO(), protocol=5, buffer_callback=lambda buffer: None)
    for value in values:
        with contextlib.suppress(Exception):  # that it cannot be sent is said when it is sent
            pickler.dump(value)
    return pickler.needed


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> object:
    return functools.lru_cache(**parameters)(function)


def is_importable(obj: Any) -> bool:
    """Whether a function or class is what its module has under its name."""
    try:
        found = operator.attrgetter(obj.__qualname__)(sys.modules[obj.__module__])
    except (AttributeError, KeyError):
        return False
    return obj.__module__ != "__main__" and found is obj


def instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions of code, and of the code inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from instructions(constant)


def imports_of(function: FunctionType) -> Iterator[str]:
    """The modules that a function may import when it runs."""
    return imports(function.__code__, function.__globals__.get("__package__"))


def imports(code: CodeType, package: str | None) -> Iterator[str]:
    """The modules that code in a module of ``package`` may import."""
    level = names = None  # the two values that an import finds on the stack
    for instruction in instructions(code):
        if instruction.opname.startswith("LOAD_"):
            level, names = names, instruction.argval
        elif instruction.opname == "IMPORT_NAME":
            base = instruction.argval
            if level:
                try:
                    base = importlib.util.resolve_name("." * level + base, package or "")
                except ImportError:  # so it will fail there as well
                    continue
            yield base
            yield from (f"{base}.{name}" for name in names or ())
