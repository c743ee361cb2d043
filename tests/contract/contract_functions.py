"""What the mappers of the contract call in the workers; it travels with them.

What takes long to import is imported where it is used: a worker may live for one task.
"""

import dataclasses
import datetime
import decimal
import os
from collections import Counter, OrderedDict, defaultdict, deque


def identity(part):
    return part


def left_one(left, right):
    return left


def no_value(*_):
    return None


def first_time(marker):
    """Whether nobody, in any process, has asked for this marker before."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float


def kinds_of_values():
    """Values that a mapper may return."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    return [
        None,
        True,
        2**200,
        -0.0,
        float("inf"),
        3 - 4j,
        "",
        "text",
        b"",
        bytearray(b"bytes"),
        (),
        (1, (2, [3])),
        [None, 1.5],
        {"b": 1, "a": [2]},
        {1, 2},
        frozenset([1]),
        range(5, 50, 7),
        slice(1, None),
        decimal.Decimal("1.10"),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        Counter("abcab"),
        OrderedDict(z=1, a=2),
        defaultdict(list, a=[1]),
        deque([1, 2], maxlen=5),
        Point(1.0, 2.0),
        Point,
        np.float32(1.1),
        np.datetime64("2026-01-01"),
        np.arange(3),
        pd.DataFrame({"x": [1, 2], "y": ["a", None]}),
        pd.Series([1.5, None], name="s"),
        pd.DataFrame(),
        pa.table({"x": [1, 2, None], "y": [["a"], [], None]}),
        pa.array([1, None]),
        [np.arange(3), {"deep": np.zeros((2, 0))}],
    ]


def arrays_of_every_layout():
    """Arrays that differ in type, order, contiguity and size."""
    import numpy as np

    base = np.arange(24.0).reshape(2, 3, 4)
    read_only = np.arange(5)
    read_only.flags.writeable = False
    record = np.zeros(3, dtype=[("pt", "<f4"), ("hits", ">i2", (2,)), ("name", "U5")])
    record["name"] = ["η", "ψ", "Z"]
    objects = np.empty(3, dtype=object)
    objects[:] = [None, [1], "text"]
    return [
        base,
        np.asfortranarray(base),
        base[:, ::2],
        base.T,
        base[::-1],
        np.broadcast_to(np.arange(3), (4, 3)),
        np.array(7.5),
        np.zeros(0),
        np.zeros((0, 5)),
        np.zeros((3, 0, 2), order="F"),
        read_only,
        record,
        np.zeros(0, dtype=record.dtype),
        objects,
        np.arange(4, dtype=">i4"),
        np.array(["abc", "ż"]),
        np.array([b"ab", b""]),
        np.array([True, False]),
        np.array([1 + 2j], dtype=np.complex64),
        np.array(["2026-01-01", "NaT"], dtype="datetime64[s]"),
        np.array([np.nan, -0.0, np.inf], dtype=np.float16),
        np.asfortranarray(np.arange(90_000.0).reshape(300, 300)),
    ]


def kinds_of_data():
    """Data that can be cut into partitions, of at least 7 elements."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    return [
        list(range(10)),
        tuple("abcdefghi"),
        range(3, 100, 9),
        b"0123456789",
        bytearray(b"0123456789"),
        memoryview(b"0123456789").tobytes(),
        np.arange(20).reshape(10, 2),
        np.asfortranarray(np.arange(20.0).reshape(10, 2)),
        np.arange(20)[::2],
        np.array([None, "a", 2, 3, 4, 5, 6], dtype=object),
        pd.DataFrame({"x": range(10), "y": list("abcdefghij")}, index=range(10, 20)),
        pd.Series(range(10), name="s"),
        pd.Index(range(10)),
        pa.table({"x": list(range(10))}),
        pa.record_batch({"x": list(range(10))}),
        pa.array(range(10)),
        pa.chunked_array([range(4), range(6)]),
    ]
