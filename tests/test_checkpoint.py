"""A job whose driver died goes on where it stopped, and never to another value."""

import asyncio
import collections
import json
import math
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import lambdamr
from lambdamr import CheckpointError, Partitions, events, map_reduce
from lambdamr.checkpoints.file import FileCheckpoint
from lambdamr.executors.inline import InlinePool

IDENTITY = {"mapper": "m", "npartitions": 8, "fan_in": 2}
VALUES = {
    (0, 1): b"a",
    (1, 2): b"",
    (2, 4): b"c" * 40,
    (0, 2): b"ab",
    (4, 5): b"e",
    (5, 8): b"f" * 9,
}


@pytest.fixture(autouse=True)
def _own_key(tmp_path_factory, monkeypatch):
    monkeypatch.delenv("LAMBDAMR_CHECKPOINT_KEY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept"


def fill(path, values=None):
    with FileCheckpoint(path, IDENTITY) as checkpoint:
        for (lo, hi), frame in (values or VALUES).items():
            asyncio.run(checkpoint.append(lo, hi, frame))
    return path.read_bytes()


def read(path, identity=None):
    with FileCheckpoint(path, identity or IDENTITY) as checkpoint:
        return asyncio.run(finished(checkpoint))


async def finished(checkpoint):
    return {(item.lo, item.hi): frame async for item, frame in checkpoint.finished()}


# -- the file ------------------------------------------------------------------------------------


def test_the_largest_values_come_back_in_ascending_order(path):
    fill(path)
    assert list(read(path).items()) == [
        ((0, 2), b"ab"),
        ((2, 4), b"c" * 40),
        ((4, 5), b"e"),
        ((5, 8), b"f" * 9),
    ]


def test_values_that_overlap_are_taken_once(path):
    fill(path, {(0, 3): b"x", (2, 4): b"y", (3, 4): b"z"})
    assert list(read(path)) == [(0, 3), (3, 4)]


def test_the_same_value_may_be_kept_twice(path):
    for _ in range(2):
        fill(path)
    assert len(read(path)) == 4


def test_buffers_of_arrays_are_kept(path):
    array = np.arange(10.0)
    with FileCheckpoint(path, IDENTITY) as checkpoint:
        asyncio.run(checkpoint.append(0, 1, memoryview(array)))
    assert read(path)[0, 1] == array.tobytes()


def truth_or_error(path):
    """What a changed file gives: a part of what was kept, or a clear error; never anything else."""
    try:
        found = read(path)
    except CheckpointError:
        return None
    assert found.items() <= VALUES.items()
    return found


def test_a_file_torn_at_any_byte_loses_only_what_was_torn(path):
    whole = fill(path)
    counts = []
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = truth_or_error(path)
        assert found is not None  # a driver that was killed leaves no error behind
        counts.append(sum(hi - lo for lo, hi in found))
        fill(path, {(6, 7): b"new"} if (5, 8) not in found else None)  # it can be used again
        assert found.items() <= read(path).items() or (0, 2) in read(path)
    assert counts == sorted(counts)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_file_with_any_byte_changed_is_an_error_or_recomputed(path, flip):
    whole = fill(path)
    errors = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        found = truth_or_error(path)
        errors += found is None
        assert found is None or len(found) < len(read_truth())
    assert errors > 100  # all of the header


def read_truth():
    return {span: VALUES[span] for span in ((0, 2), (2, 4), (4, 5), (5, 8))}


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_bytes_inserted_removed_or_swapped_never_gives_another_value(path, data):
    path.unlink(missing_ok=True)
    whole = bytearray(fill(path))
    a = data.draw(st.integers(0, len(whole)))
    b = data.draw(st.integers(a, len(whole)))
    whole[a:b] = data.draw(st.sampled_from([whole[b : b + b - a], whole[a:b] * 2, b"", b"x" * 24]))
    path.write_bytes(whole)
    truth_or_error(path)


def test_a_record_of_another_file_does_not_fit(path, tmp_path):
    first = fill(path)
    other = fill(tmp_path / "other", {(0, 8): b"of another job"})
    header = len(fill(tmp_path / "empty", {(0, 1): b""})) - 24 - 32
    path.write_bytes(first[:header] + other[header:])
    assert read(path) == {}


def test_the_folders_are_made(tmp_path):
    fill(tmp_path / "a" / "b" / "kept")
    assert len(read(tmp_path / "a" / "b" / "kept")) == 4


def test_only_its_owner_can_read_the_file(path):
    fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"my thesis", b"\0" * 100, b"lambdamr notes, not checkpoints"])
def test_a_foreign_file_is_not_touched(path, content):
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"is no checkpoint of lambdamr .*; pass another path"
    ):
        FileCheckpoint(path, IDENTITY)
    assert path.read_bytes() == content


def test_what_is_no_file_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be used: .*[Dd]irectory"):
        FileCheckpoint(tmp_path, IDENTITY)
    with pytest.raises(CheckpointError, match=r"cannot be used: .*embedded null"):
        FileCheckpoint("a\0b", IDENTITY)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_is_a_clear_error():
    with pytest.raises(CheckpointError, match=r"/proc/self/kept cannot be used: .*another path"):
        FileCheckpoint("/proc/self/kept", IDENTITY)


def test_a_full_disk_is_a_clear_error_and_what_was_kept_stays(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(fill(path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        with (
            pytest.raises(CheckpointError, match=r"cannot be written: .* large"),
            FileCheckpoint(path, IDENTITY) as checkpoint,
        ):
            asyncio.run(checkpoint.append(0, 8, b"x" * 10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read(path) == read_truth()


def test_two_drivers_at_once_are_a_clear_error(path):
    with (
        FileCheckpoint(path, IDENTITY),
        pytest.raises(CheckpointError, match="in use by another driver; wait until it has ended"),
    ):
        FileCheckpoint(path, IDENTITY)
    FileCheckpoint(path, IDENTITY).close()


# -- the key -------------------------------------------------------------------------------------


def test_the_key_is_made_once_and_for_its_owner_only(path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    fill(path)
    key = tmp_path / "new" / "lambdamr" / "checkpoint.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [file.name for file in key.parent.iterdir()] == ["checkpoint.key"]
    secret = key.read_bytes()
    assert len(secret) == 32
    assert read(path)
    assert key.read_bytes() == secret


@pytest.mark.parametrize("key", ["a secret of my own", "x" * 1000, "ключ"])
def test_the_key_may_come_from_the_environment(path, monkeypatch, key):
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", key)
    fill(path)
    assert read(path) == read_truth()
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", key + "!")
    with pytest.raises(CheckpointError, match=r"cannot be authenticated.*LAMBDAMR_CHECKPOINT_KEY"):
        read(path)


def test_a_checkpoint_of_another_user_is_left_as_it_is(path, tmp_path, monkeypatch):
    whole = fill(path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    with pytest.raises(CheckpointError, match="cannot be authenticated"):
        read(path)
    assert path.read_bytes() == whole


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_home_that_cannot_be_written_is_a_clear_error(path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/self/state")
    with pytest.raises(CheckpointError, match=r"cannot be kept in .*Set LAMBDAMR_CHECKPOINT_KEY"):
        fill(path)


def test_a_key_that_was_emptied_is_a_clear_error(path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "lambdamr").mkdir()
    (tmp_path / "lambdamr" / "checkpoint.key").touch()
    with pytest.raises(CheckpointError, match=r"checkpoint.key: it was emptied; delete it"):
        fill(path)


# -- jobs ----------------------------------------------------------------------------------------


class Calls(list):
    """Counts the partitions that are computed, in the process of the inline executor."""

    def __reduce__(self):
        return _calls, ()


CALLS = Calls()


def _calls():
    return CALLS


@pytest.fixture
def calls():
    CALLS.clear()
    return CALLS


def harmonic(partition):
    CALLS.extend(partition)
    return math.fsum(1 / (1 + x) for x in partition)


def add(a, b):
    return a + b


def job(path, **options):
    given = {"npartitions": 13, "executor": "inline", **options}
    return map_reduce(harmonic, add, range(100), checkpoint=path, **given)


def test_a_finished_checkpoint_answers_at_once(path, calls):
    value = job(path)
    assert sorted(calls) == list(range(100))
    calls.clear()
    assert job(path) == value
    assert calls == []


def test_a_checkpoint_does_not_change_the_value(path):
    assert job(path) == job(None)


def test_a_path_may_be_a_string_and_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job("kept")
    assert Path("kept").exists()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda path: job(path, npartitions=12), "npartitions"),
        (lambda path: job(path, fan_in=3), "fan_in"),
        (
            lambda path: map_reduce(
                harmonic, add, range(101), npartitions=13, executor="inline", checkpoint=path
            ),
            "data",
        ),
        (
            lambda path: map_reduce(
                sum, add, range(100), npartitions=13, executor="inline", checkpoint=path
            ),
            "mapper",
        ),
        (
            lambda path: map_reduce(
                harmonic, max, range(100), npartitions=13, executor="inline", checkpoint=path
            ),
            "reducer",
        ),
        (
            lambda path: map_reduce(
                harmonic,
                add,
                Partitions([[x] for x in range(13)]),
                executor="inline",
                checkpoint=path,
            ),
            "data",
        ),
    ],
    ids=["npartitions", "fan_in", "data", "mapper", "reducer", "partitions"],
)
def test_a_checkpoint_of_another_job_is_an_error_that_says_what_differs(path, other, named):
    job(path)
    whole = path.read_bytes()
    with pytest.raises(CheckpointError, match=rf"of another job: it differs in [\w, ]*\b{named}\b"):
        other(path)
    assert path.read_bytes() == whole


def test_only_what_is_missing_is_computed_again(path, calls, monkeypatch):
    monkeypatch.setattr(InlinePool, "latency", 1e-9)  # each partition is a record of its own
    value = job(path)
    whole = path.read_bytes()
    seen = set()
    for end in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:end])
        calls.clear()
        assert job(path) == value
        assert len(calls) == len(set(calls))
        seen.add(len(calls))
    assert len(seen) > 5


def test_initial_is_applied_once_and_is_no_part_of_the_checkpoint(path, calls):
    value = job(path)
    for initial in (1000.0, 1000.0, 5.0):
        calls.clear()
        assert job(path, initial=initial) == initial + value
        assert calls == []
    assert job(path) == value


def fails_at_first(partition):
    CALLS.extend(partition)
    if 3 in partition and not Path(os.environ["MENDED"]).exists():
        raise ValueError("not today")
    return sum(partition)


def test_partitions_that_failed_are_computed_again(path, tmp_path, monkeypatch, calls):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))

    def run():
        return map_reduce(
            fails_at_first, add, range(50), executor="inline", checkpoint=path, errors="return"
        )

    outcome = run()
    assert outcome.failed == (3,)
    assert outcome.value == sum(range(50)) - 3
    calls.clear()
    (tmp_path / "mended").touch()
    outcome = run()
    assert outcome.failed == ()
    assert outcome.value == sum(range(50))
    assert calls == [3]


def test_a_checkpoint_in_use_stops_the_second_job(path):
    def second(event):
        if isinstance(event, events.JobStarted):
            with pytest.raises(CheckpointError, match="in use by another driver"):
                job(path)
            seen.append(event)

    seen = []
    job(path, observers=[second])
    assert len(seen) == 1


# -- a driver that is killed ---------------------------------------------------------------------

DRIVER = """
    import json, os, sys, time
    import numpy as np
    import lambdamr
    from lambdamr.executors import local_pool

    local_pool.LocalPool.latency = 1e-6  # so that each partition is answered for by itself

    def mapper(partition):
        time.sleep(0.004)
        with open(os.environ["SIDE"], "a") as side:
            side.write(f"{os.environ['ROUND']} {partition}\\n")
        return np.random.default_rng(partition).normal(size=20_000) * 10.0 ** (partition % 7)

    def reducer(a, b):
        a += b
        return a

    def tell(event):
        print(json.dumps([type(event).__name__, getattr(event, "partitions", 0)]), flush=True)

    value = lambdamr.map_reduce(
        mapper, reducer, lambdamr.Partitions(range(60)), fan_in=3, observers=[tell],
        executor=lambdamr.LocalExecutor(workers=2), checkpoint=sys.argv[1],
        retry=lambdamr.RetryPolicy(straggler_factor=None),
    )
    print(json.dumps(["value", value.tobytes().hex()]))
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_driver_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path, path, seed):
    moments = random.Random(seed)
    (tmp_path / "driver.py").write_text(textwrap.dedent(DRIVER))
    side = tmp_path / "side"
    resumed, value = [], None
    for attempt in range(8):
        environment = {**os.environ, "SIDE": str(side), "ROUND": str(attempt)}
        with subprocess.Popen(
            [sys.executable, tmp_path / "driver.py", path],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as driver:
            told = []
            left = moments.randrange(2, 60) if attempt < 5 else math.inf
            for line in driver.stdout:
                told.append(json.loads(line))
                left -= told[-1][0] == "TaskFinished"
                if left <= 0:
                    driver.send_signal(signal.SIGKILL)
                    break
            driver.stdout.read()
        resumed.append(sum(count for name, count in told if name == "Resumed"))
        if told[-1][0] == "value":
            assert driver.returncode == 0
            value = told[-1][1]
            break
        assert driver.returncode == -signal.SIGKILL
    else:
        pytest.fail("it was never finished")
    assert resumed == sorted(resumed)
    assert resumed[-1] > 0
    computed = collections.defaultdict(list)
    for line in side.read_text().splitlines():
        number, partition = line.split()
        computed[int(number)].append(int(partition))
    assert len(computed[attempt]) == 60 - resumed[-1]  # the last driver did what was left, no more
    assert len(set(computed[attempt])) == len(computed[attempt])
    assert value == expected().tobytes().hex()


def expected():
    """The same value, by a driver that lived, in one process."""

    def mapper(partition):
        return np.random.default_rng(partition).normal(size=20_000) * 10.0 ** (partition % 7)

    return lambdamr.map_reduce(mapper, add, Partitions(range(60)), fan_in=3, executor="inline")
