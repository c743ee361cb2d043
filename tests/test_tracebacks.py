"""The traceback of a worker looks like the one that the same code has here."""

import operator
import os
import pickle
import subprocess
import sys
import textwrap
import traceback

import pytest

import lambdamr
from lambdamr import LocalExecutor, MapperError, Partitions, ReducerError, map_reduce
from lambdamr.travel.tracebacks import put_together, take_apart


class AppError(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{detail} ({code})")


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def divide(partition):
    return (1 + 2) / (partition[0] - partition[0])


def with_cause(partition):
    try:
        divide(partition)
    except ZeroDivisionError as error:
        raise AppError(7, "detail") from error


def with_context(partition):
    try:
        with_cause(partition)
    except AppError:
        return {}["missing"]


def without_context(partition):
    try:
        divide(partition)
    except ZeroDivisionError:
        raise KeyError("clean") from None


def circular(partition):
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def over_lines(partition):
    return operator.truediv(
        partition[0],
        0,
    )


def bad_syntax(partition):
    compile("a = (1 +\nb = ?", "settings.py", "exec")


def deep(partition, depth=700):
    return deep(partition, depth - 1) if depth else divide(partition)


def endless(partition):
    return endless(partition)


def ping(partition, depth=100):
    return pong(partition, depth)


def pong(partition, depth):
    return ping(partition, depth - 1) if depth else divide(partition)


def with_notes(partition):
    error = ValueError("noted")
    error.add_note("the file was ferroelectric.root")
    raise error


def several(partition):
    raise ExceptionGroup("both", [ValueError("one"), TypeError("two")])


def unprintable(partition):
    raise UnprintableError


def local_traceback(function, *arguments):
    """What Python would print, without the frame of this function."""
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001  # whatever it is
        error.__traceback__ = error.__traceback__.tb_next
        return "".join(traceback.format_exception(error))
    raise AssertionError("it did not raise")


@pytest.fixture(scope="module")
def local():
    with LocalExecutor(workers=1) as executor:
        yield executor


ALL = [
    divide,
    with_cause,
    with_context,
    without_context,
    over_lines,
    bad_syntax,
    deep,
    ping,
    with_notes,
    unprintable,
]


@pytest.mark.parametrize("mapper", ALL)
def test_a_remote_traceback_is_the_local_one(local, mapper):
    with pytest.raises(MapperError) as caught:
        map_reduce(mapper, operator.add, Partitions([[3]]), executor=local)
    assert caught.value.remote_traceback == local_traceback(mapper, [3])
    assert caught.value.remote_traceback.rstrip() in str(caught.value)


def test_the_members_of_a_group_are_shown(local):
    with pytest.raises(MapperError) as caught:
        map_reduce(several, operator.add, Partitions([[3]]), executor=local)
    remote = caught.value.remote_traceback
    assert 'raise ExceptionGroup("both", [ValueError("one"), TypeError("two")])' in remote
    assert "ValueError: one" in remote
    assert "TypeError: two" in remote


def test_a_recursion_without_end_is_shortened_as_it_is_here(local):
    with pytest.raises(MapperError) as caught:
        map_reduce(endless, operator.add, Partitions([[3]]), executor=local)
    remote = caught.value.remote_traceback
    assert "return endless(partition)" in remote
    assert "[Previous line repeated 9" in remote
    assert "RecursionError: maximum recursion depth exceeded" in remote
    assert len(remote) < 2000


def test_an_endless_chain_of_causes_ends(local):
    with pytest.raises(MapperError) as caught:
        map_reduce(circular, operator.add, Partitions([[3]]), executor=local)
    assert caught.value.remote_traceback.count("ValueError: first") == 1


def test_a_traceback_far_beyond_the_limit_of_recursion_is_cut():
    def climb(depth):
        if depth:
            climb(depth - 1)
        else:
            raise ValueError("summit")

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        climb(5_000)
    except ValueError as error:
        blocks = take_apart(error)
    finally:
        sys.setrecursionlimit(limit)
    assert len(blocks[0][1]) <= 2000
    assert "climb(depth - 1)" in put_together(blocks)


def test_the_frames_of_lambdamr_are_left_out(local):
    def reducer(a, b):
        return a[b]

    with pytest.raises(ReducerError, match="partitions 0 to 1 of 2") as caught:
        map_reduce(len, reducer, Partitions(["a", "b"]), executor=local)
    assert os.path.dirname(lambdamr.__file__) + os.sep not in caught.value.remote_traceback
    assert "return a[b]" in caught.value.remote_traceback


def test_the_exception_of_the_worker_is_the_cause(local):
    with pytest.raises(MapperError) as caught:
        map_reduce(divide, operator.add, Partitions([[3]]), executor=local)
    assert type(caught.value.__cause__) is ZeroDivisionError


def test_an_exception_that_cannot_be_loaded_here_is_text(local):
    with pytest.raises(MapperError, match=r"AppError: detail \(7\)") as caught:
        map_reduce(with_cause, operator.add, Partitions([[3]]), executor=local)
    assert caught.value.__cause__ is None


def test_a_traceback_is_plain_data():
    try:
        with_context([3])
    except KeyError as error:
        blocks = take_apart(error)
    assert b"lambdamr" not in pickle.dumps(blocks).replace(__file__.encode(), b"")
    copied = pickle.loads(pickle.dumps(blocks))  # noqa: TID251  # made here
    assert put_together(copied) == put_together(blocks)


SCRIPT = """
    import sys, traceback
    import lambdamr

    def mapper(partition):
        first, *rest = partition
        return first / len(rest)

    try:
        mapper([0])
    except ZeroDivisionError as error:
        error.__traceback__ = error.__traceback__.tb_next
        expected = "".join(traceback.format_exception(error))
    try:
        lambdamr.map_reduce(mapper, max, range(3))
    except lambdamr.MapperError as error:
        print(error.remote_traceback == expected)
        print(error.remote_traceback)
"""


@pytest.mark.parametrize("way", ["script", "-c", "stdin"])
def test_a_program_shows_the_lines_that_it_shows_here(tmp_path, way):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    arguments = {
        "script": [tmp_path / "script.py"],
        "-c": ["-c", textwrap.dedent(SCRIPT)],
        "stdin": ["-"],
    }[way]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=textwrap.dedent(SCRIPT),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("True\n")
    known = {"script", "-c"} if sys.version_info >= (3, 13) else {"script"}  # to Python itself
    line = "return first / len(rest)\n           ~~~~~~^~~~~~~~~~~"
    assert (line in done.stdout) == (way in known)
    assert "line 7, in mapper" in done.stdout
