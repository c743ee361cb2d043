"""How data is cut: `split` into balanced slices, `Partitions` handed over as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from lambdamr.checks import check, count
from lambdamr.chunk import Chunk as Chunk, cut
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
        if isinstance(elements, (str, bytes, dict, set, frozenset)) or hasattr(elements, "columns"):
            raise InputTypeError(
                f"Partitions of a {type(elements).__name__} would be its characters, keys or "
                f"columns; pass a list of what is one partition each: Partitions([...])"
            )
        check("elements", elements, Iterable, "an iterable of partitions")
        self._elements = tuple(elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Iterator[T]:
        return iter(self._elements)

    def __getitem__(self, index: int) -> T:
        return self._elements[index]

    def __repr__(self) -> str:
        return f"Partitions(<{len(self)} elements>)"


def as_chunk(data: Any, npartitions: int | None) -> Chunk:
    """All of ``data`` as one chunk of ``npartitions``.

    Raises:
        InputError: it cannot be cut so.
    """
    count("npartitions", npartitions)
    if isinstance(data, Partitions):
        if npartitions not in (None, len(data)):
            raise InputError(
                f"npartitions={npartitions}, but data is Partitions with {len(data)} elements, "
                f"which are not cut again; leave npartitions out"
            )
        return Chunk(data._elements, None, len(data), range(len(data)))
    length = _length(data)
    if npartitions is None:
        npartitions = min(length, DEFAULT_NPARTITIONS)
    if npartitions > length > 0:
        raise InputError(
            f"npartitions={npartitions}, but the data has only {length} elements; "
            f"pass at most that many, or leave npartitions out"
        )
    npartitions = min(int(npartitions), length)
    return Chunk(data, length, npartitions, range(npartitions))


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
    return Partitions(chunk[i] for i in chunk.partitions)


def _length(data: Any) -> int:
    try:
        if isinstance(data, (str, dict)):  # which have a length, and no slices worth mapping
            raise TypeError
        length = len(data)
        cut(data, 0, 0)
    except Exception:
        raise InputTypeError(
            f"data must be a sequence that slices (list, tuple, range, bytes, numpy array, pandas "
            f"or Arrow table) or Partitions, not {type(data).__name__}; pass list(data), in an "
            f"order that you choose, or Partitions([data]) to hand it over as it is"
        ) from None
    return length
