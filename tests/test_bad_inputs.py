"""What is wrong with a call is said at the call, with what to do, before anything is sent."""

import asyncio
import collections
import functools
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import lambdamr
from lambdamr import (
    CheckpointError,
    EmptyDataError,
    InputError,
    InputTypeError,
    LocalExecutor,
    Partitions,
    RetryPolicy,
    UnpicklableError,
)


class Untouched:
    """An executor that must not be opened."""

    def open(self):
        raise AssertionError("something was about to be sent")


def call(*arguments, **options):
    """A call that would be a good one, were it not for these arguments."""
    given = [*arguments, *[sum, operator.add, [1, 2, 3]][len(arguments) :]]
    return lambdamr.map_reduce(*given, **{"executor": Untouched(), **options})


async def coroutine(partition):
    return partition


class Awaitable:
    async def __call__(self, partition):
        return partition


class Settings:
    def __init__(self):
        self.connection = threading.Lock()

    def use(self, partition):
        return self.connection


def generator(partition):
    yield partition


async def async_generator(partition):
    yield partition


def pair(a, b):
    return a + b


def single(partition):
    return partition


def closing_over(lock):
    return lambda partition: lock


def with_default(lock):
    return lambda partition, *, lock=lock: lock


def observe_twice(event, again):
    pass


async def observe_later(event):
    pass


class Observer:
    def __call__(self, event):
        pass


ORDER = r"the order is map_reduce\(mapper, reducer, data\)"
ARITY = "the mapper must take one argument, a partition, and the reducer two, .*; these are"
PLAIN = "must be a plain function: .*call asyncio.run in it; return a list instead of yielding"

FUNCTIONS = {
    "no mapper": ([None], InputTypeError, rf"the mapper must be callable \({ORDER}\), not None"),
    "data first": ([[1], sum, pair], InputTypeError, rf"the mapper .*\({ORDER}\), not \[1\]"),
    "data second": ([sum, [1], pair], InputTypeError, rf"the reducer .*\({ORDER}\), not \[1\]"),
    "the name of a mapper": (["sum"], InputTypeError, "the mapper must be callable .*, not 'sum'"),
    "swapped": ([pair, single], InputTypeError, rf"{ARITY} pair\(a, b\) and single.*{ORDER}"),
    "mapper without argument": ([lambda: 0], InputTypeError, rf"{ARITY} <lambda>\(\) and"),
    "mapper of two": ([pair], InputTypeError, rf"{ARITY} pair\(a, b\) and"),
    "mapper by keyword": ([lambda *, p: 0], InputTypeError, rf"{ARITY} <lambda>\(\*, p\) and"),
    "reducer of one": ([sum, single], InputTypeError, rf"{ARITY} sum.* and single\(partition\)"),
    "reducer of three": ([sum, lambda a, b, c: 0], InputTypeError, rf"{ARITY} .*\(a, b, c\); the"),
    "coroutine": ([coroutine], InputError, f"the mapper {PLAIN}"),
    "async call": ([Awaitable()], InputError, f"the mapper {PLAIN}"),
    "async partial": ([functools.partial(coroutine)], InputError, f"the mapper {PLAIN}"),
    "async reducer": ([sum, coroutine], InputError, f"the reducer {PLAIN}"),
    "generator": ([generator], InputError, f"the mapper {PLAIN}"),
    "async generator": ([async_generator], InputError, f"the mapper {PLAIN}"),
    "generator as reducer": ([sum, generator], InputError, f"the reducer {PLAIN}"),
}

SLICES = r"data must be a sequence that slices \(list, .*\) or Partitions, not"
INSTEAD = r"; pass list\(data\), in an order that you choose, or Partitions\(\[data\]\)"

DATA = {
    "str": "some text",
    "str_": np.str_("some text"),
    "dict": {"a": 1},
    "Counter": collections.Counter("ab"),
    "dict_values": {"a": 1}.values(),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "deque": collections.deque([1]),
    "generator": (i for i in (1, 2)),
    "list_iterator": iter([1]),
    "zip": zip([1], [2], strict=True),
    "map": map(str, [1]),
    "int": 100,
    "float": 1.5,
    "NoneType": None,
    "PosixPath": Path("events.root"),
    "ndarray": np.array(3),  # of no dimension
    "type": Partitions,
    "function": single,
    "DataFrameGroupBy": pd.DataFrame({"a": [1]}).groupby("a"),
}

COUNT = "npartitions must be a whole number from 1 up, not"
FAN_IN = "fan_in must be a whole number from 2 up, not"
SECONDS = "timeout must be a number of seconds above 0, not"
RETRY = r"retry must be a RetryPolicy, say RetryPolicy\(attempts=3\), not"
ERRORS = "errors must be 'raise' or 'return', not"
OBSERVERS = r"observers must be a list of callables, observers=\[\.\.\.\], not"
OBSERVER = "an observer must be a plain function of one event, or an object .*, not"
PATH = "checkpoint must be the path of a file on this machine, or s3://bucket/prefix, not"

OPTIONS = {
    "npartitions 0": ({"npartitions": 0}, InputError, f"{COUNT} 0"),
    "npartitions -1": ({"npartitions": -1}, InputError, f"{COUNT} -1"),
    "npartitions 2.0": ({"npartitions": 2.0}, InputTypeError, f"{COUNT} 2.0"),
    "npartitions True": ({"npartitions": True}, InputTypeError, f"{COUNT} True"),
    "npartitions '32'": ({"npartitions": "32"}, InputTypeError, f"{COUNT} '32'"),
    "too many": (
        {"npartitions": 4},
        InputError,
        "npartitions=4, but the data has only 3 elements; pass at most that many, or leave",
    ),
    "fan_in 1": ({"fan_in": 1}, InputError, f"{FAN_IN} 1"),
    "fan_in -2": ({"fan_in": -2}, InputError, f"{FAN_IN} -2"),
    "fan_in 2.0": ({"fan_in": 2.0}, InputTypeError, f"{FAN_IN} 2.0"),
    "fan_in True": ({"fan_in": True}, InputTypeError, f"{FAN_IN} True"),
    "fan_in None": ({"fan_in": None}, InputTypeError, f"{FAN_IN} None"),
    "retry 3": ({"retry": 3}, InputTypeError, f"{RETRY} 3"),
    "retry dict": ({"retry": {"attempts": 3}}, InputTypeError, f"{RETRY} {{'attempts': 3}}"),
    "retry class": ({"retry": RetryPolicy}, InputTypeError, f"{RETRY} <class"),
    "timeout 0": ({"timeout": 0}, InputError, f"{SECONDS} 0"),
    "timeout -1.5": ({"timeout": -1.5}, InputError, f"{SECONDS} -1.5"),
    "timeout nan": ({"timeout": float("nan")}, InputError, f"{SECONDS} nan"),
    "timeout inf": ({"timeout": float("inf")}, InputError, f"{SECONDS} inf"),
    "timeout '5'": ({"timeout": "5"}, InputTypeError, f"{SECONDS} '5'"),
    "timeout True": ({"timeout": True}, InputTypeError, f"{SECONDS} True"),
    "max_cost 0": ({"max_cost": 0}, InputError, "max_cost must be a number of USD above 0, not 0"),
    "max_cost '1'": ({"max_cost": "1"}, InputTypeError, "a number of USD above 0, not '1'"),
    "errors ignore": ({"errors": "ignore"}, InputError, f"{ERRORS} 'ignore'"),
    "errors None": ({"errors": None}, InputTypeError, f"{ERRORS} None"),
    "errors array": ({"errors": np.zeros(2)}, InputTypeError, f"{ERRORS} array"),
    "progress 'yes'": ({"progress": "yes"}, InputTypeError, "True, False or None, not 'yes'"),
    "progress 2": ({"progress": 2}, InputTypeError, "progress must be True, False or None, not 2"),
    "one observer": ({"observers": print}, InputTypeError, f"{OBSERVERS} <built-in"),
    "observers None": ({"observers": None}, InputTypeError, f"{OBSERVERS} None"),
    "observers str": ({"observers": "log"}, InputTypeError, f"{OBSERVER} 'l'"),
    "observer 3": ({"observers": [3]}, InputTypeError, f"{OBSERVER} 3"),
    "observer of two": ({"observers": [observe_twice]}, InputError, f"{OBSERVER} <function"),
    "observer class": ({"observers": [Observer]}, InputError, f"{OBSERVER} <class"),
    "async observer": ({"observers": [observe_later]}, InputError, f"{OBSERVER} <function"),
    "checkpoint True": ({"checkpoint": True}, InputTypeError, f"{PATH} True"),
    "checkpoint bytes": ({"checkpoint": b"c"}, InputTypeError, f"{PATH} b'c'"),
    "checkpoint ''": ({"checkpoint": ""}, InputError, f"{PATH} ''"),
    "checkpoint folder": ({"checkpoint": "/"}, InputError, f"{PATH} '/'"),
    "checkpoint s3": ({"checkpoint": "s3://bucket"}, InputError, f"{PATH} 's3://bucket'"),
    "checkpoint gs": ({"checkpoint": "gs://b/k"}, InputError, f"{PATH} 'gs://b/k'"),
    "checkpoint nul": ({"checkpoint": "a\0b"}, CheckpointError, "cannot be used: .*embedded null"),
    "executor 'spark'": ({"executor": "spark"}, InputError, "no executor named 'spark'; known are"),
    "executor 'dask'": ({"executor": "dask"}, InputError, r"pass lambdamr.DaskExecutor\(client\)"),
    "executor class": ({"executor": LocalExecutor}, InputTypeError, r"executor=LocalExecutor\(\)"),
    "executor 4": ({"executor": 4}, InputTypeError, "a name or have open.*not int"),
    "executor of threads": (
        {"executor": ThreadPoolExecutor()},
        InputTypeError,
        "must be a name or have open.*not ThreadPoolExecutor",
    ),
}

UNPICKLABLE = {
    "closure": ([closing_over(threading.Lock())], "the mapper: the variable 'lock' it closes over"),
    "default": ([with_default(threading.Lock())], "the mapper: the default of 'lock'"),
    "method": ([Settings().use], r"the mapper\.__self__\.connection"),
    "partial": ([functools.partial(pair, threading.Lock())], r"the mapper\.args\[0\]"),
    "nested": (
        [functools.partial(pair, {"db": [closing_over(threading.Lock())]})],
        r"the mapper\.args\[0\]\['db'\]\[0\]: the variable 'lock' it closes over",
    ),
    "reducer": ([sum, lambda a, b, lock=threading.Lock(): a], "the reducer: default 0"),  # noqa: B008
}

ONE_EACH = r"would be its characters, keys or columns; .*: Partitions\(\[\.\.\.\]\)"

MAKE = {
    "Partitions of a str": (lambda: Partitions("a.root"), f"Partitions of a str {ONE_EACH}"),
    "Partitions of bytes": (lambda: Partitions(b"a.root"), f"Partitions of a bytes {ONE_EACH}"),
    "Partitions of a set": (lambda: Partitions({"a"}), f"Partitions of a set {ONE_EACH}"),
    "Partitions of a dict": (lambda: Partitions({"a": 1}), f"Partitions of a dict {ONE_EACH}"),
    "Partitions of a table": (
        lambda: Partitions(pd.DataFrame({"a": [1]})),
        f"Partitions of a DataFrame {ONE_EACH}",
    ),
    "Partitions of Arrow": (
        lambda: Partitions(pa.table({"a": [1]})),
        f"Partitions of a Table {ONE_EACH}",
    ),
    "Partitions of an int": (lambda: Partitions(5), "an iterable of partitions, not 5"),
    "Partitions cut again": (
        lambda: call(sum, pair, Partitions([[1], [2]]), npartitions=3),
        "npartitions=3, but data is Partitions with 2 elements, .*; leave npartitions out",
    ),
    "Partitions split again": (lambda: lambdamr.split(Partitions([1]), 2), "not cut again"),
    "split of a str": (lambda: lambdamr.split("text", 2), SLICES),
    "split into 0": (lambda: lambdamr.split([1], 0), f"{COUNT} 0"),
    "split into 1.5": (lambda: lambdamr.split([1], 1.5), f"{COUNT} 1.5"),
    "split into too many": (lambda: lambdamr.split([1], 2), "the data has only 1 elements"),
    "attempts 0": (lambda: RetryPolicy(attempts=0), "attempts must be a whole number from 1 up"),
    "attempts '3'": (lambda: RetryPolicy(attempts="3"), "attempts must be a whole number from 1"),
    "base_delay -1": (
        lambda: RetryPolicy(base_delay=-1),
        "base_delay must be a number of seconds from 0 up",
    ),
    "base_delay '1'": (
        lambda: RetryPolicy(base_delay="1"),
        "base_delay must be a number of seconds from 0 up, not '1'",
    ),
    "max_delay nan": (
        lambda: RetryPolicy(max_delay=float("nan")),
        "max_delay must be a number of seconds from 0",
    ),
    "patience None": (
        lambda: RetryPolicy(patience=None),
        "patience must be a number of seconds from 0 up, not None",
    ),
    "straggler_factor": (lambda: RetryPolicy(straggler_factor=0.5), "from 1 up, or None, not 0.5"),
    "retry_on names": (lambda: RetryPolicy(retry_on=("OSError",)), "tuple of exception classes"),
    "workers 0": (lambda: LocalExecutor(0), "workers must be a whole number from 1 up, not 0"),
    "workers '2'": (
        lambda: LocalExecutor("2"),
        "workers must be a whole number from 1 up, not '2'",
    ),
    "workers True": (
        lambda: LocalExecutor(True),
        "workers must be a whole number from 1 up, not True",
    ),
    "memory in MiB": (
        lambda: LocalExecutor(memory=512),
        "it is in bytes: memory=512 << 20 for 512",
    ),
    "memory '1G'": (lambda: LocalExecutor(memory="1G"), "memory must be a whole number"),
    "no memory": (lambda: LocalExecutor(memory=[]), "must be ascending, at least one number"),
    "memory descending": (lambda: LocalExecutor(memory=[2 << 30, 1 << 30]), "must be ascending"),
    "preload str": (lambda: LocalExecutor(preload="numpy"), r"write \['numpy'\]"),
    "preload module": (lambda: LocalExecutor(preload=[np]), "names of modules, not <module"),
    "warm_up 3": (lambda: LocalExecutor(warm_up=3), "warm_up must be callable, not 3"),
    "warm_up lock": (lambda: LocalExecutor(warm_up=Settings().use), "warm_up cannot be sent"),
    "max_tasks 0": (
        lambda: LocalExecutor(max_tasks_per_child=0),
        "a whole number from 1 up, not 0",
    ),
}

TABLE = {
    **{
        f"functions: {name}": (functools.partial(call, *arguments), error, text)
        for name, (arguments, error, text) in FUNCTIONS.items()
    },
    **{
        f"data: {name}": (
            functools.partial(call, sum, operator.add, data),
            InputTypeError,
            f"{SLICES} {name}{INSTEAD}",
        )
        for name, data in DATA.items()
    },
    **{
        f"option: {name}": (functools.partial(call, **options), error, text)
        for name, (options, error, text) in OPTIONS.items()
    },
    **{
        f"unpicklable: {name}": (
            functools.partial(call, *arguments),
            UnpicklableError,
            f"{text} cannot be sent to a worker: .* Make it inside the function instead",
        )
        for name, (arguments, text) in UNPICKLABLE.items()
    },
    **{f"made: {name}": (make, InputError, text) for name, (make, text) in MAKE.items()},
    "unpicklable: initial": (
        functools.partial(call, initial=threading.Lock()),
        UnpicklableError,
        "initial cannot be sent to a worker: it is a lock",
    ),
    "empty data": (functools.partial(call, sum, operator.add, []), EmptyDataError, "of empty data"),
    "no partitions": (
        functools.partial(call, sum, operator.add, Partitions([])),
        EmptyDataError,
        r"map_reduce\(\) of empty data with no initial value",
    ),
    "unknown option": (functools.partial(call, workers=4), TypeError, "argument 'workers'"),
    "no data": (lambda: lambdamr.map_reduce(sum, operator.add), TypeError, "argument: 'data'"),
}


@pytest.mark.parametrize(("make", "error", "text"), TABLE.values(), ids=TABLE.keys())
def test_a_bad_input_is_a_clear_error_at_the_call(make, error, text):
    with pytest.raises(error, match=f"(?s){text}") as caught:
        make()
    if issubclass(error, lambdamr.LambdamrError):
        assert isinstance(caught.value, (InputError, CheckpointError))
        assert isinstance(caught.value, TypeError) == issubclass(type(caught.value), TypeError)
    assert len(str(caught.value)) < 500  # one can read it


def test_the_table_is_long():
    assert len(TABLE) >= 45


def test_the_async_twin_says_the_same():
    with pytest.raises(InputError, match=COUNT):
        asyncio.run(lambdamr.amap_reduce(sum, operator.add, [1], npartitions=0))


def test_an_open_file_is_no_data(tmp_path):
    (tmp_path / "lines.txt").write_text("a\nb\n")
    with (
        open(tmp_path / "lines.txt") as file,
        pytest.raises(InputTypeError, match=f"{SLICES} TextIOWrapper{INSTEAD}"),
    ):
        call(sum, operator.add, file)


def test_a_file_open_for_writing_in_a_closure_is_named(tmp_path):
    with open(tmp_path / "log.txt", "w") as log:

        def mapper(partition):
            log.write("x")

        with pytest.raises(UnpicklableError, match="the mapper: the variable 'log' it closes over"):
            call(mapper)


def test_a_global_variable_of_a_function_by_value_is_named():
    space = {"lock": threading.Lock()}
    exec("def mapper(partition):\n    return lock", space)
    with pytest.raises(UnpicklableError, match="the mapper: the global variable 'lock'"):
        call(space["mapper"])


def test_a_recursive_function_does_not_hide_what_cannot_be_sent():
    lock = threading.Lock()

    def mapper(partition):
        return mapper(partition[1:]) if len(partition) > 1 else lock

    with pytest.raises(UnpicklableError, match="the mapper: the variable 'lock' it closes over"):
        call(mapper)


def test_a_partition_that_cannot_be_sent_is_named():
    data = Partitions([1, 2, {"stream": (i for i in [1])}, 4])
    with pytest.raises(UnpicklableError, match=r"partition 2\['stream'\].*it is a generator"):
        call(single, pair, data, executor="inline")


def test_a_partition_that_cannot_be_sent_is_named_with_a_checkpoint_too(tmp_path):
    data = [1, 2, threading.Lock()]
    with pytest.raises(UnpicklableError, match=r"data.*\[2\] cannot be sent to a worker"):
        call(single, pair, data, checkpoint=tmp_path / "kept")


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        b"\x01\x02\x03",
        bytearray(b"\x01\x02\x03"),
        memoryview(b"\x01\x02\x03"),
        np.array([1, 2, 3]),
        pd.Series([1, 2, 3], index=[2.5, 0.5, 1.5]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_what_slices_is_data(data):
    assert call(lambda part: int(sum(part)), pair, data, npartitions=2, executor="inline") == 6


def test_tables_are_data():
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[0.5, 1.5, 2.5])
    assert call(lambda part: int(part["a"].sum()), pair, frame, executor="inline") == 6
    table = pa.table({"a": [1, 2, 3]})
    assert call(lambda part: part.num_rows, pair, table, executor="inline") == 3


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return list(function(*arguments))

    return wrapper


@pytest.mark.parametrize(
    "mapper",
    [
        decorated(generator),  # wraps a generator, and is none
        len,
        collections.Counter,
        functools.partial(sum, start=0),
        operator.itemgetter(0),
    ],
    ids=["decorated generator", "builtin", "class", "partial", "itemgetter"],
)
def test_what_can_be_called_with_a_partition_is_a_mapper(mapper):
    assert call(mapper, lambda a, b: a, Partitions([[1]]), executor="inline") is not None
