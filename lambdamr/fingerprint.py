"""A digest of functions and data that is the same in the next run of the same program.

Pickles are not: they depend on the identity of objects and, for sets, on the hash seed; cloudpickle
gives dynamic classes a random id. So functions are digested by their code and by what they refer
to, sets in a canonical order, and everything else by a pickle without memo.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any, TypeAlias

import cloudpickle

from lambdamr.functions import global_names, local_sources

_Known: TypeAlias = "dict[int, tuple[object, ...]]"  # functions and classes by their id()


def fingerprint(value: object) -> str:
    """The digest of a value, as 32 hexadecimal digits.

    Raises:
        Exception: whatever pickling it raises.
    """
    return _digest(value, {}).hex()


def _digest(value: object, known: _Known) -> bytes:
    stream = io.BytesIO()
    pickler = _Pickler(stream, known)
    try:
        pickler.fast = True  # no memo: equal objects and the same object are the same to us
        pickler.dump(value)
    except (RecursionError, ValueError):  # it refers to itself: needs the memo
        stream = io.BytesIO()
        _Pickler(stream, known).dump(value)
    return hashlib.blake2b(stream.getbuffer(), digest_size=16).digest()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, stream: io.BytesIO, known: _Known) -> None:
        super().__init__(stream, protocol=5)
        self._known = known

    def persistent_id(self, obj: Any) -> object:
        kind = type(obj)
        if kind is set or kind is frozenset:
            return "set", sorted(_digest(part, self._known) for part in obj)
        if kind is FunctionType:
            return self._once(obj, _parts_of_function)
        if kind is CodeType:
            return _parts_of_code(obj)
        if kind is ModuleType:
            return "module", obj.__name__, _sources(obj.__name__)
        if isinstance(obj, type) and obj.__module__ not in ("builtins", "typing"):
            return self._once(obj, _parts_of_class)
        return None

    def _once(self, obj: Any, parts: Callable[[Any], object]) -> tuple[object, ...]:
        """A function or class by its name and parts; inside its own parts by its name alone."""
        if id(obj) not in self._known:
            name = f"{obj.__module__}.{obj.__qualname__}"
            self._known[id(obj)] = (name,)
            self._known[id(obj)] = (name, _digest(parts(obj), self._known))
        return self._known[id(obj)]


def _parts_of_function(function: FunctionType) -> object:
    if _is_importable(function):
        return _sources(function.__module__)
    used = global_names(function.__code__)
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # an empty cell
            cells.append(None)
    return (
        _parts_of_code(function.__code__),
        {name: function.__globals__[name] for name in used if name in function.__globals__},
        cells,
        function.__defaults__,
        function.__kwdefaults__,
        _without_dunders(function.__dict__),
    )


def _parts_of_class(cls: type) -> object:
    if _is_importable(cls):
        return _sources(cls.__module__)
    members = {
        name: member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        for name, member in vars(cls).items()
        if isinstance(member, (FunctionType, staticmethod, classmethod, property))
        or not (name.startswith("_") or callable(member) or hasattr(member, "__get__"))
    }
    properties = {
        name: (member.fget, member.fset, member.fdel)
        for name, member in members.items()
        if isinstance(member, property)
    }
    return cls.__bases__, {**members, **properties}


def _parts_of_code(code: CodeType) -> tuple[object, ...]:
    constants = tuple(
        _parts_of_code(c) if isinstance(c, CodeType) else ("constant", c) for c in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_flags


def _is_importable(obj: Any) -> bool:
    module = sys.modules.get(obj.__module__)
    return obj.__module__ != "__main__" and getattr(module, obj.__qualname__, None) is obj


def _sources(name: str) -> object:
    """What an importable module consists of: its source if it is local, else its version."""
    sources = local_sources({name})
    if sources:
        return sorted((module, source[1]) for module, source in sources.items())
    root = sys.modules.get(name.partition(".")[0])
    return name, str(getattr(root, "__version__", sys.version_info[:2]))


def _without_dunders(members: Mapping[str, Any] | MappingProxyType[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in members.items() if not name.startswith("__")}
