"""A digest of functions and data that is the same in the next run of the same program.

Pickles are not: they depend on the identity of objects and, for sets, on the hash seed; cloudpickle
gives dynamic classes a random id. So functions are digested by their code and by what they refer
to, classes by their members, modules by their source, sets in a canonical order, and everything
else by a pickle without memo.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final, TypeAlias, TypeVar

from lambdamr.travel.functions import local_sources, picklable, references
from lambdamr.travel.pickler import Pickler, imports_of, is_importable

_Known: TypeAlias = "dict[int, tuple[object, tuple[object, ...]]]"
"""Functions and classes by their id() (theirs, as they are kept here), and how to digest them."""

_NO_MEMBERS: Final = {
    *("__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__"),
    *("__static_attributes__", "__annotate_func__", "_abc_impl"),
}
"""What is in the dictionary of a class, and says nothing of what it does."""


def fingerprint(value: object, name: str = "the data") -> str:
    """The digest of a value, as 32 hexadecimal digits.

    Args:
        value: anything that could be sent to a worker.
        name: what an error message calls it.

    Raises:
        UnpicklableError: it could not be sent.
    """
    with picklable([(name, value)]):
        return _digest(value, {}).hex()


def _digest(value: object, known: _Known) -> bytes:
    try:
        return _Digester(known, memo=False).digest(value)
    except Exception:  # it refers to itself, perhaps
        return _Digester(known, memo=True).digest(value)


class _Hash:
    """A file, for a pickler."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.write = self._hash.update
        self.digest = self._hash.digest


class _Digester(Pickler):
    def __init__(self, known: _Known, memo: bool) -> None:
        self._hash = _Hash()
        super().__init__(self._hash, protocol=5)
        self.fast = not memo  # without it, equal objects and the same object are the same to us
        self._known = known

    def digest(self, value: object) -> bytes:
        self.dump(value)
        return self._hash.digest()

    def persistent_id(self, obj: Any) -> object:
        kind = type(obj)
        if isinstance(obj, (set, frozenset)):
            members = sorted(_digest(member, dict(self._known)) for member in obj)
            return kind, members, getattr(obj, "__dict__", None)
        if kind is FunctionType:
            return self._once(obj, _parts_of_function)
        if kind is CodeType:
            return _parts_of_code(obj)
        if kind is ModuleType and obj.__name__ in sys.modules:
            return _parts_of_module(obj.__name__)
        if kind is TypeVar:
            return obj.__name__, obj.__bound__, obj.__constraints__
        if isinstance(obj, type) and obj.__module__ not in ("builtins", "typing"):
            return self._once(obj, _parts_of_class)
        return None

    def _once(self, obj: Any, parts: Callable[[Any], object]) -> tuple[object, ...]:
        """A function or class by its name and parts; inside its own parts by its name alone."""
        known, name = self._known, f"{obj.__module__}.{obj.__qualname__}"
        if id(obj) not in known:
            known[id(obj)] = obj, (name,)
            try:
                known[id(obj)] = obj, (name, _digest(parts(obj), known))
            except BaseException:
                del known[id(obj)]
                raise
        return known[id(obj)][1]


def _parts_of_function(function: FunctionType) -> object:
    if is_importable(function):
        return _parts_of_module(function.__module__)
    imported = local_sources(set(imports_of(function)))
    texts = [(module, text) for module, (_, text, _) in imported.items()]
    return function.__code__, references(function), texts


def _parts_of_class(cls: type) -> object:
    if is_importable(cls):
        return _parts_of_module(cls.__module__)
    members = {
        name: member
        for name, member in vars(cls).items()
        if name not in _NO_MEMBERS
        and not isinstance(member, (GetSetDescriptorType, MemberDescriptorType))
    }
    return type(cls), cls.__bases__, members


def _parts_of_code(code: CodeType) -> tuple[object, ...]:
    """All but where it is."""
    signature = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    variables = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code, code.co_exceptiontable, code.co_consts, signature, variables


def _parts_of_module(name: str) -> tuple[object, ...]:
    """What an importable module consists of: its source if it is local, else its version."""
    sources = local_sources({name})
    if sources:
        return tuple((module, text) for module, (_, text, _) in sources.items())
    root = sys.modules.get(name.partition(".")[0])
    return name, str(getattr(root, "__version__", sys.version_info[:2]))
