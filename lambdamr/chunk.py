"""Some neighbouring partitions, as they travel to a worker."""

from __future__ import annotations

from typing import Any


class Chunk:
    """Data, and where it is cut."""

    __slots__ = ("data", "length", "npartitions", "partitions")

    def __init__(self, data: Any, length: int | None, npartitions: int, partitions: range) -> None:
        self.data = data
        self.length = length  # of all the data; None if each element is a partition
        self.npartitions = npartitions
        self.partitions = partitions  # those in `data`

    def __getitem__(self, partition: int) -> Any:
        if self.length is None:
            return self.data[self._at(partition)]
        return cut(self.data, self._at(partition), self._at(partition + 1))

    def part(self, lo: int, hi: int) -> Chunk:
        """The partitions ``lo <= i < hi``."""
        data = cut(self.data, self._at(lo), self._at(hi))
        return Chunk(data, self.length, self.npartitions, range(lo, hi))

    def _at(self, partition: int) -> int:
        """Where in `data` a partition starts."""
        first = self.partitions.start
        if self.length is None:
            return partition - first
        return partition * self.length // self.npartitions - first * self.length // self.npartitions


def cut(data: Any, start: int, stop: int) -> Any:
    """The elements ``start <= i < stop`` of data that slices."""
    if hasattr(data, "iloc"):  # pandas: a plain slice may go by labels
        return data.iloc[start:stop]
    return data[start:stop]
