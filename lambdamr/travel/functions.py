"""Functions travel: by value where the worker has no module for them, with the local modules.

Functions of ``__main__``, a notebook or a REPL, closures and lambdas are pickled by value
(cloudpickle). Functions of modules that are not installed (they lie in the project's folder) are
pickled by reference, and the source of those modules, and of the local modules that they import,
goes along. A module that is imported by a computed name is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import os
import pickle
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

from lambdamr.chunk import Chunk
from lambdamr.errors import UnpicklableError
from lambdamr.travel import pickler
from lambdamr.travel.modules import Source
from lambdamr.wire import Buffer, encode

_PLAIN = (range, bytes, bytearray)


def encode_functions(
    mapper: object, reducer: object, chunk: Chunk | None = None, initial: object = None
) -> list[Buffer]:
    """The frame of the functions of a job, with the local modules they need.

    Arrays that they refer to are parts of their own, which stay the same when the code changes.

    Args:
        mapper, reducer: the functions.
        chunk, initial: what they will meet; the local modules of its classes go along as well: of
            those of the first partition, and of all elements of a list.

    Raises:
        UnpicklableError: names what in the mapper or the reducer cannot be sent.
    """
    with picklable([("the mapper", mapper), ("the reducer", reducer)]):
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickler.dumps((mapper, reducer), buffer_callback=buffers.append)
    examples = [initial]
    if chunk is not None:
        elements = chunk.data if isinstance(chunk.data, (list, tuple)) else ()
        examples += [chunk.part(0, 1), *set(map(type, elements))]
    sources = local_sources(pickler.needed_by(mapper, reducer, *examples))
    return _copied(encode((sources, pickled, buffers)))


def encode_chunk(chunk: Chunk) -> list[Buffer]:
    """The frame of some partitions of the user's data.

    Raises:
        UnpicklableError: names the partition, and what in it cannot be sent.
    """
    if type(chunk.data) in _PLAIN:  # nothing in it needs cloudpickle, which takes longer
        return encode(chunk)
    with picklable((f"partition {i}", chunk[i]) for i in chunk.partitions):
        return encode(chunk, pickler)


def encode_initial(initial: object) -> list[Buffer]:
    """The frame of the initial value.

    Raises:
        UnpicklableError: names what cannot be sent.
    """
    with picklable([("initial", initial)]):
        return _copied(encode(initial, pickler))


def _copied(frame: list[Buffer]) -> list[Buffer]:
    """A frame of its own: the caller may change the arrays while the job runs."""
    return [bytes(part) for part in frame]


# -- local modules -------------------------------------------------------------------------------


def local_sources(names: set[str]) -> dict[str, Source]:
    """The sources of those of the modules that are local, and of all local ones they import."""
    sources: dict[str, Source] = {}
    seen: set[str] = set()
    while names := names - seen:
        seen |= names
        for name in names:
            source = _local_source(name)
            if source is not None:
                sources[name] = source
                names = names | _needed(name, source)
    return dict(sorted(sources.items()))


@functools.lru_cache(1024)
def _needed(name: str, source: Source) -> set[str]:
    """The modules that a local module may import."""
    filename, text, folders = source
    parent = name.rpartition(".")[0]
    try:
        code = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # so it will be in the worker, if it is imported at all
        return {parent}
    return {parent, *pickler.imports(code, parent if folders is None else name)}


def _local_source(name: str) -> Source | None:
    spec = _find(name)
    if spec is None:
        return None
    origin, found = spec.origin, spec.submodule_search_locations
    folders = None if found is None else tuple(found)
    if origin is None and folders:  # a namespace package: it has no file
        return None if any(map(_is_installed, folders)) else (folders[0], "", folders)
    if origin is None or not origin.endswith(".py"):  # compiled, or in no file at all
        return None
    if any(map(_is_installed, folders or [origin])):
        return None
    try:
        with tokenize.open(origin) as file:
            return origin, file.read(), folders
    except (OSError, SyntaxError):  # in a zip file, deleted, or not in the encoding it names
        return None


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module was imported from, or would be; nothing is imported to know it."""
    if name in ("", "__main__"):
        return None
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent, _, last = name.rpartition(".")
    path = None
    if parent:
        above = _find(parent)
        path = above.submodule_search_locations if above else None
        if path is None:
            return None
    try:
        return importlib.machinery.PathFinder.find_spec(last, path)
    except (ImportError, ValueError):
        return None


def _is_installed(path: str) -> bool:
    """Whether every worker is expected to have what lies there, or a version of its own."""
    path = os.path.join(os.path.realpath(path), "")
    packages = ("site-packages", "dist-packages")
    return path.startswith(_installed()) or any(part in packages for part in path.split(os.sep))


@functools.cache
def _installed() -> tuple[str, ...]:
    stdlib = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    # Python modules next to the shared libraries of an installation: ROOT's are, for example.
    libraries = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    folders = (*stdlib, *libraries, os.path.dirname(os.path.dirname(__file__)))
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in folders)


# -- what cannot be sent -------------------------------------------------------------------------


@contextlib.contextmanager
def picklable(named: Iterable[tuple[str, object]]) -> Iterator[None]:
    """What happens here fails only because one of these values cannot be pickled.

    Raises:
        UnpicklableError: it failed; names which, and what in it.
    """
    try:
        yield
    except Exception as error:
        path, culprit = next((pair for pair in named if not _pickles(pair[1])), ("a value", None))
        seen: set[int] = set()
        while id(culprit) not in seen:  # go down, to the innermost part
            seen.add(id(culprit))
            for name, part in _parts(culprit).items():
                if id(part) not in seen and not _pickles(part):
                    path, culprit = path + name, part
                    break
        raise UnpicklableError(
            f"{path} cannot be sent to a worker: it is a {type(culprit).__name__}, and pickling it "
            f"says: {error}. Make it inside the function instead, or pass what it is made from."
        ) from error


def _pickles(value: object) -> bool:
    try:
        pickler.dumps(value)
    except Exception:
        return False
    return True


def _parts(value: Any) -> dict[str, object]:
    """The parts of a value, by how to get to them."""
    if isinstance(value, FunctionType):
        return {f": {name}": part for name, part in references(value).items()}
    if isinstance(value, dict):
        return {f"[{key!r:.40}]": part for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return {f"[{i}]": part for i, part in enumerate(value)}
    names = [*getattr(value, "__dict__", ()), "__self__", "func", "args", "keywords"]
    return {f".{name}": getattr(value, name) for name in names if hasattr(value, name)}


def references(function: FunctionType) -> dict[str, object]:
    """What a function refers to, by what it is to the function."""
    code, variables = function.__code__, function.__globals__
    found = {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    for name, value in (function.__kwdefaults__ or {}).items():
        found[f"the default of {name!r}"] = value
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            found[f"the variable {name!r} it closes over"] = cell.cell_contents
    for instruction in pickler.instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval in variables:
            found[f"the global variable {instruction.argval!r}"] = variables[instruction.argval]
    for name, value in function.__dict__.items():
        found[f"its attribute {name!r}"] = value
    return found
