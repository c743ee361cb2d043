"""What every executor promises, as tests: subclass `ExecutorContract`, and give it an executor.

    class TestMine(ExecutorContract):
        @pytest.fixture
        def executor(self):
            return MyExecutor()

The mappers are closures, which travel by value, and call functions of `contract_functions`, which
travels as a local module. Workers need numpy, pandas and pyarrow, but neither pytest nor this file.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib
import itertools
import math
import operator
import os
import secrets
import struct
import sys
import textwrap
import threading
import time
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from contract_functions import (
    arrays_of_every_layout,
    first_time,
    identity,
    kinds_of_data,
    kinds_of_values,
    left_one,
    no_value,
)

import lambdamr
from lambdamr import events, retry
from lambdamr.executor import Executor, Pool
from lambdamr.partition import as_chunk
from lambdamr.travel.functions import encode_chunk, encode_functions, encode_initial
from lambdamr.wire import Item, Task, decode, encode, frame_size

HANG = 30  # seconds: a mapper that hangs does so for longer than any test may wait
PROMPT = lambdamr.RetryPolicy(base_delay=0, straggler_factor=None)
ONCE = lambdamr.RetryPolicy(attempts=1, straggler_factor=None)
KIB, MIB = 1 << 10, 1 << 20

LOCAL_MODULE = """
from NAME_helper import double

class Box:
    def __init__(self, value):
        self.value = value

def mapper(part):
    return Box(double(sum(part)))

def reducer(a, b):
    return Box(a.value + b.value)
"""


class ExecutorContract:
    """The promises. Each test gets `executor`, an executor object, which may be the same for all.

    Attributes:
        processes: user code runs in processes of its own: one that dies is not the driver.
        interrupts: the driver goes on while user code runs, so ``timeout`` and cancellation work.
        shares_files: workers see the files of the driver.
        inline: bytes of the largest frame that travels inline; None if all of them do.
    """

    processes = True
    interrupts = True
    shares_files = True
    inline = None

    @pytest.fixture
    def executor(self):
        """The executor under test."""
        raise NotImplementedError("override the fixture `executor`")

    def left_behind(self, executor):
        """What a job left where only running jobs should have something: must be empty."""
        return ()

    @pytest.fixture(autouse=True)
    def _leaves_nothing(self, executor):
        yield
        assert list(self.left_behind(executor)) == []

    @pytest.fixture
    def marker(self, tmp_path):
        """A path that workers can make a file of."""
        if not self.shares_files:
            pytest.skip("workers of this executor do not see the files of the driver")
        return str(tmp_path / "marker")

    @pytest.fixture
    def local_module(self, tmp_path, monkeypatch):
        """A module in the user's folder, which imports another one there."""
        name = f"local_module_{secrets.token_hex(4)}"
        (tmp_path / f"{name}_helper.py").write_text("def double(x):\n    return 2 * x\n")
        (tmp_path / f"{name}.py").write_text(LOCAL_MODULE.replace("NAME", name))
        monkeypatch.syspath_prepend(str(tmp_path))
        yield importlib.import_module(name)
        for each in (name, f"{name}_helper"):
            sys.modules.pop(each, None)

    # -- values ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 100, 10 * KIB, MIB, 20 * MIB])
    def test_bytes_of_any_size_come_back(self, executor, size):
        value = lambdamr.map_reduce(
            lambda part: bytes([part[0]]) * size, operator.add, [1, 2, 3], executor=executor
        )
        assert value == b"".join(bytes([i]) * size for i in (1, 2, 3))

    @pytest.mark.parametrize("count", [0, 1, 1000, 20 * MIB // 8])
    def test_arrays_of_any_size_come_back(self, executor, count):
        value = lambdamr.map_reduce(
            lambda part: np.full(count, float(part[0])), operator.iadd, range(5), executor=executor
        )
        assert identical(value, np.full(count, 10.0))

    @pytest.mark.parametrize("make", [bytes, bytearray, np.zeros], ids=lambda make: make.__name__)
    def test_values_around_the_inline_boundary_come_back(self, executor, make):
        if self.inline is None:
            pytest.skip("all values of this executor travel inline")
        spare = frame_size(encode(make(self.inline))) - memoryview(make(self.inline)).nbytes
        unit = memoryview(make(1)).itemsize
        sizes = [(self.inline - spare) // unit + step for step in (-1, 0, 1)]
        values = lambdamr.map_reduce(
            lambda part: [make(part)],
            operator.add,
            lambdamr.Partitions(sizes),
            executor=executor,
        )
        assert all(map(identical, values, map(make, sizes)))
        for size in sizes:
            value = lambdamr.map_reduce(
                lambda part, size=size: make(size), left_one, [1, 2], executor=executor
            )
            assert identical(value, make(size))

    def test_values_of_every_kind_come_back(self, executor):
        values = list(kinds_of_values())
        for sent in values:
            got = lambdamr.map_reduce(identity, left_one, partitions(sent, sent), executor=executor)
            assert identical(got, inline(identity, left_one, partitions(sent, sent))), repr(sent)

    def test_arrays_of_every_layout_come_back(self, executor):
        for array in arrays_of_every_layout():
            got = lambdamr.map_reduce(
                lambda part: [part], operator.add, partitions(array, array), executor=executor
            )
            assert all(identical(each, array) for each in got), array.__array_interface__

    def test_arrays_of_every_layout_are_made_in_workers(self, executor):
        count = len(arrays_of_every_layout())
        got = lambdamr.map_reduce(
            lambda part: [arrays_of_every_layout()[i] for i in part],
            operator.add,
            range(count),
            executor=executor,
        )
        assert all(map(identical, got, arrays_of_every_layout()))

    def test_a_read_only_array_can_be_returned_and_reduced(self, executor):
        def mapper(part):
            array = np.arange(100_000.0) + part[0]
            array.flags.writeable = False
            return array

        got = lambdamr.map_reduce(mapper, operator.add, range(7), executor=executor)
        assert identical(got, inline(mapper, operator.add, range(7)))

    def test_text_of_every_script_comes_back(self, executor):
        text = ["ełżan", "日本語", "🧲🔭", "\x00\n\r\t", "\ud800", "e\u0301", "؟", ""]
        got = lambdamr.map_reduce(identity, operator.add, text, executor=executor)
        assert got == text

    def test_the_value_may_be_none(self, executor):
        assert lambdamr.map_reduce(no_value, no_value, [1, 2, 3], executor=executor) is None

    # -- data ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("npartitions", [1, 7])
    def test_data_of_every_kind_is_cut_the_same(self, executor, npartitions):
        for data in kinds_of_data():

            def mapper(part):
                return [part]

            call = functools.partial(
                lambdamr.map_reduce, mapper, operator.add, data, npartitions=npartitions
            )
            assert identical(call(executor=executor), call(executor="inline")), type(data)

    def test_data_of_20_mb_reaches_the_workers(self, executor):
        data = np.arange(20 * MIB // 8, dtype=np.int64)
        got = lambdamr.map_reduce(
            lambda part: int(part.sum()), operator.add, data, npartitions=4, executor=executor
        )
        assert got == int(data.sum())

    def test_partitions_are_handed_over_as_they_are(self, executor):
        parts = lambdamr.Partitions([None, "a/b", ("file", 0, 10), {"key": [1]}, b"", 7])
        got = lambdamr.map_reduce(lambda part: [part], operator.add, parts, executor=executor)
        assert got == list(parts)

    def test_a_mapper_may_change_its_partition(self, executor):
        data = np.zeros(1000)

        def mapper(part):
            part += 1
            return part.sum()

        got = lambdamr.map_reduce(mapper, operator.add, data, npartitions=10, executor=executor)
        assert got == 1000
        assert not data.any()

    @pytest.mark.parametrize("data", [[], (), b"", range(0), lambdamr.Partitions([])])
    def test_empty_data_is_the_error_of_functools_reduce(self, executor, data):
        with pytest.raises(TypeError, match="no initial value"):
            lambdamr.map_reduce(identity, operator.add, data, executor=executor)
        assert lambdamr.map_reduce(identity, operator.add, data, initial=5, executor=executor) == 5

    @pytest.mark.parametrize(
        "data",
        [iter([1, 2]), (i for i in [1, 2]), {1, 2}, {1: 2}, 7, "text", None, map(abs, [1])],
        ids=lambda data: type(data).__name__,
    )
    def test_what_does_not_slice_is_refused_at_the_call(self, executor, data):
        with pytest.raises(lambdamr.InputTypeError):
            lambdamr.map_reduce(identity, operator.add, data, executor=executor)

    # -- the reduction ---------------------------------------------------------------------------

    @pytest.mark.parametrize("fan_in", [2, 3, 8])
    @pytest.mark.parametrize("npartitions", [1, 2, 3, 7, 100, 5000])
    def test_floats_have_the_same_bits_everywhere(self, executor, npartitions, fan_in):
        data = [math.sin(i) * 10.0 ** (i % 17) for i in range(5000)]
        got = lambdamr.map_reduce(
            sum, operator.add, data, npartitions=npartitions, fan_in=fan_in, executor=executor
        )
        slices = list(lambdamr.split(data, npartitions))
        assert bits(got) == bits(tree_fold(list(map(sum, slices)), fan_in, operator.add))

    @pytest.mark.parametrize("fan_in", [2, 3, 8])
    @pytest.mark.parametrize("npartitions", [1, 2, 7, 100, 5000])
    def test_values_meet_in_the_order_of_the_partitions(self, executor, npartitions, fan_in):
        got = lambdamr.map_reduce(
            list,
            operator.add,
            range(5000),
            npartitions=npartitions,
            fan_in=fan_in,
            executor=executor,
        )
        assert got == list(range(5000))

    @pytest.mark.parametrize("fan_in", [2, 3, 8])
    def test_the_shape_of_the_reduction_is_that_of_the_tree(self, executor, fan_in):
        got = lambdamr.map_reduce(
            lambda part: str(part[0]),
            lambda a, b: f"({a} {b})",
            range(50),
            fan_in=fan_in,
            executor=executor,
        )
        assert got == tree_fold(list(map(str, range(50))), fan_in, lambda a, b: f"({a} {b})")

    def test_slow_partitions_too_make_the_shape_of_the_tree(self, executor):
        def mapper(part):
            time.sleep(0.002 * (part[0] % 7))
            return str(part[0])

        got = lambdamr.map_reduce(
            mapper, lambda a, b: f"({a} {b})", range(100), fan_in=3, executor=executor
        )
        assert got == tree_fold(list(map(str, range(100))), 3, lambda a, b: f"({a} {b})")

    def test_a_reducer_may_change_its_first_argument(self, executor):
        def reducer(a, b):
            a += b
            return a

        got = lambdamr.map_reduce(
            lambda part: np.arange(50_000.0) * part[0], reducer, range(20), executor=executor
        )
        assert identical(got, np.arange(50_000.0) * 190)

    def test_initial_comes_before_all_and_once(self, executor):
        got = lambdamr.map_reduce(
            lambda part: [part[0]], operator.add, range(20), initial=["first"], executor=executor
        )
        assert got == ["first", *range(20)]

    @pytest.mark.parametrize("size", [10, 1_000_000])
    def test_an_initial_value_that_is_changed_by_the_reducer_stays_as_it_was(self, executor, size):
        initial = np.ones(size)
        got = lambdamr.map_reduce(
            lambda part: np.full(size, float(part[0])),
            operator.iadd,
            range(4),
            initial=initial,
            executor=executor,
        )
        assert identical(got, np.full(size, 7.0))
        assert identical(initial, np.ones(size))

    # -- functions -------------------------------------------------------------------------------

    def test_functions_and_classes_of_the_main_module_travel(self, executor, monkeypatch):
        main = run_in_main(
            monkeypatch,
            """
            import dataclasses

            SCALE = 3

            @dataclasses.dataclass
            class Total_of_contract:
                value: int

                def __add__(self, other):
                    return Total_of_contract(self.value + other.value)

            def mapper_of_contract(part):
                return Total_of_contract(SCALE * sum(part))

            def reducer_of_contract(a, b):
                return a + b
            """,
        )
        got = lambdamr.map_reduce(
            main.mapper_of_contract, main.reducer_of_contract, range(10), executor=executor
        )
        assert type(got) is main.Total_of_contract
        assert got == main.Total_of_contract(135)

    def test_a_local_module_that_is_not_installed_travels(self, executor, local_module):
        got = lambdamr.map_reduce(
            local_module.mapper, local_module.reducer, range(10), executor=executor
        )
        assert type(got) is local_module.Box
        assert got.value == 90

    def test_data_of_a_class_of_a_local_module_travel(self, executor, local_module):
        boxes = [local_module.Box(i) for i in range(4)]
        got = lambdamr.map_reduce(
            lambda part: sum(box.value for box in part), operator.add, boxes, executor=executor
        )
        assert got == 6

    def test_results_that_are_dataclasses_or_tuples_keep_their_class(self, executor):
        @dataclasses.dataclass
        class Count:
            n: int

        Pair = namedtuple("Pair", "a b")
        got = lambdamr.map_reduce(
            lambda part: (Count(len(part)), Pair(part[0], [Count(1)])),
            left_one,
            range(4),
            executor=executor,
        )
        assert type(got[0]) is Count
        assert got[0] == Count(1)
        assert type(got[1].b[0]) is Count

    def test_a_closure_may_hold_20_mb(self, executor):
        table = np.arange(20 * MIB // 8)
        got = lambdamr.map_reduce(
            lambda part: int(table[part].sum()), operator.add, range(100), executor=executor
        )
        assert got == sum(range(100))

    def test_callables_of_every_kind_can_be_mappers(self, executor):
        class Adder:
            def __init__(self, n):
                self.n = n

            def __call__(self, part):
                return sum(part) + self.n

            def method(self, part):
                return self(part)

            @staticmethod
            def static(part):
                return sum(part)

        partial = functools.partial(lambda n, part: sum(part) + n, 1)
        for mapper, total in (
            (Adder(1), 9),
            (Adder(1).method, 9),
            (Adder.static, 6),
            (partial, 9),
            (sum, 6),
            (lambda part: sum(part), 6),
        ):
            got = lambdamr.map_reduce(
                mapper, operator.add, range(4), npartitions=3, executor=executor
            )
            assert got == total

    def test_a_mapper_may_print_as_much_as_it_wants(self, executor, capfd):
        def mapper(part):
            print("x" * 100_000)
            print("y" * 100_000, file=sys.stderr)
            os.write(1, b"z" * 10_000)
            return 1

        assert lambdamr.map_reduce(mapper, operator.add, range(20), executor=executor) == 20

    # -- failures of the user's code -------------------------------------------------------------

    def test_an_exception_of_the_mapper_says_all_there_is_to_know(self, executor):
        def mapper(part):
            if part[0] == 3:
                raise KeyError("no such muon")  # the line that failed
            return 1

        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(mapper, operator.add, range(10), executor=executor)
        error = caught.value
        assert (error.lo, error.hi, error.attempts) == (3, 4, 1)
        assert type(error.__cause__) is KeyError
        assert error.__cause__.args == ("no such muon",)
        assert "partition 3 of 10" in str(error)
        assert 'raise KeyError("no such muon")  # the line that failed' in error.remote_traceback
        assert error.remote_traceback.rstrip().endswith("KeyError: 'no such muon'")
        assert __file__ in error.remote_traceback
        assert os.path.dirname(lambdamr.__file__) not in error.remote_traceback

    def test_an_exception_of_the_reducer_says_all_there_is_to_know(self, executor):
        def reducer(a, b):
            raise ZeroDivisionError("cannot merge")  # the line that failed

        with pytest.raises(lambdamr.ReducerError) as caught:
            lambdamr.map_reduce(identity, reducer, range(10), executor=executor)
        error = caught.value
        assert error.hi - error.lo > 1
        assert error.attempts == 1
        assert type(error.__cause__) is ZeroDivisionError
        assert "# the line that failed" in error.remote_traceback

    def test_the_chain_of_an_exception_travels(self, executor):
        def mapper(part):
            try:
                {}["first"]
            except KeyError as error:
                raise RuntimeError("second") from error

        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(mapper, operator.add, [1], executor=executor)
        text = caught.value.remote_traceback
        assert text.index("KeyError: 'first'") < text.index("direct cause")
        assert text.index("direct cause") < text.index("RuntimeError: second")

    def test_exceptions_that_are_hard_to_pickle_are_reported_all_the_same(self, executor):
        class Odd(Exception):
            def __init__(self, code, text):
                super().__init__(f"{code}: {text}")

        class Locked(Exception):
            def __init__(self):
                super().__init__("it holds what does not pickle")
                self.file = open(os.devnull)  # noqa: SIM115  # the point of it
                self.file.close()
                self.generator = (i for i in ())

        class Silent(Exception):
            def __str__(self):
                raise RuntimeError("I have no words")

        for make in (
            lambda: Odd(7, "odd"),
            Locked,
            Silent,
            lambda: ExceptionGroup("two", [ValueError(1), KeyError(2)]),
        ):

            def mapper(part, make=make):
                raise make()

            with pytest.raises(lambdamr.MapperError) as caught:
                lambdamr.map_reduce(mapper, operator.add, [1, 2], executor=executor)
            assert caught.value.hi - caught.value.lo == 1
            assert "raise make()" in caught.value.remote_traceback

    def test_an_exception_of_a_class_of_the_user_is_of_that_class(self, executor):
        class NoMuon(ValueError):
            pass

        def mapper(part):
            raise NoMuon(part[0])

        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(mapper, operator.add, [7], executor=executor)
        assert type(caught.value.__cause__) is NoMuon
        assert caught.value.__cause__.args == (7,)

    @pytest.mark.parametrize(
        "make", [lambda part: (i for i in part), lambda part: threading.Lock()]
    )
    def test_a_result_that_does_not_pickle_is_a_result_error(self, executor, make):
        with pytest.raises(lambdamr.ResultError) as caught:
            lambdamr.map_reduce(make, left_one, range(4), executor=executor)
        assert caught.value.remote_traceback

    def test_a_recursion_without_end_is_an_error_of_the_mapper(self, executor):
        def mapper(part):
            return mapper(part)

        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(mapper, operator.add, range(4), executor=executor)
        assert isinstance(caught.value.__cause__, RecursionError)

    @pytest.mark.parametrize("status", [0, 1, "goodbye", None])
    def test_sys_exit_in_the_mapper_is_an_error_of_the_mapper(self, executor, status):
        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(
                lambda part: sys.exit(status), operator.add, range(4), executor=executor
            )
        assert isinstance(caught.value.__cause__, SystemExit)

    def test_sys_exit_in_the_reducer_is_an_error_of_the_reducer(self, executor):
        with pytest.raises(lambdamr.ReducerError) as caught:
            lambdamr.map_reduce(identity, lambda a, b: sys.exit(3), range(4), executor=executor)
        assert isinstance(caught.value.__cause__, SystemExit)

    def test_a_memory_error_is_tried_again_and_then_named(self, executor):
        def mapper(part):
            if part[0] == 2:
                raise MemoryError
            return 1

        with pytest.raises(lambdamr.OutOfMemoryError) as caught:
            lambdamr.map_reduce(mapper, operator.add, range(4), retry=PROMPT, executor=executor)
        assert (caught.value.lo, caught.value.hi, caught.value.attempts) == (2, 3, 3)

    def test_with_errors_return_the_rest_is_reduced(self, executor):
        def mapper(part):
            if part[0] % 5 == 2:
                raise ValueError(part[0])
            return list(part)

        outcome = lambdamr.map_reduce(
            mapper, operator.add, range(12), errors="return", executor=executor
        )
        assert outcome.failed == (2, 7)
        assert outcome.value == [i for i in range(12) if i not in (2, 7)]
        assert [type(failure) for failure in outcome.failures] == [lambdamr.MapperError] * 2
        assert [list(part) for part in outcome.remaining] == [[2], [7]]

    def test_with_errors_return_there_may_be_no_value(self, executor):
        def mapper(part):
            raise ValueError("all of them")

        outcome = lambdamr.map_reduce(
            mapper, operator.add, range(5), errors="return", executor=executor
        )
        assert outcome.failed == tuple(range(5))
        with pytest.raises(lambdamr.LambdamrError):
            _ = outcome.value

    def test_an_exception_that_the_policy_names_is_tried_again(self, executor, marker):
        def mapper(part):
            if part[0] == 5 and first_time(marker):
                raise ConnectionResetError("flaky")
            return part[0]

        policy = dataclasses.replace(PROMPT, retry_on=(ConnectionError,))
        got = lambdamr.map_reduce(mapper, operator.add, range(10), retry=policy, executor=executor)
        assert got == 45

    def test_attempts_end(self, executor):
        def mapper(part):
            raise ConnectionResetError("always")

        policy = dataclasses.replace(PROMPT, attempts=4, retry_on=(ConnectionError,))
        with pytest.raises(lambdamr.MapperError) as caught:
            lambdamr.map_reduce(mapper, operator.add, [1], retry=policy, executor=executor)
        assert caught.value.attempts == 4

    # -- failures of the engine ------------------------------------------------------------------

    def test_a_worker_that_dies_once_costs_nothing_but_time(self, executor, marker):
        self.needs("processes")

        def mapper(part):
            if part[0] == 3 and first_time(marker):
                os._exit(7)
            return [part[0]]

        got = lambdamr.map_reduce(mapper, operator.add, range(8), retry=PROMPT, executor=executor)
        assert got == list(range(8))

    def test_a_worker_that_dies_again_and_again_is_named(self, executor):
        self.needs("processes")

        def mapper(part):
            if part[0] == 3:
                os._exit(7)
            return 1

        with pytest.raises(lambdamr.WorkerLostError) as caught:
            lambdamr.map_reduce(mapper, operator.add, range(8), retry=PROMPT, executor=executor)
        assert (caught.value.lo, caught.value.hi, caught.value.attempts) == (3, 4, 3)
        assert lambdamr.map_reduce(sum, operator.add, range(8), executor=executor) == 28

    def test_values_of_a_worker_that_died_are_not_lost(self, executor, marker):
        """Large values of others, too, may have been on it."""
        self.needs("processes")

        def mapper(part):
            if part[0] == 20 and first_time(marker):
                os._exit(7)
            return np.full(50_000, float(part[0]))

        got = lambdamr.map_reduce(mapper, operator.iadd, range(24), retry=PROMPT, executor=executor)
        assert identical(got, np.full(50_000, 276.0))

    def test_a_mapper_that_hangs_is_stopped_by_the_timeout(self, executor):
        self.needs("interrupts")

        def mapper(part):
            if part[0] == 1:
                time.sleep(HANG)
            return 1

        with pytest.raises(lambdamr.PartitionTimeoutError) as caught:
            lambdamr.map_reduce(
                mapper, operator.add, range(4), timeout=1.0, retry=ONCE, executor=executor
            )
        assert (caught.value.lo, caught.value.hi) == (1, 2)
        assert lambdamr.map_reduce(sum, operator.add, range(8), executor=executor) == 28

    def test_a_mapper_that_hangs_once_costs_nothing_but_time(self, executor, marker):
        self.needs("interrupts")

        def mapper(part):
            if part[0] == 1 and first_time(marker):
                time.sleep(HANG)
            return part[0]

        got = lambdamr.map_reduce(
            mapper, operator.add, range(8), timeout=2.0, retry=PROMPT, executor=executor
        )
        assert got == 28

    # -- one executor, many jobs -----------------------------------------------------------------

    def test_jobs_follow_each_other(self, executor):
        for n in (10, 20, 30):
            got = lambdamr.map_reduce(sum, operator.add, range(n), executor=executor)
            assert got == sum(range(n))

    def test_a_job_does_not_find_what_another_left_in_its_functions(self, executor):
        calls, array = [], np.zeros(30_000)  # one travels with the code, one as a part of its own

        def mapper(partition):
            calls.append(partition)
            array[0] += 1
            return len(calls), array[0]

        def reducer(a, b):
            return a + b

        values = [lambdamr.map_reduce(mapper, reducer, [1], executor=executor) for _ in range(3)]
        assert values == [(1, 1.0)] * 3

    def test_what_the_caller_changes_while_a_job_starts_is_not_in_it(self, executor):
        initial, array = np.zeros(30_000), np.zeros(30_000)

        def mapper(partition):
            return array + 1

        async def main():
            call = lambdamr.amap_reduce(mapper, np.add, [1], initial=initial, executor=executor)
            job = asyncio.create_task(call)
            await asyncio.sleep(0)  # now it has begun, and waits for its workers
            initial[:] = array[:] = 1000
            return await job

        assert asyncio.run(main()).tolist() == [1.0] * 30_000

    def test_a_job_that_failed_does_not_disturb_the_next(self, executor):
        for _ in range(2):
            with pytest.raises(lambdamr.MapperError):
                lambdamr.map_reduce(
                    lambda part: 1 // 0, operator.add, range(100), executor=executor
                )
            assert lambdamr.map_reduce(sum, operator.add, range(8), executor=executor) == 28

    def test_three_threads_use_it_at_once(self, executor):
        def job(n):
            return lambdamr.map_reduce(
                lambda part: np.full(20_000, float(n)), operator.iadd, range(10), executor=executor
            )

        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            values = list(threads.map(job, range(3)))
        assert all(identical(v, np.full(20_000, 10.0 * n)) for n, v in enumerate(values))

    async def _gather(self, executor):
        return await asyncio.gather(
            *(
                lambdamr.amap_reduce(
                    lambda part, n=n: [n * part[0]], operator.add, range(50), executor=executor
                )
                for n in (1, 2)
            )
        )

    def test_two_jobs_share_an_event_loop(self, executor):
        assert asyncio.run(self._gather(executor)) == [[n * i for i in range(50)] for n in (1, 2)]

    def test_the_synchronous_face_works_in_a_running_loop(self, executor):
        async def main():
            return lambdamr.map_reduce(sum, operator.add, range(100), executor=executor)

        assert asyncio.run(main()) == 4950

    def test_a_job_that_is_cancelled_ends_and_leaves_the_executor_fit(self, executor):
        self.needs("interrupts")

        async def main():
            started = asyncio.Event()

            def observe(event):
                if isinstance(event, events.TaskStarted):
                    started.set()

            job = asyncio.create_task(
                lambdamr.amap_reduce(
                    lambda part: time.sleep(HANG),
                    left_one,
                    range(10),
                    executor=executor,
                    observers=[observe],
                )
            )
            await started.wait()
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            return await lambdamr.amap_reduce(sum, operator.add, range(10), executor=executor)

        assert asyncio.run(main()) == 45

    def test_a_job_can_be_cancelled_while_the_mapper_runs(self, executor, marker):
        self.needs("interrupts")
        os.mkfifo(marker)

        def mapper(part):
            with open(marker, "w"):  # opens when the driver opens its end
                time.sleep(HANG)

        async def main():
            job = asyncio.create_task(
                lambdamr.amap_reduce(mapper, left_one, range(10), executor=executor)
            )
            opened = await asyncio.to_thread(open, marker)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            opened.close()
            return await lambdamr.amap_reduce(sum, operator.add, range(10), executor=executor)

        assert asyncio.run(main()) == 45

    def test_a_checkpoint_made_here_is_finished_inline(
        self, executor, marker, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of this test")

        def mapper(part):
            if part[0] == 30 and not os.path.exists(marker):
                raise ValueError("not yet")
            return np.full(20_000, float(part[0]))

        call = functools.partial(
            lambdamr.map_reduce,
            mapper,
            operator.iadd,
            range(32),
            checkpoint=tmp_path / "checkpoint",
        )
        with pytest.raises(lambdamr.MapperError):
            call(executor=executor)
        assert first_time(marker)
        seen = []
        assert identical(call(executor="inline", observers=[seen.append]), np.full(20_000, 496.0))
        assert any(isinstance(event, events.Resumed) for event in seen)

    # -- the pool --------------------------------------------------------------------------------

    def test_an_executor_opens_pools(self, executor):
        async def main():
            async with executor.open() as pool, executor.open() as other:
                for each in (pool, other):
                    assert isinstance(each, Pool)
                    assert each.capacity >= 1
                    assert each.latency >= 0

        assert isinstance(executor, Executor)
        asyncio.run(main())

    @pytest.mark.parametrize("size", [1, 1000, 100 * KIB, 20 * MIB])
    def test_a_pool_keeps_what_is_put(self, executor, size):
        async def main():
            async with executor.open() as pool:
                frame = [b"head", os.urandom(size), memoryview(bytearray(size)), b""]
                ref = await pool.put(frame)
                assert ref.size == frame_size(frame)
                for _ in range(2):
                    assert bytes(await pool.get(ref)) == b"".join(frame)
                pool.discard([ref])
                pool.discard([ref])
                pool.discard([])

        asyncio.run(main())

    def test_a_get_that_is_cancelled_disturbs_no_other(self, executor):
        async def main():
            async with executor.open() as pool:
                frames = [bytes([i]) * 200_000 for i in range(4)]
                refs = [await pool.put([frame]) for frame in frames]
                for turns in range(20):
                    gets = [asyncio.create_task(pool.get(ref)) for ref in refs]
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    gets[0].cancel()
                    got = await asyncio.gather(*gets, return_exceptions=True)
                    assert list(map(bytes, got[1:])) == frames[1:]

        asyncio.run(main())

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_task_stops_after_its_budget_and_answers_with_what_it_has(self, executor, size):
        async def main():
            async with opened(executor, lambda p: np.full(size, p[0]), operator.add, 16) as job:
                answer = await job.map(4, 12, budget=0.0)
                assert answer.stopped == 5
                assert [(item.lo, item.hi) for item in answer.items] == [(4, 5)]
                answer = await job.map(3, 13)
                assert answer.stopped == 13
                assert [(i.lo, i.hi) for i in answer.items] == [(3, 4), (4, 8), (8, 12), (12, 13)]
                values = [await job.value(item) for item in answer.items]
                assert [int(value[0]) for value in values] == [3, 22, 38, 12]
                assert answer.failure is None

        asyncio.run(main())

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_fold_that_is_done_twice_makes_the_same_twice(self, executor, size):
        """Stragglers are: so no fold may change the values that are kept."""

        async def main():
            async with opened(executor, lambda p: np.full(size, p[0]), operator.iadd, 16) as job:
                left, right = await asyncio.gather(job.map(0, 8), job.map(8, 16))
                items = (*left.items, *right.items)
                for answer in await asyncio.gather(job.fold(items), job.fold(items)):
                    (item,) = answer.items
                    assert identical(await job.value(item), np.full(size, 120))
                assert identical(await job.value(left.items[0]), np.full(size, 28))

        asyncio.run(main())

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_copies_of_a_task_keep_their_values_apart(self, executor, size):
        async def main():
            async with opened(executor, lambda p: np.full(size, p[0]), operator.iadd, 16) as job:
                slow, fast = await asyncio.gather(job.map(0, 8), job.map(0, 8))
                folds = await asyncio.gather(job.fold(slow.items), job.fold(slow.items))
                for given_up, kept in ((slow, fast), folds):
                    job.pool.discard(item.ref for item in given_up.items)
                    (item,) = kept.items
                    assert identical(await job.value(item), np.full(size, 28))

        asyncio.run(main())

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_fold_takes_what_was_put(self, executor, size):
        """A checkpoint that is resumed is."""

        async def main():
            async with opened(executor, lambda p: np.full(size, p[0]), operator.add, 8) as job:
                ref = await job.pool.put(encode(np.full(size, 100)))
                mapped = await job.map(4, 8)
                initial = await job.pool.put(encode_initial(np.full(size, 1000)))
                answer = await job.fold((Item(0, 4, ref), *mapped.items))
                (item,) = answer.items
                assert identical(await job.value(item), np.full(size, 122))
                answer = await job.fold(answer.items, initial=initial)
                (item,) = answer.items
                assert identical(await job.value(item), np.full(size, 1122))

        asyncio.run(main())

    def test_partitions_that_failed_are_neutral_in_a_fold(self, executor):
        async def main():
            async with opened(executor, lambda p: [p[0]], operator.add, 8) as job:
                mapped = await job.map(4, 8)
                answer = await job.fold((Item(0, 4, None), *mapped.items))
                (item,) = answer.items
                assert (item.lo, item.hi) == (0, 8)
                assert await job.value(item) == [4, 5, 6, 7]

        asyncio.run(main())

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_what_came_before_a_failure_is_in_the_answer(self, executor, size):
        def mapper(part):
            if part[0] == 6:
                raise ValueError("six")
            return np.full(size, part[0])

        async def main():
            async with opened(executor, mapper, operator.add, 8) as job:
                answer = await job.map(0, 8)
                assert (answer.failure.kind, answer.failure.lo, answer.failure.hi) == (
                    "mapper",
                    6,
                    7,
                )
                assert [(item.lo, item.hi) for item in answer.items] == [(0, 4), (4, 6)]
                assert identical(await job.value(answer.items[0]), np.full(size, 6))

        asyncio.run(main())

    def test_more_tasks_than_capacity_all_end(self, executor):
        async def main():
            async with opened(executor, lambda p: p[0], operator.add, 16) as job:
                count = 2 * job.pool.capacity + 3
                answers = await asyncio.gather(*(job.map(i % 16, i % 16 + 1) for i in range(count)))
                values = [await job.value(answer.items[0]) for answer in answers]
                assert values == [i % 16 for i in range(count)]

        asyncio.run(main())

    def test_cancelling_a_task_frees_its_place(self, executor):
        self.needs("interrupts")

        def mapper(part):
            if part[0] == 0:
                time.sleep(HANG)
            return part[0]

        async def main():
            async with opened(executor, mapper, operator.add, 16) as job:
                hanging = [
                    asyncio.create_task(job.map(0, 1)) for _ in range(min(4, job.pool.capacity))
                ]
                await asyncio.wait(hanging, timeout=1.0)  # so that some of them do hang
                for task in hanging:
                    task.cancel()
                for task in hanging:
                    with pytest.raises(asyncio.CancelledError):
                        await task
                async with asyncio.timeout(HANG / 2):
                    answers = await asyncio.gather(*(job.map(i, i + 1) for i in range(1, 9)))
                assert [await job.value(answer.items[0]) for answer in answers] == [*range(1, 9)]

        asyncio.run(main())

    def test_a_task_can_be_cancelled_at_any_moment(self, executor):
        self.needs("interrupts")

        async def main():
            async with opened(executor, lambda p: time.sleep(HANG), operator.add, 16) as job:
                for moment in range(20):
                    task = asyncio.create_task(job.map(0, 1))
                    await asyncio.wait([task], timeout=0.002 * moment)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            async with (
                asyncio.timeout(HANG / 2),
                opened(executor, lambda p: p[0], operator.add, 16) as job,
            ):
                answers = await asyncio.gather(*(job.map(i, i + 1) for i in range(8)))
                assert [await job.value(answer.items[0]) for answer in answers] == [*range(8)]

        asyncio.run(main())

    def test_a_task_whose_worker_dies_is_lost(self, executor):
        self.needs("processes")

        async def main():
            async with opened(executor, lambda p: os._exit(3), operator.add, 16) as job:
                tasks = []
                with pytest.raises(retry.Lost) as caught:
                    await job.map(0, 4, tasks=tasks)
                assert str(caught.value)
                assert await job.pool.recover(tasks[0]) is None

        asyncio.run(main())

    def test_the_error_of_a_pool_that_leaves_is_not_swallowed(self, executor):
        async def main():
            async with executor.open():
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            asyncio.run(main())

    def needs(self, capability):
        if not getattr(self, capability):
            pytest.skip(f"this executor says: {capability} = False")


# -- jobs by hand --------------------------------------------------------------------------------


@dataclasses.dataclass
class PoolJob:
    """A pool, and what it takes to make tasks of one job."""

    pool: object
    chunk: object
    functions: object
    job: str = dataclasses.field(default_factory=secrets.token_hex)
    numbers: object = dataclasses.field(default_factory=lambda: itertools.count(1))

    def _task(self, lo, hi, **more):
        return Task(
            job=self.job,
            id=next(self.numbers),
            lo=lo,
            hi=hi,
            npartitions=self.chunk.npartitions,
            fan_in=2,
            functions=self.functions,
            **more,
        )

    async def map(self, lo, hi, *, budget=None, tasks=None):
        ref = await self.pool.put(encode_chunk(self.chunk.part(lo, hi)))
        task = self._task(lo, hi, chunk=ref, budget=budget)
        if tasks is not None:
            tasks.append(task)
        try:
            return await self.pool.run(task)
        finally:
            self.pool.discard([ref])

    async def fold(self, items, initial=None):
        return await self.pool.run(
            self._task(items[0].lo, items[-1].hi, items=tuple(items), initial=initial)
        )

    async def value(self, item):
        return decode(await self.pool.get(item.ref))


@contextlib.asynccontextmanager
async def opened(executor, mapper, reducer, npartitions):
    """A job over ``range(npartitions)``."""
    async with executor.open() as pool:
        functions = await pool.put(encode_functions(mapper, reducer))
        yield PoolJob(pool, as_chunk(range(npartitions), npartitions), functions)


# -- what the tests compare ----------------------------------------------------------------------


def identical(a, b):
    """Whether two values are the same to the last bit, in type, and in the layout of arrays."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        if a.dtype.hasobject:
            return all(map(identical, a.ravel().tolist(), b.ravel().tolist()))
        return a.tobytes() == b.tobytes() and a.flags.f_contiguous == b.flags.f_contiguous
    if isinstance(a, (pd.DataFrame, pd.Series, pd.Index)):
        return a.equals(b) and repr(a) == repr(b)
    if isinstance(a, (float, complex)):
        return bits(a) == bits(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    return bool(a == b)


def bits(number):
    number = complex(number)
    return struct.pack("<dd", number.real, number.imag)


def tree_fold(values, fan_in, reducer):
    """The reduction as the documentation draws it, level by level."""
    while len(values) > 1:
        values = [
            functools.reduce(reducer, values[at : at + fan_in])
            for at in range(0, len(values), fan_in)
        ]
    return values[0]


def inline(mapper, reducer, data, **options):
    return lambdamr.map_reduce(mapper, reducer, data, executor="inline", **options)


def partitions(*values):
    return lambdamr.Partitions(values)


def run_in_main(monkeypatch, source):
    """The main module, in which this was run as if it stood in the user's script or notebook."""
    main = sys.modules["__main__"]
    before = set(vars(main))
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), vars(main))
    for name in set(vars(main)) - before:
        value = getattr(main, name)
        delattr(main, name)
        monkeypatch.setattr(main, name, value, raising=False)  # so that it is taken away again
    return main
