"""The shape of the reduction: an ordered tree over partitions, ``fan_in`` children a node.

Nodes of level 0 are the partitions; node ``i`` of level ``k`` covers the partitions
``i * fan_in**k`` up to ``(i + 1) * fan_in**k`` (the last node of a level may cover fewer). A node
folds its children from left to right. So a range of partitions ``lo <= i < hi`` that starts where
a node starts, and ends where one of its children ends, has one value, whoever computes it, and
when. `Fold` makes such values larger as their neighbours come in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


class _Empty:
    """The value of partitions that failed: neutral in every reduction."""

    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = _Empty()


class FoldError(Exception):
    """The reducer raised (``__cause__``) while it folded the partitions ``lo <= i < hi``."""

    def __init__(self, lo: int, hi: int) -> None:
        super().__init__(lo, hi)
        self.lo, self.hi = lo, hi


def node_size(lo: int, most: int, npartitions: int, fan_in: int) -> int:
    """The size of the largest node that starts at ``lo`` and covers at most ``most`` partitions."""
    size = 1
    while lo % (size * fan_in) == 0 and size < npartitions - lo:
        larger = min(size * fan_in, npartitions - lo)
        if larger > most:
            break
        size *= fan_in
    return min(size, npartitions - lo)


class Fold:
    """Folds values of neighbouring partitions, pushed in ascending order, as the tree says.

    What is not yet foldable (its left neighbours are elsewhere) is kept as it is; `items` lists
    what there is at the end.
    """

    def __init__(self, npartitions: int, fan_in: int, reducer: Callable[[Any, Any], Any]) -> None:
        self._npartitions = npartitions
        self._fan_in = fan_in
        self._reducer = reducer
        self._open: dict[int, tuple[int, int, Any]] = {}  # size of the node -> (lo, hi, value)
        self._closed: list[tuple[int, int, Any]] = []

    def push(self, lo: int, hi: int, value: Any) -> None:
        """Take the value of the partitions ``lo <= i < hi``.

        Raises:
            FoldError: the reducer raised; the operands are gone.
        """
        npartitions, fan_in, open_ = self._npartitions, self._fan_in, self._open
        size = 1  # of the smallest node that starts at `lo` and holds `hi`
        while lo + size < hi:
            size *= fan_in
        while True:
            if hi < lo + size and hi < npartitions:  # the first children of a node
                open_[size] = (lo, hi, value)
                return
            if hi == npartitions and lo == 0:  # the whole tree
                self._closed.append((lo, hi, value))
                return
            size *= fan_in
            if lo % size:  # not the first child: its left siblings are here, or elsewhere
                left = open_.get(size)
                if left is None or left[1] != lo:
                    self._closed.append((lo, hi, value))
                    return
                del open_[size]
                lo = left[0]
                value = self._reduce(lo, hi, left[2], value)

    def _reduce(self, lo: int, hi: int, left: Any, right: Any) -> Any:
        if left is EMPTY:
            return right
        if right is EMPTY:
            return left
        try:
            return self._reducer(left, right)
        except (Exception, SystemExit) as error:
            raise FoldError(lo, hi) from error

    def items(self) -> list[tuple[int, int, Any]]:
        """What was folded, as ``(lo, hi, value)`` in ascending order."""
        return sorted([*self._closed, *self._open.values()], key=lambda item: item[0])
