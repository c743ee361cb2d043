"""Results of actions: taken from a graph, merged in the order of the entries, handed out.

A value that travels is plain Python, numpy, or an object of ROOT that merges itself. ROOT's own
mergeables are left aside where ROOT 6.40 has them wrong: `RMergeableReport` (its copy of the cuts
is not updated by a merge, so three partitions or more lose counts) and the means and deviations of
partitions without entries (not a number).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from PyRDF import codec, native, remote, source
from PyRDF.cpp import helpers
from PyRDF.operations import Operation, model_of


class Kind(Protocol):
    """How the results of some actions are collected."""

    def take(self, promise: Any, operation: Operation) -> Any:
        """The value of a result of a graph that has run."""

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        """The value of one variation of it."""

    def merge(self, a: Any, b: Any) -> Any:
        """The value of the entries of both; ``a`` comes before ``b`` and may be changed."""

    def finish(self, value: Any, operation: Operation) -> Any:
        """What the user gets."""


class _Plain:
    """Numbers; `merge` is up to the class."""

    def take(self, promise: Any, operation: Operation) -> Any:
        value = promise.GetValue()
        return np.float32(value) if _holds(promise) == "float" else value

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        value = results[key]
        return np.float32(value) if _holds(results) == "float" else value

    def finish(self, value: Any, operation: Operation) -> Any:
        return value.item() if isinstance(value, np.generic) else value


class _Sum(_Plain):
    def merge(self, a: Any, b: Any) -> Any:
        return a + b


class _Min(_Plain):
    def merge(self, a: Any, b: Any) -> Any:
        return min(a, b)


class _Max(_Plain):
    def merge(self, a: Any, b: Any) -> Any:
        return max(a, b)


class _Moments:
    """Mean and StdDev, as (value, entries, mean)."""

    def take(self, promise: Any, operation: Operation) -> tuple[float, float, float]:
        value, entries, mean = helpers().Moments(promise)
        return value, entries, mean

    def take_varied(self, results: Any, which: int, key: str) -> tuple[float, float, float]:
        value, entries, mean = helpers().Moments(results, which)
        return value, entries, mean

    def merge(self, a: Any, b: Any) -> Any:
        """Chan, Golub and LeVeque (1983), eq. 2.1; neutral for what has no entries."""
        if not b[1]:
            return a
        if not a[1]:
            return b
        entries = a[1] + b[1]
        mean = (a[2] * a[1] + b[2] * b[1]) / entries
        if self.is_mean:
            return mean, entries, mean
        squares = a[0] ** 2 * (a[1] - 1) + b[0] ** 2 * (b[1] - 1)
        squares += (b[2] - a[2]) ** 2 * a[1] * b[1] / entries
        return (squares / (entries - 1)) ** 0.5, entries, mean

    def finish(self, value: Any, operation: Operation) -> float:
        return float(value[0])

    is_mean = False


class _Mean(_Moments):
    is_mean = True


class _Merging:
    """Histograms, profiles, graphs, statistics: objects with Merge(TCollection*)."""

    def take(self, promise: Any, operation: Operation) -> Any:
        return promise.GetValue()

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        if key == "nominal":  # the very object of the action itself, which merges on its own
            return codec.loads(codec.dumps(results[key]))
        return results[key]

    def merge(self, a: Any, b: Any) -> Any:
        if isinstance(a, native.Object) and isinstance(b, native.Object) and native.started():
            a.merge(b)
            return a
        import ROOT

        a, b = _expanded(a), _expanded(b)
        others = ROOT.TList()
        others.Add(b)
        a.Merge(others)
        others.Clear("nodelete")
        return a

    def finish(self, value: Any, operation: Operation) -> Any:
        import ROOT

        value = _expanded(value)
        if hasattr(value, "SetDirectory"):
            value.SetDirectory(ROOT.nullptr)
        return value


class _Fills:
    """A histogram without limits: all that it was filled with, in order."""

    def take(self, promise: Any, operation: Operation) -> list[np.ndarray]:
        return [np.array(promise.GetValue().Numbers(), dtype=np.float64)]

    def take_varied(self, results: Any, which: int, key: str) -> list[np.ndarray]:
        return [np.array(results[key].Numbers(), dtype=np.float64)]

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def finish(self, value: Any, operation: Operation) -> Any:
        import ROOT

        columns = [str(c) for c in operation.arguments if isinstance(c, str)]
        model = model_of(operation.arguments, operation.keywords or {})
        if model is None and len(columns) == 1:
            (x,) = columns
            model = (x, f"{x};{x};count", 128, 0.0, 0.0)
        elif model is None:
            x, w = columns
            model = (f"{x}_weighted_{w}", f"{x}, weights: {w};{x};count * {w}", 128, 0.0, 0.0)
        if isinstance(model, tuple):
            model = ROOT.RDF.TH1DModel(*model)
        histogram = ROOT.TH1D(model.GetHistogram())
        histogram.SetDirectory(ROOT.nullptr)
        numbers = np.ascontiguousarray(np.concatenate(value))
        if len(numbers):  # cppyy takes no empty array
            helpers().Refill(histogram, numbers, len(numbers), len(columns))
        histogram.BufferEmpty(1)  # as it is after plain ROOT's event loop
        return histogram


class _Report:
    """The cuts, as [name, passed, all]."""

    def take(self, promise: Any, operation: Operation) -> list[tuple[str, int, int]]:
        return [(str(c.GetName()), int(c.GetPass()), int(c.GetAll())) for c in promise.GetValue()]

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        raise TypeError("a Report has no variations")

    def merge(self, a: Any, b: Any) -> Any:
        if [cut[0] for cut in a] != [cut[0] for cut in b]:
            raise ValueError(f"reports of different cuts cannot be merged: {a} and {b}")
        return [
            (name, passed + more, all_ + further)
            for (name, passed, all_), (_, more, further) in zip(a, b, strict=True)
        ]

    def finish(self, value: Any, operation: Operation) -> Any:
        import ROOT

        report = ROOT.RDF.RCutFlowReport()
        for cut in value:
            helpers().AddCut(report, *cut)
        return report


class _Take:
    """A column, as pieces of arrays, or of lists where its type is no number."""

    def take(self, promise: Any, operation: Operation) -> list[Any]:
        vector = promise.GetValue()
        if operation.template in _NUMBERS:
            return [np.array(vector, dtype=_NUMBERS[operation.template])]
        if operation.template in ("char", "Char_t"):  # whose iterator fails in ROOT 6.40
            return [[vector[i] for i in range(len(vector))]]
        return [list(vector)]

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        raise TypeError("Take has no variations")

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def finish(self, value: Any, operation: Operation) -> Any:
        import ROOT

        vector = ROOT.std.vector[operation.template]()
        vector.reserve(sum(map(len, value)))
        for piece in value:
            if isinstance(piece, np.ndarray) and len(piece) and piece.dtype != np.bool_:
                more = ROOT.std.vector[operation.template](piece)
                vector.insert(vector.end(), more.begin(), more.end())
                continue
            for item in piece:
                vector.push_back(bool(item) if isinstance(item, np.bool_) else item)
        return vector


class _AsNumpy:
    """Columns as arrays, in pieces that are put together once, at the end."""

    def take(self, promise: Any, operation: Operation) -> dict[str, list[np.ndarray]]:
        return {name: [_own(array)] for name, array in promise.GetValue().items()}

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        raise TypeError("AsNumpy has no variations")

    def merge(self, a: Any, b: Any) -> Any:
        return {name: pieces + b[name] for name, pieces in a.items()}

    def finish(self, value: Any, operation: Operation) -> dict[str, np.ndarray]:
        return {name: np.concatenate(pieces) for name, pieces in value.items()}


@dataclass(frozen=True)
class SnapshotFile:
    """A file that a range wrote."""

    path: str
    entries: int


class _Snapshot:
    """The files that were written, in the order of the ranges."""

    def take(self, promise: Any, operation: Operation) -> list[SnapshotFile]:
        promise.GetValue()
        tree, temporary = operation.arguments[:2]
        entries = source.entries_of(tree, temporary)
        if remote.on_s3(operation.final):
            remote.store(temporary, operation.final)
            os.unlink(temporary)
        else:
            os.replace(temporary, operation.final)
        return [SnapshotFile(operation.final, entries)]

    def take_varied(self, results: Any, which: int, key: str) -> Any:
        raise TypeError("a Snapshot has no variations")

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def finish(self, value: Any, operation: Operation) -> list[SnapshotFile]:
        return [file for file in value if file.entries] or value[:1]


def _expanded(value: Any) -> Any:
    return codec.expand(value.kind, value.data) if isinstance(value, native.Object) else value


KINDS: dict[str, Kind] = {
    "sum": _Sum(),
    "min": _Min(),
    "max": _Max(),
    "mean": _Mean(),
    "stddev": _Moments(),
    "merging": _Merging(),
    "fills": _Fills(),
    "report": _Report(),
    "take": _Take(),
    "asnumpy": _AsNumpy(),
    "snapshot": _Snapshot(),
}
"""By `Operation.kind`."""


def paths_of_part(path: str, number: int, token: str) -> tuple[str, str]:
    """Where a range writes its part of a Snapshot, and the name of it when it is whole.

    The first is unique, since two attempts may write at once; the second as in ROOT's own.
    """
    base, extension = os.path.splitext(path)
    extension = extension or ".root"
    final = f"{base}_{number}{extension}"
    if remote.on_s3(path):
        name = f"pyrdf-{token}-{final.rpartition('/')[2]}"
        return os.path.join(tempfile.gettempdir(), name), final
    return f"{base}_{number}.part-{token}{extension}", final


class Variations:
    """What `VariationsFor` gives: a value for "nominal" and for each variation."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def GetKeys(self) -> list[str]:  # as in ROOT
        """The names of the variations, "nominal" first."""
        return list(self._values)

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise KeyError(f"there is no variation {key!r}; known are {self.GetKeys()}") from None

    def __iter__(self) -> Any:
        return iter(self._values.items())

    def __len__(self) -> int:
        return len(self._values)


def take(operation: Operation, promise: Any) -> Any:
    """The value of an action of a graph that has run."""
    kind = KINDS[operation.kind]
    if operation.name != "VariationsFor":
        return kind.take(promise, operation)
    keys = [str(key) for key in promise.GetKeys()]
    return {key: kind.take_varied(promise, which, key) for which, key in enumerate(keys)}


def merge(operation: Operation, a: Any, b: Any) -> Any:
    """The value of the entries of both."""
    kind = KINDS[operation.kind]
    if operation.name != "VariationsFor":
        return kind.merge(a, b)
    return {key: kind.merge(value, b[key]) for key, value in a.items()}


def finish(operation: Operation, value: Any, parent: Operation | None = None) -> Any:
    """What the user gets."""
    kind = KINDS[operation.kind]
    if operation.name != "VariationsFor":
        return kind.finish(value, operation)
    assert parent is not None
    finished = {key: kind.finish(each, parent) for key, each in value.items()}
    if operation.kind == "fills":
        for key, histogram in finished.items():
            if key != "nominal":  # so ROOT names what it made for a variation
                histogram.SetName(f"{histogram.GetName()}_{key.replace(':', '_')}")
    return Variations(finished)


_NUMBERS = {  # without char, which is a string of one letter in Python
    "bool": np.bool_,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "short": np.int16,
    "unsigned short": np.uint16,
    "int": np.int32,
    "unsigned int": np.uint32,
    "long": np.int64,
    "unsigned long": np.uint64,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
    "Bool_t": np.bool_,
    "UChar_t": np.uint8,
    "Short_t": np.int16,
    "UShort_t": np.uint16,
    "Int_t": np.int32,
    "UInt_t": np.uint32,
    "Long64_t": np.int64,
    "ULong64_t": np.uint64,
    "Float_t": np.float32,
    "Double_t": np.float64,
}


def _holds(promise: Any) -> str:
    """The C++ type of a result."""
    name: str = type(promise).__cpp_name__
    return name[name.index("<") + 1 : name.rindex(">")].strip()


def _own(array: Any) -> np.ndarray:
    """A copy that owns its memory, and that of the arrays in it."""
    copied = np.array(array, subok=False)
    if copied.dtype == object:
        for i, item in enumerate(copied):
            if isinstance(item, np.ndarray):
                copied[i] = np.array(item, subok=False)
    return copied
