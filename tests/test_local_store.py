"""Large values between processes: in shared memory, or on disk where that has no room."""

import asyncio
import errno
import fcntl
import os
import resource
import signal
from collections import namedtuple
from operator import add
from pathlib import Path

import psutil
import pytest

import lambdamr
from lambdamr.executors import local_folders, local_store
from lambdamr.executors.local_store import LocalStore

pytestmark = pytest.mark.timeout(60)

INLINE = 64 << 10
MEMORY = Path("/dev/shm")


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / "memory", tmp_path / "disk"]
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def store(folders):
    return LocalStore([str(folder) for folder in folders], INLINE)


@pytest.fixture
def temporary(temporary):
    yield temporary
    assert list(temporary.iterdir()) == []
    assert list(MEMORY.glob(f"lambdamr-*-{os.getpid()}-*")) == []


def test_what_is_kept_is_read_and_removed(store, folders):
    key = store.keep("name", [b"one ", bytearray(b"two "), memoryview(b"three")])
    frame = store.read(key)
    assert bytes(frame) == b"one two three"
    assert not memoryview(frame).readonly
    frame[:3] = b"ONE"  # a private map: the next reader does not see it
    assert bytes(store.read(key)) == b"one two three"
    assert [path.name for path in folders[0].iterdir()] == ["name"]
    store.remove(key)
    store.remove(key)
    assert list(folders[0].iterdir()) == []
    assert bytes(frame) == b"ONE two three"


def test_what_is_cleared_is_gone_but_for_the_locks(store, folders):
    for folder in folders:
        (folder / local_store.LOCK).touch()
    store.keep("name", [b"value"])
    store.clear()
    assert [path.name for folder in folders for path in folder.iterdir()] == ["lock", "lock"]
    store.remove_folders()
    store.remove_folders()
    assert not any(folder.exists() for folder in folders)


def test_shared_memory_that_is_nearly_full_is_left_alone(store, folders, monkeypatch):
    space = namedtuple("space", "f_bavail f_frsize")
    monkeypatch.setattr(os, "statvfs", lambda folder: space(1, 1000))
    assert Path(store.keep("small", [bytes(900)])).parent == folders[0]
    assert Path(store.keep("large", [bytes(901)])).parent == folders[1]


def test_shared_memory_that_is_full_in_the_middle_of_a_value_is_left_alone(store, folders):
    (folders[0] / "name").symlink_to("/dev/full")  # which has room, and then has none
    assert store.keep("name", [b"value"]) == str(folders[1] / "name")
    assert list(folders[0].iterdir()) == []


def test_no_room_anywhere_is_an_error_that_says_what_to_do(store, folders):
    for folder in folders:
        (folder / "name").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"no room for a value of 3 MiB .*set TMPDIR") as caught:
        store.keep("name", [bytes(3 << 20)])
    assert caught.value.errno == errno.ENOSPC
    assert [path for folder in folders for path in folder.iterdir()] == []


# -- in jobs ---------------------------------------------------------------------------------------


def test_workers_write_to_disk_where_shared_memory_is_too_small(temporary, tmp_path):
    def no_room():
        import os
        from collections import namedtuple

        space = namedtuple("space", "f_bavail f_frsize")
        os.statvfs = lambda folder: space(1, 1000)

    def reducer(a, b):
        (tmp_path / "seen").write_text(repr(list(temporary.glob("*/*-*"))))
        return a + b

    with lambdamr.LocalExecutor(workers=2, warm_up=no_room) as executor:
        value = lambdamr.map_reduce(
            lambda partition: bytes(200_000), reducer, range(8), npartitions=8, executor=executor
        )
    assert len(value) == 1_600_000
    assert str(temporary) in (tmp_path / "seen").read_text()


def test_without_shared_memory_values_are_on_disk(temporary, monkeypatch):
    monkeypatch.setattr(local_folders, "_MEMORY", "/nowhere")
    with lambdamr.LocalExecutor(workers=2) as executor:
        value = lambdamr.map_reduce(
            lambda partition: bytes(200_000), add, range(8), npartitions=8, executor=executor
        )
        assert len(list(temporary.iterdir())) == 1
    assert len(value) == 1_600_000


def test_a_disk_that_is_full_under_a_worker_is_a_clear_error(temporary):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with (
        lambdamr.LocalExecutor(workers=2, warm_up=full) as executor,
        pytest.raises(lambdamr.ResultError, match="no room for a value of 0 MiB"),
    ):
        lambdamr.map_reduce(
            lambda partition: bytes(200_000), add, range(8), npartitions=8, executor=executor
        )


def test_a_disk_that_is_full_under_the_driver_is_a_clear_error(temporary):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with lambdamr.LocalExecutor(workers=2) as executor:
            lambdamr.map_reduce(len, add, range(8), executor=executor)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            with pytest.raises(lambdamr.BrokenExecutorError, match="no room for a value"):
                lambdamr.map_reduce(len, add, bytes(10_000_000), npartitions=4, executor=executor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_large_values_do_not_pass_through_the_driver(temporary):
    def mapper(partition):
        return [partition[0], bytes(64 << 20)]

    def reducer(a, b):
        count = a[0] + b[0]
        return [count, a[1] if count < 276 else b""]

    with lambdamr.LocalExecutor(workers=2) as executor:
        lambdamr.map_reduce(len, add, range(8), executor=executor)
        before = psutil.Process().memory_info().rss
        peaks = []
        value = lambdamr.map_reduce(
            mapper,
            reducer,
            range(24),
            npartitions=24,
            executor=executor,
            observers=[lambda _: peaks.append(psutil.Process().memory_info().rss)],
        )
    assert value == [276, b""]
    assert max(peaks) - before < 32 << 20


# -- folders ---------------------------------------------------------------------------------------


def name(number=1, uid=None):
    return f"lambdamr-{os.getuid() if uid is None else uid}-{number}-{number:08x}"


def test_folders_that_nobody_has_locked_are_removed_at_the_next_start(temporary):
    whole, torn, empty = (temporary / name(number) for number in (1, 2, 3))
    for folder in (whole, torn, empty):
        folder.mkdir()
    (whole / local_store.LOCK).touch()
    (whole / "put-1").touch()
    (torn / "put-1").touch()  # it was killed while it cleaned up
    assert lambdamr.map_reduce(len, add, range(8)) == 8
    assert not any(folder.exists() for folder in (whole, torn, empty))


def test_what_is_locked_or_not_ours_is_left_alone(temporary, tmp_path):
    victim = tmp_path / "victim"
    locked, other, link = temporary / name(1), temporary / "lambdamr-0-mine", temporary / name(2)
    for folder in (victim, locked, other):
        folder.mkdir()
        (folder / local_store.LOCK).touch()
    link.symlink_to(victim)  # planted by somebody, to have a foreign folder emptied
    with (locked / local_store.LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert lambdamr.map_reduce(len, add, range(8)) == 8
    for folder in (victim, locked, other):
        assert (folder / local_store.LOCK).exists()
        (folder / local_store.LOCK).unlink()
    locked.rmdir()
    other.rmdir()
    link.unlink()


def test_folders_are_private(temporary):
    folders, locks = local_folders.make_folders()
    assert {Path(folder).stat().st_mode & 0o777 for folder in folders} == {0o700}
    local_store.remove_folders(folders)
    for lock in locks:
        os.close(lock)


def test_many_that_start_at_once_do_not_sweep_each_other_away(temporary):
    """Between its making and its locking a folder looks as if its driver had been killed."""

    async def main():
        def start():
            made = []
            for _ in range(100):
                folders, locks = local_folders.make_folders()
                assert all(Path(folder, local_store.LOCK).exists() for folder in folders)
                made.append(folders)
                local_store.remove_folders(folders)
                for lock in locks:
                    os.close(lock)
            return len(made)

        return await asyncio.gather(*(asyncio.to_thread(start) for _ in range(4)))

    assert asyncio.run(main()) == [100] * 4
