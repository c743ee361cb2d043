import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from lambdamr import InputError, Partitions, split
from lambdamr.partition import DEFAULT_NPARTITIONS, as_chunk

KINDS = {
    "list": (lambda n: list(range(n)), list, lambda parts: [x for part in parts for x in part]),
    "tuple": (lambda n: tuple(range(n)), list, lambda parts: [x for part in parts for x in part]),
    "range": (range, list, lambda parts: [x for part in parts for x in part]),
    "bytes": (lambda n: bytes(i % 256 for i in range(n)), bytes, b"".join),
    "bytearray": (lambda n: bytearray(i % 256 for i in range(n)), bytes, b"".join),
    "memoryview": (lambda n: memoryview(bytes(i % 256 for i in range(n))), bytes, b"".join),
    "array": (np.arange, list, lambda parts: list(np.concatenate(parts))),
    "strided array": (
        lambda n: np.arange(2 * n)[::2],
        list,
        lambda parts: list(np.concatenate(parts)),
    ),
    "matrix": (
        lambda n: np.arange(3 * n).reshape(n, 3),
        lambda data: data.tolist(),
        lambda parts: np.concatenate(parts).tolist(),
    ),
    "series": (
        lambda n: pd.Series(range(n), index=[i / 2 for i in range(n)]),
        lambda data: data.to_dict(),
        lambda parts: pd.concat(list(parts)).to_dict(),
    ),
    "frame": (
        lambda n: pd.DataFrame({"a": range(n)}, index=[n - i for i in range(n)]),
        lambda data: data.to_dict(),
        lambda parts: pd.concat(list(parts)).to_dict(),
    ),
    "Arrow table": (
        lambda n: pa.table({"a": list(range(n))}),
        lambda data: data.to_pydict(),
        lambda parts: pa.concat_tables(list(parts)).to_pydict(),
    ),
    "Arrow batch": (
        lambda n: pa.record_batch({"a": list(range(n))}),
        lambda data: data.to_pydict(),
        lambda parts: pa.Table.from_batches(list(parts)).to_pydict(),
    ),
    "Arrow array": (
        lambda n: pa.array(range(n)),
        lambda data: data.to_pylist(),
        lambda parts: pa.concat_arrays(list(parts)).to_pylist(),
    ),
}


@st.composite
def cuts(draw, most=60):
    length = draw(st.integers(1, most))
    return length, draw(st.integers(1, length))


@pytest.mark.parametrize("kind", KINDS)
@given(cut=cuts())
def test_slices_are_balanced_contiguous_and_complete(kind, cut):
    make, content, join = KINDS[kind]
    length, npartitions = cut
    data = make(length)
    parts = split(data, npartitions)
    lengths = [len(part) for part in parts]
    assert len(parts) == npartitions
    assert sum(lengths) == length
    assert max(lengths) - min(lengths) <= 1
    assert join(parts) == content(data)


@pytest.mark.parametrize("kind", KINDS)
@given(cut=cuts(), draw=st.data())
def test_a_chunk_of_a_chunk_has_the_same_partitions(kind, cut, draw):
    make, content, _ = KINDS[kind]
    length, npartitions = cut
    whole = as_chunk(make(length), npartitions)
    lo = draw.draw(st.integers(0, npartitions - 1))
    hi = draw.draw(st.integers(lo + 1, npartitions))
    first = draw.draw(st.integers(lo, hi - 1))
    some = whole.part(lo, hi).part(first, hi)
    assert some.partitions == range(first, hi)
    if kind != "memoryview":  # which does not pickle, but travels by cloudpickle
        some = pickle.loads(pickle.dumps(some, protocol=5))  # noqa: TID251  # made here
    for partition in some.partitions:
        assert content(some[partition]) == content(whole[partition])


@given(elements=st.lists(st.integers(), max_size=30), draw=st.data())
def test_partitions_are_handed_over_as_they_are(elements, draw):
    chunk = as_chunk(Partitions(iter(elements)), None)
    assert [chunk[i] for i in chunk.partitions] == elements
    if elements:
        lo = draw.draw(st.integers(0, len(elements) - 1))
        part = chunk.part(lo, len(elements))
        assert [part[i] for i in part.partitions] == elements[lo:]


@pytest.mark.parametrize("length", [0, 1, DEFAULT_NPARTITIONS, DEFAULT_NPARTITIONS + 1, 12_345])
def test_the_default_is_the_length_up_to_a_constant(length):
    assert len(split(range(length))) == min(length, DEFAULT_NPARTITIONS)


def test_empty_data_has_no_partitions_however_many_are_asked_for():
    assert list(split([], 4)) == []
    assert list(split(pd.DataFrame({"a": []}))) == []


def test_numbers_of_numpy_are_numbers():
    assert len(split([1, 2, 3], np.int64(2))) == 2


def test_slices_of_an_array_share_its_memory():
    data = np.arange(1000)
    assert all(np.shares_memory(data, part) for part in split(data, 7))


def test_partitions_say_how_many_they_are():
    parts = Partitions(["a", "b"])
    assert repr(parts) == "Partitions(<2 elements>)"
    assert parts[1] == "b"
    assert list(Partitions(parts)) == ["a", "b"]


def test_partitions_of_lists_are_not_flattened():
    assert list(Partitions([[1, 2], [3]])) == [[1, 2], [3]]


def test_an_error_while_the_elements_are_made_is_not_hidden():
    def elements():
        yield 1
        raise TypeError("in the generator")

    with pytest.raises(TypeError, match="in the generator") as caught:
        Partitions(elements())
    assert not isinstance(caught.value, InputError)


def test_slicing_imports_no_library():
    program = (
        "import sys, lambdamr; lambdamr.split(list(range(9)), 3); "
        "print([name for name in ('numpy', 'pandas', 'pyarrow', 'asyncio') if name in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert printed.strip() == "[]"
