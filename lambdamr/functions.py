"""Functions travel: by value where the worker has no module for them, with the local modules.

Functions of ``__main__``, a notebook or a REPL, closures and lambdas are pickled by value
(cloudpickle). Functions of modules that are not installed (they lie in the project's folder) are
pickled by reference, and the source of those modules, and of the local modules that they import,
goes along.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib.machinery
import io
import os
import site
import sysconfig
import tokenize
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from lambdamr.errors import UnpicklableError
from lambdamr.modules import Source
from lambdamr.partition import Chunk
from lambdamr.wire import Buffer, encode


def encode_functions(mapper: object, reducer: object) -> bytes:
    """The frame of the functions of a job, with the local modules they need.

    Raises:
        UnpicklableError: names what in the mapper or the reducer cannot be sent.
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol=5)
    try:
        pickler.dump((mapper, reducer))
    except Exception as error:
        for name, function in (("mapper", mapper), ("reducer", reducer)):
            if not _pickles(function):
                raise _unpicklable(name, function, error) from error
        raise
    frame = encode((local_sources(pickler.imported), stream.getvalue()))
    return b"".join(frame)


def encode_chunk(chunk: Chunk) -> list[Buffer]:
    """The frame of some partitions of the user's data.

    Raises:
        UnpicklableError: names the partition, and what in it cannot be sent.
    """
    try:
        return encode(chunk, cloudpickle)
    except Exception as error:
        last = chunk.npartitions if chunk.length is not None else chunk.first + len(chunk.data)
        for partition in range(chunk.first, last):
            if not _pickles(chunk[partition]):
                raise _unpicklable(f"partition {partition}", chunk[partition], error) from error
        raise


def encode_initial(initial: object) -> list[Buffer]:
    """The frame of the initial value.

    Raises:
        UnpicklableError: names what cannot be sent.
    """
    try:
        return encode(initial, cloudpickle)
    except Exception as error:
        raise _unpicklable("initial", initial, error) from error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Notes the modules that are pickled by reference, and those that code imports when it runs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.imported: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType):
            self.imported.add(obj.__name__)
        elif isinstance(obj, CodeType):
            self.imported.update(_imports_of_code(obj))
        elif isinstance(obj, (type, FunctionType)) and obj.__module__:
            self.imported.add(obj.__module__)
        return super().reducer_override(obj)


def _imports_of_code(code: CodeType) -> Iterator[str]:
    wanted: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield instruction.argval
            base = instruction.argval
            yield from (f"{base}.{name}" for name in wanted)
        elif instruction.opname == "LOAD_CONST" and isinstance(instruction.argval, tuple):
            wanted = tuple(name for name in instruction.argval if isinstance(name, str))


def local_sources(names: set[str]) -> dict[str, Source]:
    """The sources of those of the modules that are local, and of all local ones they import."""
    sources: dict[str, Source] = {}
    pending = set(names)
    while pending:
        name = pending.pop()
        parent = name.rpartition(".")[0]
        if name in sources or (source := _local_source(name)) is None:
            continue
        sources[name] = source
        package = name if source[2] else parent
        pending.update(filter(None, [parent, *_imports_of_source(source, package)]))
    return sources


def _imports_of_source(source: Source, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source[1], source[0])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders whose modules every worker is expected to have."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths.update([*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(__file__)])
    return tuple(os.path.join(os.path.realpath(path), "") for path in paths)


def _local_source(name: str) -> Source | None:
    spec = _find(name)
    if spec is None:
        return None
    if spec.origin is None:  # a namespace package: it has folders, but no file
        folders = list(spec.submodule_search_locations or ())
        local = folders and not any(_is_installed(folder) for folder in folders)
        return (folders[0], "", True) if local else None
    if not spec.origin.endswith(".py") or _is_installed(spec.origin):
        return None
    with tokenize.open(spec.origin) as file:
        return spec.origin, file.read(), spec.submodule_search_locations is not None


def _is_installed(path: str) -> bool:
    return os.path.join(os.path.realpath(path), "").startswith(_installed())


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module would be imported from; nothing is imported to know it."""
    parent, _, _ = name.rpartition(".")
    if name == "__main__" or not name:
        return None
    path = None
    if parent:
        above = _find(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    try:
        return importlib.machinery.PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None


def _pickles(value: object) -> bool:
    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception:
        return False
    return True


def _unpicklable(name: str, value: object, error: Exception) -> UnpicklableError:
    path, culprit = _culprit(name, value)
    return UnpicklableError(
        f"{path} cannot be sent to a worker: it is a {type(culprit).__name__}, and pickling it "
        f"says: {error}. Make it inside the function instead, or pass what it is made from."
    )


def _culprit(path: str, value: object, depth: int = 8) -> tuple[str, object]:
    """The innermost part of a value that does not pickle, and how to get to it."""
    for name, part in _parts(value) if depth else ():
        if not _pickles(part):
            return _culprit(f"{path}{name}", part, depth - 1)
    return path, value


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f" argument {i}", a) for i, a in enumerate(value.args))
        yield from ((f" argument {k}", a) for k, a in value.keywords.items())
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                yield f": the variable {name!r} it closes over", cell.cell_contents
            except ValueError:  # an empty cell
                continue
        for name in global_names(value.__code__):
            if name in value.__globals__:
                yield f": the global variable {name!r}", value.__globals__[name]
        yield from ((f": default {i}", d) for i, d in enumerate(value.__defaults__ or ()))
    elif isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif not isinstance(value, (type, ModuleType)):
        yield from ((f".{key}", part) for key, part in getattr(value, "__dict__", {}).items())


def global_names(code: CodeType) -> Iterator[str]:
    """The global names that a function, and the functions inside it, read."""
    seen = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval not in seen:
            seen.add(instruction.argval)
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)
