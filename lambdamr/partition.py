"""How data is cut: `split` into balanced slices, `Partitions` handed over as they are."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from lambdamr.errors import InputError, InputTypeError

T = TypeVar("T")

DEFAULT_NPARTITIONS = 1000
"""Default number of partitions of sliced data (or its length, if that is less).

A constant, never the number of workers: the bits of a result must not depend on the machine.
"""


class Partitions(Generic[T]):
    """Partitions that exist already: each element is handed to the mapper as it is.

    For files, byte ranges, query parameters and the like:
    ``map_reduce(read_and_count, merge, Partitions(paths))``.

    Args:
        elements: the partitions, in the order of the reduction; an iterable that ends.
    """

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[T]) -> None:
        if isinstance(elements, (str, bytes)):
            raise InputTypeError(
                f"Partitions({elements!r:.40}) would make one partition of each character; "
                f"put it in a list: Partitions([...])"
            )
        try:
            self._elements = tuple(elements)
        except TypeError:
            raise InputTypeError(
                f"Partitions takes an iterable of partitions, not {type(elements).__name__}"
            ) from None

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Iterator[T]:
        return iter(self._elements)

    def __getitem__(self, index: int) -> T:
        return self._elements[index]

    def __repr__(self) -> str:
        return f"Partitions(<{len(self)} elements>)"


class Chunk:
    """Some neighbouring partitions, as they travel to a worker: data, and where it is cut."""

    __slots__ = ("data", "first", "length", "npartitions")

    def __init__(self, data: Any, first: int, length: int | None, npartitions: int) -> None:
        self.data = data
        self.first = first  # the number of the first partition in `data`
        self.length = length  # of all the data; None if each element is a partition
        self.npartitions = npartitions

    def __getitem__(self, partition: int) -> Any:
        if self.length is None:
            return self.data[partition - self.first]
        base = self._start(self.first)
        return _slice(self.data, self._start(partition) - base, self._start(partition + 1) - base)

    def part(self, lo: int, hi: int) -> Chunk:
        """The partitions ``lo <= i < hi``."""
        if self.length is None:
            a, b = lo - self.first, hi - self.first
        else:
            base = self._start(self.first)
            a, b = self._start(lo) - base, self._start(hi) - base
        return Chunk(_slice(self.data, a, b), lo, self.length, self.npartitions)

    def _start(self, partition: int) -> int:
        assert self.length is not None
        return partition * self.length // self.npartitions


def as_chunk(data: Any, npartitions: int | None) -> Chunk:
    """All of ``data`` as one chunk of ``npartitions``.

    Raises:
        InputError: it cannot be cut so.
    """
    if npartitions is not None:
        try:
            npartitions = operator.index(npartitions)
        except TypeError:
            raise InputTypeError(
                f"npartitions must be a whole number, not {npartitions!r:.60}"
            ) from None
        if npartitions < 1:
            raise InputError(f"npartitions must be at least 1, not {npartitions}")
    if isinstance(data, Partitions):
        if npartitions not in (None, len(data)):
            raise InputError(
                f"npartitions={npartitions}, but data is Partitions with {len(data)} elements, "
                f"which are not cut again; leave npartitions out"
            )
        return Chunk(data._elements, 0, None, len(data))
    length = _length(data)
    if npartitions is None:
        npartitions = min(length, DEFAULT_NPARTITIONS)
    if npartitions > length > 0:
        raise InputError(
            f"npartitions={npartitions}, but the data has only {length} elements; "
            f"pass at most that many, or leave npartitions out"
        )
    return Chunk(data, 0, length, npartitions if length else 0)


def split(data: Any, npartitions: int | None = None) -> Partitions[Any]:
    """Cut ``data`` into contiguous slices whose lengths differ by at most one.

    Args:
        data: a list, tuple, range, bytes, numpy array (along its first axis), pandas or Arrow
            table (by rows), or any sequence that slices.
        npartitions: how many; default the length of the data, at most 1,000.

    Raises:
        InputError: ``data`` does not slice, or has fewer elements than ``npartitions``.
    """
    chunk = as_chunk(data, npartitions)
    return Partitions(chunk[i] for i in range(chunk.npartitions))


def _length(data: Any) -> int:
    kind = type(data).__name__
    if isinstance(data, str):
        raise InputTypeError(
            "data is a str, which would be cut into characters; pass a list of strings, "
            "Partitions([...]) for a file name, or data.encode() to cut bytes"
        )
    if isinstance(data, (dict, set, frozenset)):
        raise InputTypeError(
            f"data is a {kind}, which has no slices; pass list(data"
            f"{'.items()' if isinstance(data, dict) else ''}), in an order that you choose"
        )
    try:
        length = len(data)
        _slice(data, 0, 0)
    except Exception:
        raise InputTypeError(
            f"data must be a sequence that slices (list, tuple, range, bytes, numpy array, pandas "
            f"or Arrow table) or Partitions, not {kind}; for an iterator pass list(data)"
        ) from None
    return length


def _slice(data: Any, start: int, stop: int) -> Any:
    library = type(data).__module__.partition(".")[0]
    if library == "pandas" and hasattr(data, "iloc"):
        return data.iloc[start:stop]
    if library == "pyarrow":
        return data.slice(start, stop - start)
    sliced: Sequence[Any] = data[start:stop]
    return sliced
