"""Graphs of strings without Python's view of ROOT, by the library of `PyRDF.precompiled`.

To import ROOT into Python, and to meet each class and method of a graph there for the first time,
takes a process more than a second (6.40). A worker needs none of it where all that a graph says is
strings and numbers: it calls a handful of C functions (`native.cpp`). What they do not know is
booked as ever, by `PyRDF.graph`; the bits are the same.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from PyRDF import precompiled
from PyRDF.operations import Operation, model_of

if TYPE_CHECKING:
    from PyRDF.source import Source

_CUT = struct.Struct("=QQ")

# Of each operation how many strings it takes, and of those with a model how many axes it has.
_STRINGS = {
    "Alias": (2,),
    "Count": (0,),
    "Define": (2,),
    "DefinePerSample": (2,),
    "Filter": (1, 2),
    "FilterAvailable": (1,),
    "FilterMissing": (1,),
    "Graph": (2,),
    "GraphAsymmErrors": (6,),
    "Max": (1,),
    "Mean": (1,),
    "Min": (1,),
    "Redefine": (2,),
    "Report": (0,),
    "Stats": (1, 2),
    "StdDev": (1,),
    "Sum": (1,),
}
_MODELS = {
    "Histo1D": (1, (1, 2)),
    "Histo2D": (2, (2, 3)),
    "Histo3D": (3, (3, 4)),
    "Profile1D": (1, (2, 3)),
    "Profile2D": (2, (3, 4)),
}
_HELPERS = frozenset(["Fills"])  # what the interpreter has to know of `helpers.h`


def available() -> bool:
    """Whether this installation can: the library is there."""
    return precompiled.available()


def started() -> bool:
    """Whether this process does."""
    return bool(_library.cache_info().currsize)


def start() -> None:
    """Start ROOT and its interpreter, unless they are.

    Raises:
        RuntimeError: the library was made for another ROOT or PyRDF; says what to do.
    """
    _library()


def version() -> str:
    """Of ROOT."""
    found: str = _library().PyRDFVersion().decode()
    return found


def set_batch() -> None:
    """Draw nothing on a screen."""
    _library().PyRDFSetBatch()


def takes(operations: Iterable[Operation]) -> bool:
    """Whether it can book all of these."""
    return all(_call(operation) is not None for operation in operations)


# -- the interpreter -----------------------------------------------------------------------------


def declare(code: str) -> bool:
    """Declare C++; False if it does not compile, and the compiler has said why."""
    return bool(_library().PyRDFDeclare(code.encode()))


def process(code: str) -> None:
    """Run C++ in the interpreter."""
    _library().PyRDFProcess(code.encode())


def add_include_path(path: str) -> None:
    """Where the interpreter looks for headers, too."""
    _library().PyRDFAddIncludePath(f"-I{path}".encode())


def add_library_path(path: str) -> None:
    """Where libraries are found, too."""
    _library().PyRDFAddLibraryPath(path.encode())


def load(path: str, quiet: bool) -> bool:
    """Load a library with its dictionary; False if that fails, and ROOT says why unless quiet."""
    return int(_library().PyRDFLoad(path.encode(), quiet)) >= 0


def seed(number: int) -> None:
    """Seed ROOT's gRandom."""
    _library().PyRDFSeed(number)


def set_default(name: str, value: int) -> None:
    """A setting of ROOT's gEnv, unless the user has set it."""
    _library().PyRDFSetDefault(name.encode(), value)


def use_one_thread() -> None:
    """No implicit multithreading."""
    _library().PyRDFUseOneThread()


# -- datasets ------------------------------------------------------------------------------------


def clusters(ntuple: bool, name: str, path: str) -> tuple[int, ...]:
    """The first entry of each cluster, and the number of entries."""
    _checked(_library().PyRDFClusters(ntuple, name.encode(), path.encode()))
    data = _lent()
    return struct.unpack(f"={len(data) // 8}q", data)


def copy_structure(name: str, path: str, to: str) -> None:
    """Write a tree like this one, without its entries, into a new local file."""
    _checked(_library().PyRDFCopyStructure(name.encode(), path.encode(), to.encode()))


class Spec:
    """A dataset specification of ROOT."""

    def __init__(self) -> None:
        library = _library()
        self.pointer = library.PyRDFSpec()
        weakref.finalize(self, library.PyRDFFreeSpec, self.pointer).atexit = False

    def add_sample(self, name: str, metadata: str | None, datasets: Iterable[Any]) -> None:
        """Files; ``datasets`` are (name of the tree, path)."""
        names, paths = zip(*datasets, strict=True)
        said = None if metadata is None else metadata.encode()
        arguments = name.encode(), said, _strings(names), _strings(paths), len(names)
        _checked(_library().PyRDFAddSample(self.pointer, *arguments))

    def add_friends(self, trees: Sequence[str], files: Sequence[str], alias: str) -> None:
        """Trees that are read beside the others."""
        arguments = _strings(trees), len(trees), _strings(files), len(files), alias.encode()
        _checked(_library().PyRDFAddFriends(self.pointer, *arguments))

    def set_range(self, begin: int, end: int) -> None:
        """The entries ``begin <= e < end``."""
        _checked(_library().PyRDFSetRange(self.pointer, begin, end))


# -- graphs --------------------------------------------------------------------------------------


class Frame:
    """A dataset, and the graph that is booked on it; what `PyRDF.source` opens and rebinds."""

    def __init__(self, pointer: int | None) -> None:
        _checked(pointer)
        self.pointer = pointer
        weakref.finalize(self, _library().PyRDFFreeGraph, pointer).atexit = False

    @classmethod
    def of_nothing(cls, entries: int) -> Frame:
        """Entries without a dataset."""
        return cls(_library().PyRDFOpenEmpty(entries))

    @classmethod
    def of_spec(cls, spec: Spec) -> Frame:
        """The trees of a specification."""
        return cls(_library().PyRDFOpenSpec(spec.pointer))

    @classmethod
    def of_tree(cls, name: str, path: str, columns: Sequence[str]) -> Frame:
        """A tree with default columns."""
        arguments = name.encode(), path.encode(), _strings(columns), len(columns)
        return cls(_library().PyRDFOpenTree(*arguments))

    @classmethod
    def of_ntuple(cls, name: str, paths: Sequence[str], begin: int, end: int) -> Frame:
        """Entries of an RNTuple in these files."""
        arguments = name.encode(), _strings(paths), len(paths), begin, end
        return cls(_library().PyRDFOpenNTuple(*arguments))

    def rebind_empty(self, begin: int, end: int) -> None:
        """Other entries without a dataset."""
        _checked(_library().PyRDFRebindEmpty(self.pointer, begin, end))

    def rebind_spec(self, spec: Spec) -> None:
        """Other entries or files."""
        _checked(_library().PyRDFRebindSpec(self.pointer, spec.pointer))


class Graph:
    """As `PyRDF.graph.Graph`: what is booked on a frame."""

    def __init__(self, frame: Frame, operations: Sequence[Operation]) -> None:
        self.frame = frame
        self.actions = [operation for operation in operations if operation.kind]
        for operation in operations:
            call = _call(operation)
            assert call is not None, "see takes()"
            name, strings, numbers = call
            if name in _HELPERS:
                _declare_helpers()
            _checked(
                _library().PyRDFBook(
                    frame.pointer,
                    operation.number,
                    operation.parent,
                    name.encode(),
                    _strings(strings),
                    len(strings),
                    (ctypes.c_double * len(numbers))(*numbers),
                    len(numbers),
                )
            )

    def rebind(self, source: Source, piece: Any) -> None:
        """Give it other entries, while it has not run."""
        source.rebind(self.frame, piece)

    def compile(self) -> None:
        """Compile all that it needs, and run nothing."""
        with precompiled.optimised():
            _checked(_library().PyRDFJit(self.frame.pointer))

    def run(self) -> list[Any]:
        """Run it, and take the value of each action."""
        self.compile()
        _checked(_library().PyRDFRun(self.frame.pointer))
        return [self._take(which) for which in range(len(self.actions))]

    def _take(self, which: int) -> Any:
        library = _library()
        _checked(library.PyRDFTake(self.frame.pointer, which))
        kind, data = library.PyRDFType().decode(), _lent()
        return _VALUES[kind](data) if kind in _VALUES else Object(kind, data)


def book(
    source: Source, piece: Any, operations: Sequence[Operation], number: int, token: str = ""
) -> Graph:
    """As `PyRDF.graph.book`."""
    return Graph(source.open_natively(piece), operations)


def _call(operation: Operation) -> tuple[str, list[str], list[float]] | None:
    """The function, its strings and its numbers; None for what is not known here."""
    arguments, name = operation.arguments, operation.name
    if operation.keywords:
        return None
    if operation.kind == "fills":
        model = model_of(arguments, {})
        named = [each for each in arguments if each is not model]
        return ("Fills", named, []) if named and _are_strings(named) else None
    if name in _STRINGS:
        known = len(arguments) in _STRINGS[name] and _are_strings(arguments)
        return (name, list(arguments), []) if known else None
    if name not in _MODELS or not arguments or not isinstance(arguments[0], tuple):
        return None
    axes, counts = _MODELS[name]
    model, columns = arguments[0], arguments[1:]
    strings, numbers = [*model[:2], *columns], model[2:]
    if len(numbers) != 3 * axes or len(columns) not in counts or not _are_strings(strings):
        return None
    limits = [*numbers[1::3], *numbers[2::3]]
    if not all(type(each) is int for each in numbers[::3]):
        return None
    if not all(isinstance(each, (int, float)) for each in limits):
        return None
    return name, strings, list(numbers)


def _are_strings(values: Iterable[Any]) -> bool:
    return all(type(value) is str and "\0" not in value for value in values)


# -- values --------------------------------------------------------------------------------------


class Object:
    """A histogram or its like, as bytes of ROOT I/O, and as an object once something is added.

    Args:
        kind: its class.
        data: of which it is read.
    """

    def __init__(self, kind: str, data: bytes) -> None:
        self.kind = kind
        self._data: bytes | None = bytes(data)
        self._pointer: int | None = None

    @property
    def data(self) -> bytes:
        """Its bytes."""
        if self._data is None:
            _checked(_library().PyRDFWrite(self._pointer))
            self._data = _lent()
        return self._data

    def merge(self, other: Object) -> None:
        """Add another."""
        library, more = _library(), other.data
        if self._pointer is None:
            self._pointer = library.PyRDFRead(self.data, len(self.data))
            _checked(self._pointer)
            weakref.finalize(self, library.PyRDFFreeObject, self._pointer).atexit = False
        self._data = None
        _checked(library.PyRDFMerge(self._pointer, more, len(more)))

    def __reduce__(self) -> Any:
        return Object, (self.kind, self.data)


def _cuts(data: bytes) -> list[tuple[str, int, int]]:
    cuts, at = [], 0
    while at < len(data):
        passed, all_ = _CUT.unpack_from(data, at)
        end = data.index(0, at + _CUT.size)
        cuts.append((data[at + _CUT.size : end].decode(), passed, all_))
        at = end + 1
    return cuts


def _fills(data: bytes) -> Any:
    import numpy as np

    return [np.frombuffer(data, dtype=np.float64)]


_VALUES: dict[str, Callable[[bytes], Any]] = {
    "count": lambda data: struct.unpack("=Q", data)[0],
    "double": lambda data: struct.unpack("=d", data)[0],
    "moments": lambda data: struct.unpack("=3d", data),
    "cuts": _cuts,
    "fills": _fills,
}


# -- the library ---------------------------------------------------------------------------------


@functools.cache
def _declare_helpers() -> None:
    if not declare(f'#include "{precompiled.HEADER.with_name("helpers.h")}"'):
        raise RuntimeError("this ROOT is not one that PyRDF knows (6.40)")


def _strings(values: Sequence[str]) -> Any:
    return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))


def _lent() -> bytes:
    library = _library()
    return ctypes.string_at(library.PyRDFData(), library.PyRDFSize())


def _checked(done: object) -> None:
    if not done:
        raise RuntimeError(_library().PyRDFError().decode(errors="replace"))


_P, _S, _N, _I, _B = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int64,
    ctypes.c_bool,
)
_L = ctypes.POINTER(ctypes.c_char_p)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "Error": (_S, ()),
    "Type": (_S, ()),
    "Data": (_P, ()),
    "Size": (_N, ()),
    "CompiledFor": (_S, ()),
    "Version": (_S, ()),
    "Start": (_B, ()),
    "SetBatch": (None, ()),
    "Declare": (_B, (_S,)),
    "Process": (None, (_S,)),
    "AddIncludePath": (None, (_S,)),
    "AddLibraryPath": (None, (_S,)),
    "Load": (ctypes.c_int, (_S, _B)),
    "Seed": (None, (ctypes.c_uint,)),
    "SetDefault": (None, (_S, ctypes.c_int)),
    "UseOneThread": (None, ()),
    "Clusters": (_B, (_B, _S, _S)),
    "CopyStructure": (_B, (_S, _S, _S)),
    "Spec": (_P, ()),
    "FreeSpec": (None, (_P,)),
    "AddSample": (_B, (_P, _S, _S, _L, _L, _N)),
    "AddFriends": (_B, (_P, _L, _N, _L, _N, _S)),
    "SetRange": (_B, (_P, _I, _I)),
    "OpenEmpty": (_P, (_I,)),
    "OpenSpec": (_P, (_P,)),
    "OpenTree": (_P, (_S, _S, _L, _N)),
    "OpenNTuple": (_P, (_S, _L, _N, _I, _I)),
    "FreeGraph": (None, (_P,)),
    "RebindEmpty": (_B, (_P, _I, _I)),
    "RebindSpec": (_B, (_P, _P)),
    "Book": (
        _B,
        (
            _P,
            ctypes.c_int,
            ctypes.c_int,
            _S,
            _L,
            _N,
            ctypes.POINTER(ctypes.c_double),
            _N,
        ),
    ),
    "Jit": (_B, (_P,)),
    "Run": (_B, (_P,)),
    "Take": (_B, (_P, _N)),
    "Read": (_P, (_S, _N)),
    "Write": (_B, (_P,)),
    "Merge": (_B, (_P, _S, _N)),
    "FreeObject": (None, (_P,)),
}


@functools.cache
def _library() -> Any:
    path = precompiled.library()
    again = "python -m PyRDF.precompiled makes it anew"
    try:
        library: Any = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise RuntimeError(f"{path} cannot be loaded: {error}; {again}") from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, f"PyRDF{name}")
        function.restype, function.argtypes = result, arguments
    wanted, found = library.PyRDFCompiledFor().decode(), library.PyRDFVersion().decode()
    if wanted != found:
        raise RuntimeError(f"{path} was made for ROOT {wanted}, and this is {found}; {again}")
    if not library.PyRDFStart():
        raise RuntimeError(library.PyRDFError().decode(errors="replace"))
    if not library.PyRDFDeclare(f'#include "{precompiled.HEADER}"'.encode()):
        raise RuntimeError(f"ROOT {found} is not the one {precompiled.HEADER} is for (6.40)")
    return library
