"""The shape of the reduction, against the definition of it, written down naively."""

import itertools

import pytest
from hypothesis import given, strategies as st

from lambdamr.tree import EMPTY, Fold, FoldError, node_size


def join(left, right):
    """A reducer that shows the shape: not being associative, it makes another value of another."""
    return f"({left}{right})"


def naive(values, fan_in):
    """Level by level: neighbours, ``fan_in`` at a time, are folded from left to right."""
    while len(values) > 1:
        nodes = [values[i : i + fan_in] for i in range(0, len(values), fan_in)]
        values = [fold_left(node) for node in nodes]
    return values[0]


def fold_left(values):
    result = values[0]
    for value in values[1:]:
        if result is EMPTY:
            result = value
        elif value is not EMPTY:
            result = join(result, value)
    return result


def nodes(npartitions, fan_in):
    """Every node of the tree, as (lo, hi)."""
    size, found = 1, set()
    while True:
        level = {(lo, min(lo + size, npartitions)) for lo in range(0, npartitions, size)}
        found |= level
        if len(level) == 1:
            return found
        size *= fan_in


@st.composite
def trees(draw, most=80):
    return draw(st.integers(1, most)), draw(st.integers(2, 6))


@st.composite
def cut_trees(draw):
    """A tree, and its partitions cut into contiguous tasks."""
    npartitions, fan_in = draw(trees())
    marks = draw(st.sets(st.integers(1, max(1, npartitions - 1)), max_size=npartitions))
    edges = [0, *sorted(mark for mark in marks if mark < npartitions), npartitions]
    return npartitions, fan_in, list(itertools.pairwise(edges))


def fold(npartitions, fan_in, items, reducer=join):
    folding = Fold(npartitions, fan_in, reducer)
    for lo, hi, value in items:
        folding.push(lo, hi, value)
    return folding.items()


def leaves(lo, hi, empty=()):
    return [(i, i + 1, EMPTY if i in empty else f"{i},") for i in range(lo, hi)]


@given(tree=trees())
def test_one_task_for_all_folds_like_the_definition(tree):
    npartitions, fan_in = tree
    values = [value for _, _, value in leaves(0, npartitions)]
    assert fold(npartitions, fan_in, leaves(0, npartitions)) == [
        (0, npartitions, naive(values, fan_in))
    ]


@given(tree=cut_trees(), draw=st.data())
def test_any_tasks_merged_in_any_order_make_the_same_value(tree, draw):
    npartitions, fan_in, tasks = tree
    items = [item for lo, hi in tasks for item in fold(npartitions, fan_in, leaves(lo, hi))]
    while len(items) > 1:  # some neighbours are merged: two of them, or more
        lo = draw.draw(st.integers(0, len(items) - 2))
        hi = draw.draw(st.integers(lo + 2, len(items)))
        if draw.draw(st.booleans()):
            lo, hi = 0, len(items)  # in the end all of them meet
        items[lo:hi] = fold(npartitions, fan_in, items[lo:hi])
    values = [value for _, _, value in leaves(0, npartitions)]
    assert items == [(0, npartitions, naive(values, fan_in))]


@given(tree=cut_trees(), draw=st.data())
def test_partitions_that_failed_are_neutral_wherever_they_are(tree, draw):
    npartitions, fan_in, tasks = tree
    empty = draw.draw(st.sets(st.integers(0, npartitions - 1)))
    items = [item for lo, hi in tasks for item in fold(npartitions, fan_in, leaves(lo, hi, empty))]
    ((lo, hi, value),) = fold(npartitions, fan_in, items)
    values = [value for _, _, value in leaves(0, npartitions, empty)]
    assert (lo, hi, value) == (0, npartitions, naive(values, fan_in))


@given(tree=cut_trees())
def test_what_a_task_leaves_covers_its_partitions_in_order(tree):
    npartitions, fan_in, tasks = tree
    for lo, hi in tasks:
        items = fold(npartitions, fan_in, leaves(lo, hi))
        assert items[0][0] == lo
        assert items[-1][1] == hi
        assert all(a[1] == b[0] for a, b in itertools.pairwise(items))


@given(tree=trees(), draw=st.data())
def test_a_task_that_is_a_node_leaves_one_value(tree, draw):
    npartitions, fan_in = tree
    lo, hi = draw.draw(st.sampled_from(sorted(nodes(npartitions, fan_in))))
    values = [value for _, _, value in leaves(lo, hi)]
    assert fold(npartitions, fan_in, leaves(lo, hi)) == [(lo, hi, naive(values, fan_in))]


@given(tree=trees(), draw=st.data())
def test_node_size_is_that_of_the_largest_node_that_fits(tree, draw):
    npartitions, fan_in = tree
    lo = draw.draw(st.integers(0, npartitions - 1))
    most = draw.draw(st.integers(1, npartitions + 3))
    sizes = [b - a for a, b in nodes(npartitions, fan_in) if a == lo and b - a <= most]
    assert node_size(lo, most, npartitions, fan_in) == max(sizes)


def test_a_fold_calls_the_reducer_once_less_than_there_are_values():
    calls = []
    fold(100, 3, leaves(0, 100), reducer=lambda a, b: calls.append(1) or join(a, b))
    assert len(calls) == 99


def test_a_sum_of_two_is_pairwise():
    ((_, _, value),) = fold(5, 2, leaves(0, 5))
    assert value == "(((0,1,)(2,3,))4,)"


def test_a_wide_node_folds_from_left_to_right():
    ((_, _, value),) = fold(4, 8, leaves(0, 4))
    assert value == "(((0,1,)2,)3,)"


def test_a_reducer_that_raises_says_which_partitions_it_folded():
    def reducer(left, right):
        if "7" in right:
            raise ZeroDivisionError
        return join(left, right)

    folding = Fold(8, 2, reducer)
    for item in leaves(0, 7):
        folding.push(*item)
    with pytest.raises(FoldError) as caught:
        folding.push(7, 8, "7,")
    assert (caught.value.lo, caught.value.hi) == (6, 8)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    items = [(0, 4, "((0,1,)(2,3,))"), (4, 6, "(4,5,)")]  # the operands are gone, the rest is not
    assert folding.items() == items


def test_empty_says_so():
    assert repr(EMPTY) == "EMPTY"


def test_a_reducer_that_exits_has_failed_as_well():
    def reducer(left, right):
        raise SystemExit(3)

    with pytest.raises(FoldError) as caught:
        fold(2, 2, leaves(0, 2), reducer)
    assert isinstance(caught.value.__cause__, SystemExit)
