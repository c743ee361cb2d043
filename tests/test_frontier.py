"""What is not mapped yet, and which values wait to be folded: in any order, exactly once."""

import functools
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lambdamr import frontier as module
from lambdamr.frontier import Frontier, Work
from lambdamr.tree import EMPTY, Fold
from lambdamr.wire import Item, Ref

SMALL = Ref(10, data=b"")


def shape(npartitions: int, fan_in: int) -> str:
    """The fold, level by level, as parentheses."""
    level = [str(i) for i in range(npartitions)]
    while len(level) > 1:
        level = [
            functools.reduce(lambda a, b: f"({a} {b})", level[i : i + fan_in])
            for i in range(0, len(level), fan_in)
        ]
    return level[0]


def mapped(work: Work, npartitions: int, fan_in: int, stop: int | None = None) -> list[Any]:
    """What a worker makes of a map task: ``(lo, hi, value)``."""
    fold = Fold(npartitions, fan_in, lambda a, b: f"({a} {b})")
    for partition in range(work.lo, work.hi if stop is None else stop):
        fold.push(partition, partition + 1, str(partition))
    return fold.items()


def folded(work: Work, values: dict[int, Any], npartitions: int, fan_in: int) -> list[Any]:
    """What a worker makes of a merge."""
    fold = Fold(npartitions, fan_in, lambda a, b: f"({a} {b})")
    for item in work.items:
        fold.push(item.lo, item.hi, values.pop(item.lo) if item.ref else EMPTY)
    return fold.items()


@settings(deadline=None, max_examples=200)
@given(
    npartitions=st.integers(1, 120),
    fan_in=st.integers(2, 9),
    merge_items=st.sampled_from((2, 3, 5, 32)),
    most=st.integers(1, 40),
    holes=st.floats(0, 0.5),
    seed=st.integers(0, 1 << 32),
)
def test_whatever_ends_first_every_value_is_folded_once_and_the_root_has_the_trees_shape(
    npartitions: int, fan_in: int, merge_items: int, most: int, holes: float, seed: int
) -> None:
    lot = random.Random(seed)
    frontier = Frontier(npartitions, fan_in)
    frontier.add(Work(0, npartitions))
    values: dict[int, Any] = {}  # by the first partition, as the items are
    running: list[Work] = []
    failed: set[int] = set()
    maps: Counter[int] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MERGE_ITEMS", merge_items)
        while frontier.root is None:
            while (len(running) < 4 or lot.random() < 0.5) and (
                work := frontier.take(lot.randint(1, most))
            ):
                running.append(work)
            assert running, "nothing runs, and there is no root"
            work = running.pop(lot.randrange(len(running)))
            if work.is_merge:
                results = folded(work, values, npartitions, fan_in)
                assert len(results) < len(work.items)
                values.update({lo: value for lo, _, value in results if value is not EMPTY})
                frontier.replace(
                    work.items,
                    [Item(lo, hi, None if v is EMPTY else SMALL) for lo, hi, v in results],
                )
            elif work.hi - work.lo == 1 and lot.random() < holes:
                failed.add(work.lo)
                frontier.finish(Item(work.lo, work.hi, None))
            elif work.hi - work.lo > 1 and lot.random() < 0.3:
                for piece in frontier.pieces(work):  # it was lost
                    frontier.add(piece)
            else:
                stop = lot.randint(work.lo + 1, work.hi)
                maps.update(range(work.lo, stop))
                frontier.add(Work(stop, work.hi))
                for lo, hi, value in mapped(work, npartitions, fan_in, stop):
                    values[lo] = value
                    frontier.finish(Item(lo, hi, SMALL))
    assert sorted([*maps, *failed]) == list(range(npartitions))
    assert set(maps.values()) <= {1}
    assert frontier.unmapped == 0
    assert frontier.take(1) is None
    if not failed:
        assert values == {0: shape(npartitions, fan_in)}
    elif len(failed) == npartitions:
        assert frontier.root.ref is None
    else:
        left = [int(i) for i in "".join(c if c.isdigit() else " " for c in values[0]).split()]
        assert left == [i for i in range(npartitions) if i not in failed]


@given(st.integers(1, 500), st.integers(2, 9), st.integers(1, 500), st.data())
def test_a_task_is_at_most_as_large_as_asked_and_starts_and_ends_where_nodes_do(
    npartitions: int, fan_in: int, most: int, data: st.DataObject
) -> None:
    frontier = Frontier(npartitions, fan_in)
    lo = data.draw(st.integers(0, npartitions - 1))
    frontier.add(Work(lo, npartitions))
    at = lo
    while work := frontier.take(most):
        assert work.lo == at
        assert 1 <= work.hi - work.lo <= max(1, most)
        assert len(mapped(work, npartitions, fan_in)) == 1  # one value
        at = work.hi
    assert at == npartitions


@given(st.integers(2, 400), st.integers(2, 9), st.data())
def test_pieces_are_smaller_and_together_the_same_partitions(
    npartitions: int, fan_in: int, data: st.DataObject
) -> None:
    lo = data.draw(st.integers(0, npartitions - 2))
    hi = data.draw(st.integers(lo + 2, npartitions))
    pieces = list(Frontier(npartitions, fan_in).pieces(Work(lo, hi)))
    assert [piece.lo for piece in pieces] == [lo, *(piece.hi for piece in pieces[:-1])]
    assert pieces[-1].hi == hi
    assert len(pieces) > 1


def test_merges_go_before_maps_so_that_values_do_not_pile_up() -> None:
    frontier = Frontier(3, 2)
    merge = Work(0, 2, items=(Item(0, 1, SMALL), Item(1, 2, SMALL)))
    frontier.add(Work(2, 3))
    frontier.add(merge)
    assert frontier.take(1) is merge


def test_the_lowest_partitions_go_first() -> None:
    frontier = Frontier(8, 2)
    for lo in (6, 2, 4):
        frontier.add(Work(lo, lo + 2))
    taken = [frontier.take(2) for _ in range(3)]
    assert [work.lo for work in taken if work] == [2, 4, 6]


def test_delayed_work_is_ready_when_its_time_has_come() -> None:
    frontier = Frontier(4, 2)
    early, late = Work(0, 1), Work(1, 2)
    frontier.add_later(late, 5.0)
    frontier.add_later(early, 2.0)
    assert frontier.wake(1.0) == 2.0
    assert frontier.take(1) is None
    assert frontier.wake(2.0) == 5.0
    assert frontier.take(1) is early
    assert frontier.wake(9.0) == math.inf
    assert frontier.take(1) is late


def test_few_small_values_wait_for_their_neighbours() -> None:
    frontier = Frontier(64, 2)
    for i in range(module.MERGE_ITEMS - 1):
        frontier.finish(Item(i, i + 1, SMALL))
    assert frontier.take(64) is None
    frontier.finish(Item(module.MERGE_ITEMS - 1, module.MERGE_ITEMS, SMALL))
    merge = frontier.take(64)
    assert merge is not None
    assert merge.is_merge
    assert (merge.lo, merge.hi) == (0, module.MERGE_ITEMS)


def test_large_values_are_folded_sooner() -> None:
    frontier = Frontier(64, 2)
    large = Ref(module.MERGE_BYTES, key="k")
    for i in range(module.MERGE_LARGE_ITEMS):
        frontier.finish(Item(i, i + 1, large))
    merge = frontier.take(64)
    assert merge is not None
    assert (merge.lo, merge.hi) == (0, module.MERGE_LARGE_ITEMS)


def test_values_that_are_being_folded_are_in_no_other_fold() -> None:
    frontier = Frontier(64, 2)
    for i in range(32):
        frontier.finish(Item(i, i + 1, SMALL))
    first = frontier.take(64)
    assert first is not None
    for i in range(32, 64):
        frontier.finish(Item(i, i + 1, SMALL))
    second = frontier.take(64)
    assert second is not None
    assert (second.lo, second.hi) == (32, 64)
    assert frontier.take(64) is None
    frontier.replace(second.items, [Item(32, 64, SMALL)])
    assert frontier.take(64) is None  # the first half is still under way
    frontier.replace(first.items, [Item(0, 32, SMALL)])
    last = frontier.take(64)
    assert last is not None
    assert [(item.lo, item.hi) for item in last.items] == [(0, 32), (32, 64)]


def test_one_partition_is_its_own_root() -> None:
    frontier = Frontier(1, 2)
    assert frontier.root is None
    frontier.finish(Item(0, 1, SMALL))
    assert frontier.root == Item(0, 1, SMALL)


def test_a_fold_that_failed_leaves_a_hole_and_the_rest_is_folded_around_it() -> None:
    frontier = Frontier(4, 2)
    for i in range(4):
        frontier.finish(Item(i, i + 1, SMALL))
    merge = frontier.take(4)
    assert merge is not None
    kept = [item for item in merge.items if item.lo >= 2]
    frontier.replace(merge.items, [*kept, Item(0, 2, None)])
    again = frontier.take(4)
    assert again is not None
    assert [(item.lo, item.hi, item.ref) for item in again.items] == [
        (0, 2, None),
        (2, 3, SMALL),
        (3, 4, SMALL),
    ]
