"""The state of a reduction: what is not mapped yet, and which values wait to be folded."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lambdamr.tree import node_size
from lambdamr.wire import Item, Ref

MERGE_ITEMS = 32
"""So many values of one node are folded in one go; fewer wait for their neighbours."""

MERGE_LARGE_ITEMS = 8
"""So many are enough if together they have ``MERGE_BYTES``: space is scarce, folds are slow."""

MERGE_BYTES = 8 << 20

PIECES = 8
"""A task that failed is tried again in about so many pieces."""


@dataclass(slots=True, eq=False)
class Work:
    """A piece of work until it is done: a range of partitions to map, or values to fold.

    A part of it is other work, with attempts of its own.
    """

    lo: int
    hi: int
    items: tuple[Item, ...] = ()
    initial: Ref | None = None
    attempts: int = 0  # that failed, and count
    throttles: int = 0
    copied: int = -1  # the last attempt that got a second copy
    rung: int = 0

    @property
    def is_merge(self) -> bool:
        """Whether values are to be folded, and nothing mapped."""
        return bool(self.items)


@dataclass(slots=True, repr=False, eq=False)
class Frontier:
    """Ready ranges, delayed work, and finished items of a tree over ``npartitions``."""

    npartitions: int
    fan_in: int
    unmapped: int = 0  # partitions in ready ranges
    _ready: list[tuple[int, int, Work]] = field(default_factory=list)
    _merges: list[Work] = field(default_factory=list)
    _delayed: list[tuple[float, int, Work]] = field(default_factory=list)
    _items: dict[int, Item] = field(default_factory=dict)  # by the first partition
    _busy: set[int] = field(default_factory=set)  # items that are being folded
    _levels: list[tuple[int, array[int]]] = field(default_factory=list)
    _serial: int = 0

    def __post_init__(self) -> None:
        size = 1  # for each level above the partitions: the size of its nodes, and how many
        while size < self.npartitions:  # partitions of each node are finished
            size *= self.fan_in
            self._levels.append((size, array("Q", bytes(8 * -(-self.npartitions // size)))))

    # -- work ------------------------------------------------------------------------------------

    def add(self, work: Work) -> None:
        """This can be done now."""
        if work.is_merge:
            self._merges.append(work)
        elif work.lo < work.hi:
            self._serial += 1
            heapq.heappush(self._ready, (work.lo, self._serial, work))
            self.unmapped += work.hi - work.lo

    def add_later(self, work: Work, due: float) -> None:
        """This can be done from the time ``due``."""
        self._serial += 1
        heapq.heappush(self._delayed, (due, self._serial, work))

    def wake(self, now: float) -> float:
        """Make delayed work ready whose time has come; the time of the next (or infinity)."""
        while self._delayed and self._delayed[0][0] <= now:
            self.add(heapq.heappop(self._delayed)[2])
        return self._delayed[0][0] if self._delayed else math.inf

    def take(self, most: int) -> Work | None:
        """The next work to start, with at most ``most`` partitions; folds go first."""
        if self._merges:
            return self._merges.pop(0)
        if not self._ready:
            return None
        _, _, work = heapq.heappop(self._ready)
        self.unmapped -= work.hi - work.lo
        size = node_size(work.lo, min(most, work.hi - work.lo), self.npartitions, self.fan_in)
        middle = work.lo + size
        if middle == work.hi:
            return work
        self.add(Work(middle, work.hi))
        return Work(work.lo, middle)

    def pieces(self, work: Work) -> Iterator[Work]:
        """The same partitions as smaller works."""
        most = max(1, (work.hi - work.lo) // PIECES)
        lo = work.lo
        while lo < work.hi:
            hi = lo + node_size(lo, min(most, work.hi - lo), self.npartitions, self.fan_in)
            yield Work(lo, hi)
            lo = hi

    # -- values ----------------------------------------------------------------------------------

    @property
    def root(self) -> Item | None:
        """The value of all partitions, once there is one."""
        item = self._items.get(0)
        return item if item is not None and item.hi == self.npartitions else None

    def finish(self, item: Item) -> None:
        """These partitions are mapped (or failed for good)."""
        self._items[item.lo] = item
        for size, finished in self._levels:
            if item.lo // size * size + size >= item.hi:
                finished[item.lo // size] += item.hi - item.lo
        self._plan(item)

    def replace(self, items: Iterable[Item], folded: Iterable[Item]) -> None:
        """A fold made ``folded`` of ``items``."""
        for item in items:
            self._items.pop(item.lo, None)
            self._busy.discard(item.lo)
        folded = list(folded)
        for item in folded:
            self._items[item.lo] = item
        for item in folded:
            self._plan(item)

    def _plan(self, item: Item) -> None:
        """Plan a fold of the largest finished node around an item, if it is worth it."""
        best: list[Item] = []
        for size, finished in self._levels:
            lo = item.lo // size * size
            hi = min(lo + size, self.npartitions)
            if hi < item.hi:  # a node inside the item
                continue
            if finished[lo // size] < hi - lo:
                break
            items = list(self._between(lo, hi))
            if any(part.lo in self._busy for part in items):
                break
            best = items
        if len(best) < 2:
            return
        whole = best[-1].hi - best[0].lo == self.npartitions
        weight = sum(part.ref.size for part in best if part.ref)
        enough = MERGE_LARGE_ITEMS if weight >= MERGE_BYTES else MERGE_ITEMS
        if whole or len(best) >= enough:
            self._busy.update(part.lo for part in best)
            self.add(Work(best[0].lo, best[-1].hi, items=tuple(best)))

    def _between(self, lo: int, hi: int) -> Iterator[Item]:
        while lo < hi:
            item = self._items[lo]
            yield item
            lo = item.hi
