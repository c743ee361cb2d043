"""Processes on this machine, when all goes well: warm, shared, closed, in threads and in loops."""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import add, or_
from pathlib import Path

import psutil
import pytest
from processes import crew_processes, still_alive

import lambdamr
from lambdamr import events
from lambdamr.executors import local_crew

pytestmark = pytest.mark.timeout(60)

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _nothing_is_left(temporary):
    before = {process.pid for process in crew_processes()}
    in_memory = folders_in_memory()
    yield
    assert still_alive({process.pid for process in crew_processes()} - before) == []
    assert list(temporary.iterdir()) == []
    assert folders_in_memory() <= in_memory


@pytest.fixture
def executor():
    with lambdamr.LocalExecutor(workers=2) as executor:
        yield executor


def folders_in_memory():
    return set(MEMORY.glob(f"lambdamr-*-{os.getpid()}-*"))


def who():
    """A mapper that says which process it is in, slowly enough for all workers to take part."""

    def mapper(partition):
        time.sleep(0.02)
        return {os.getpid()}

    return mapper


def job(executor, mapper=None, n=60, **options):
    return lambdamr.map_reduce(
        mapper or who(), or_, range(n), npartitions=n, executor=executor, **options
    )


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_so_many_workers_map(workers):
    with lambdamr.LocalExecutor(workers=workers) as executor:
        assert len(job(executor)) == workers
        assert len(crew_processes()) == workers + 1  # the template


def test_there_are_as_many_workers_as_cpus_that_this_process_may_use():
    cpus = len(os.sched_getaffinity(0))
    with lambdamr.LocalExecutor() as executor:
        assert repr(executor) == f"LocalExecutor(workers={cpus})"
        assert len(job(executor)) == cpus


def test_the_next_job_finds_the_same_workers(executor):
    assert job(executor) == job(executor) == job(executor)


def test_workers_that_shall_not_stay_warm_end_with_their_job():
    executor = lambdamr.LocalExecutor(workers=2, stay_warm=False)
    first = job(executor)
    assert crew_processes() == []
    assert not first & job(executor)


def test_an_executor_by_name_keeps_no_processes():
    assert len(job("local")) == len(os.sched_getaffinity(0))
    assert crew_processes() == []


def test_the_template_starts_before_the_driver_imports_what_it_needs_itself():
    ended = script(
        """
        import sys
        from lambdamr import LocalExecutor, map_reduce
        from lambdamr.executors.local_process import TemplateProcess

        def spawn(self, original=TemplateProcess._spawn):
            print({"asyncio", "cloudpickle", "tempfile"} & set(sys.modules))
            original(self)

        TemplateProcess._spawn = spawn
        with LocalExecutor(workers=2) as executor:
            print(map_reduce(len, lambda a, b: a + b, range(8), executor=executor))
        """
    )
    assert ended.stdout.splitlines() == ["set()", "8"], ended.stderr


def test_workers_are_ordered_before_the_template_is_ready_to_fork_them(monkeypatch):
    ready = []

    def fork(self, original=local_crew.Crew.fork):
        ready.append(self._ready.is_set())
        return original(self)

    monkeypatch.setattr(local_crew.Crew, "fork", fork)
    with lambdamr.LocalExecutor(workers=2) as executor:
        assert len(job(executor)) == 2
    assert ready == [False, False]


def test_a_job_that_nobody_watches_imports_nothing_to_watch_it_with():
    ended = script(
        """
        import lambdamr, sys
        print(lambdamr.map_reduce(len, lambda a, b: a + b, range(8)))
        print({"lambdamr.events", "lambdamr.observers.progress"} & sys.modules.keys())
        """
    )
    assert ended.stdout.splitlines() == ["8", "set()"], ended.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TMPDIR": "usable"},
        {"TMPDIR": "", "TEMP": "usable"},
        {"TEMP": "missing", "TMP": "usable"},
        {"TMPDIR": "file"},
        {"TMPDIR": "missing"},
    ],
    ids=str,
)
def test_the_temporary_folder_is_that_of_tempfile(tmp_path, environment):
    (tmp_path / "usable").mkdir()
    (tmp_path / "file").touch(0o700)
    unset = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "")
    ended = script(
        """
        from lambdamr.executors.local_folders import _temporary_folder
        print(_temporary_folder())
        import tempfile
        print(tempfile.gettempdir())
        """,
        cwd=tmp_path,
        **(unset | environment),
    )
    ours, theirs = ended.stdout.splitlines()
    assert ours == theirs


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_worker_is_replaced_after_so_many_tasks(tasks):
    told = []
    with lambdamr.LocalExecutor(workers=2, max_tasks_per_child=tasks) as executor:
        pool_of = partial(job, executor, observers=[told.append])
        for _ in range(3):
            pool_of()
    served = [e.stats.worker for e in told if isinstance(e, events.TaskFinished)]
    assert len(served) > 6
    assert max(served.count(worker) for worker in served) <= tasks


def test_values_are_the_same_with_any_number_of_workers():
    values = [random.Random(i).random() for i in range(1000)]
    sums = set()
    for workers in (1, 2, 8):
        with lambdamr.LocalExecutor(workers=workers) as executor:
            sums.add(lambdamr.map_reduce(sum, add, values, npartitions=317, executor=executor))
    sums.add(lambdamr.map_reduce(sum, add, values, npartitions=317, executor="inline"))
    assert len(sums) == 1


def test_workers_do_not_draw_the_same_random_numbers():
    def draw(partition):
        import numpy

        time.sleep(0.02)
        return {(os.getpid(), random.random(), float(numpy.random.random()))}

    with lambdamr.LocalExecutor(workers=4, preload=["numpy", "random"]) as executor:
        drawn = job(executor, draw)
    assert len({pid for pid, _, _ in drawn}) == 4
    assert len({number for _, number, _ in drawn}) == 60
    assert len({number for _, _, number in drawn}) == 60


# -- threads, loops, and several at once ---------------------------------------------------------


def test_several_threads_use_one_executor_at_once(executor):
    def values(seed):
        data = [seed, *range(40)]
        return [
            lambdamr.map_reduce(list, add, data, npartitions=20, executor=executor)
            for _ in range(5)
        ] == [data] * 5

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(values, range(4)))
    assert len(crew_processes()) == 3  # of four crews one stays warm


def test_two_executors_are_used_at_once():
    with (
        lambdamr.LocalExecutor(workers=2) as one,
        lambdamr.LocalExecutor(workers=2) as two,
        ThreadPoolExecutor(2) as threads,
    ):
        a, b = threads.map(job, [one, two])
        assert len(a) == len(b) == 2
        assert not a & b
        assert job(one) == a
        assert job(two) == b


def test_jobs_of_ones_own_loop_share_an_executor(executor):
    async def main():
        count = partial(lambdamr.amap_reduce, len, add, npartitions=20, executor=executor)
        counts = await asyncio.gather(*(count(range(n)) for n in (20, 30, 40)))
        counts.append(await count(range(50)))
        assert len(asyncio.all_tasks()) == 1
        return counts

    for _ in range(2):  # a new loop finds the workers of the old one
        assert asyncio.run(main()) == [20, 30, 40, 50]


def test_a_job_that_is_cancelled_stops_its_workers_and_leaves_the_loop_usable(executor, tmp_path):
    def hang(partition):
        (tmp_path / str(os.getpid())).touch()
        time.sleep(1000)

    async def main():
        started = asyncio.Event()
        run = partial(lambdamr.amap_reduce, executor=executor)
        hanging = asyncio.create_task(run(hang, add, range(8), observers=[lambda _: started.set()]))
        await started.wait()
        await asyncio.sleep(random.Random(1).uniform(0, 0.1))  # anywhere in it
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert len(asyncio.all_tasks()) == 1
        return await run(len, add, range(8))

    assert asyncio.run(main()) == 8
    assert still_alive((int(p.name) for p in tmp_path.glob("[0-9]*")), 0) == []


@pytest.mark.parametrize("ticks", [0, 1, 2, 5])
def test_a_job_can_be_cancelled_while_its_template_starts(ticks):
    executor = lambdamr.LocalExecutor(workers=2, warm_up=lambda: time.sleep(1000))

    async def main():
        starting = asyncio.create_task(lambdamr.amap_reduce(len, add, range(8), executor=executor))
        for _ in range(ticks):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(main())
    assert crew_processes() == []


def test_two_hundred_jobs_leave_no_descriptors_no_threads_and_no_memory(executor):
    def state():
        process = psutil.Process()
        return process.num_fds(), threading.active_count(), len(crew_processes())

    def large(partition):
        return bytes(100_000)

    def jobs(n):
        for _ in range(n):
            job(executor, lambda partition: {partition[0]}, n=8)
            lambdamr.map_reduce(large, max, range(4), executor=executor)

    jobs(20)
    before, memory = state(), psutil.Process().memory_info().rss
    jobs(100)
    assert state() == before
    assert psutil.Process().memory_info().rss - memory < 8 << 20


def test_cold_jobs_leave_no_descriptors_and_no_threads():
    lambdamr.map_reduce(len, add, range(8))
    before = psutil.Process().num_fds(), threading.active_count()
    for _ in range(5):
        lambdamr.map_reduce(len, add, range(8))
        with pytest.raises(lambdamr.MapperError):
            lambdamr.map_reduce(lambda partition: 1 / 0, add, range(8))
    assert (psutil.Process().num_fds(), threading.active_count()) == before


# -- closing ---------------------------------------------------------------------------------------


def test_a_closed_executor_has_no_processes_and_cannot_be_used_again():
    executor = lambdamr.LocalExecutor(workers=2)
    assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8
    assert len(crew_processes()) == 3
    executor.close()
    executor.close()
    assert crew_processes() == []
    with pytest.raises(lambdamr.BrokenExecutorError, match="is closed; make another"):
        lambdamr.map_reduce(len, add, range(8), executor=executor)


def test_an_executor_that_nobody_holds_ends_its_processes():
    lambdamr.map_reduce(len, add, range(8), executor=lambdamr.LocalExecutor(workers=2))
    assert crew_processes() == []


def test_an_executor_that_is_closed_during_a_job_ends_after_it(executor):
    started = threading.Event()

    def note(event):
        if isinstance(event, events.TaskStarted):
            started.set()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(job, executor, observers=[note])
        started.wait()
        executor.close()
        assert len(running.result()) == 2
    assert crew_processes() == []


# -- what workers print and read -----------------------------------------------------------------


def script(text, *arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(text)],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | environment,
        input="nothing for workers",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_is_printed_anywhere_appears_once():
    text = """
    import ctypes, lambdamr, sys
    def warm_up():
        print("template")
        ctypes.CDLL(None).printf(b"C in the template\\n")
    def mapper(partition):
        print("worker", partition[0])
        print("stderr", partition[0], file=sys.stderr)
        ctypes.CDLL(None).printf(b"C in a worker %d\\n", partition[0])
        return 1
    print("driver")
    with lambdamr.LocalExecutor(workers=2, warm_up=warm_up) as executor:
        for _ in range(2):
            lambdamr.map_reduce(
                mapper, lambda a, b: a + b, range(4), npartitions=4, executor=executor
            )
    """
    ended = script(text)
    assert ended.returncode == 0, ended.stderr
    workers = [f"worker {i}" for i in range(4)] + [f"C in a worker {i}" for i in range(4)]
    assert sorted(ended.stdout.splitlines()) == sorted(
        ["driver", "template", "C in the template", *workers * 2]
    )
    assert sorted(ended.stderr.split()) == sorted(
        ("stderr 0 stderr 1 stderr 2 stderr 3 " * 2).split()
    )


def test_what_a_worker_prints_is_there_when_the_job_is_over(tmp_path):
    text = """
    import lambdamr, sys
    executor = lambdamr.LocalExecutor(workers=1)
    lambdamr.map_reduce(lambda p: print("once"), lambda a, b: a, range(1), executor=executor)
    print(open(sys.argv[1]).read().count("once"), file=sys.stderr)
    """
    out = tmp_path / "out"
    with out.open("w") as file:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(text), str(out)],
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=True,
        )
    assert ended.stderr == "1\n"
    assert out.read_text() == "once\n"


def test_a_worker_reads_nothing_from_stdin():
    text = """
    import lambdamr, sys
    print(lambdamr.map_reduce(lambda p: repr(sys.stdin.read()), max, range(4)))
    print(sys.stdin.read())
    """
    assert script(text).stdout == "''\nnothing for workers\n"


def test_a_mapper_whose_stdout_is_gone_does_no_harm():
    text = """
    import lambdamr, sys
    print(lambdamr.map_reduce(lambda p: sys.stdout.close() or 1, max, range(4)))
    """
    ended = script(text)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


# -- surroundings ----------------------------------------------------------------------------------


JOB = """
import lambdamr, local_module
print(lambdamr.map_reduce(local_module.mapper, lambda a, b: a + b, range(8)))
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "local_module.py").write_text("def mapper(partition):\n    return len(partition)\n")
    return folder


def test_a_relative_pythonpath_works(project):
    path = os.pathsep.join(filter(None, ["project", os.environ.get("PYTHONPATH")]))
    ended = script(JOB, cwd=project.parent, PYTHONPATH=path)
    assert ended.stdout == "8\n", ended.stderr


def test_a_driver_that_changed_its_folder_before_the_first_job_works(project):
    ended = script("import local_module, os; os.chdir('/')\n" + JOB, cwd=project)
    assert ended.stdout == "8\n", ended.stderr


@pytest.mark.parametrize(
    "flags", [["-I"], ["-E", "-s"], ["-O"], ["-X", "utf8"], ["-W", "error"], ["-X", "dev"]]
)
def test_the_flags_of_the_driver_are_those_of_its_workers(project, flags):
    """With -I the environment is ignored: what is on the path has to come from the driver."""
    home = Path(lambdamr.__file__).parents[1]
    text = f"""
    import sys; sys.path[:0] = [{str(project)!r}, {str(home)!r}]
    import lambdamr, local_module
    flags = lambda partition: (tuple(__import__("sys").flags), local_module.mapper([1]))
    assert lambdamr.map_reduce(flags, max, range(4), npartitions=1) == (tuple(sys.flags), 1)
    """
    ended = script(text, *flags)
    assert ended.returncode == 0, ended.stderr
    # asyncio's own, with -X dev, on a busy machine
    assert [line for line in ended.stderr.splitlines() if " took " not in line] == []


def test_a_folder_in_which_nobody_may_write_works():
    ended = script("import lambdamr; print(lambdamr.map_reduce(len, max, range(8)))", cwd="/proc")
    assert ended.stdout == "1\n", ended.stderr


def test_a_folder_that_was_deleted_works(tmp_path):
    gone, report = tmp_path / "gone", tmp_path / "report.json"
    gone.mkdir()
    text = f"""
    import lambdamr, os, sys
    assert "" in sys.path
    os.rmdir(os.getcwd())
    report = lambdamr.Report({str(report)!r})
    print(lambdamr.map_reduce(lambda p: len(p), max, range(8), observers=[report]))
    report.wait()
    """
    ended = script(text, cwd=gone)
    assert (ended.stdout, ended.stderr) == ("1\n", "")
    assert report.exists()


@pytest.mark.parametrize("name", ["with spaces", "η, σ and 'quotes'", "line\nbreak"])
def test_a_temporary_folder_of_any_name_works(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    text = """
    import lambdamr, os, tempfile
    from lambdamr.executors import local_folders
    local_folders._MEMORY = "/nowhere"
    value = lambdamr.map_reduce(lambda p: bytes(200_000), lambda a, b: a + b, range(4))
    print(len(value), len(os.listdir(tempfile.gettempdir())))
    """
    ended = script(text, TMPDIR=str(folder))
    assert ended.stdout == "800000 0\n", ended.stderr


def test_what_is_no_text_in_sys_path_is_ignored(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/somewhere"), None])
    assert lambdamr.map_reduce(len, add, range(8)) == 8


def test_an_interpreter_that_cannot_be_started_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"cannot start.*/nowhere/python"):
        lambdamr.map_reduce(len, add, range(8))


def test_no_temporary_folder_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"cannot start.*gone"):
        lambdamr.map_reduce(len, add, range(8))


def test_too_few_descriptors_are_a_clear_error():
    text = """
    import gc, lambdamr, os, resource
    open_now = len(os.listdir("/proc/self/fd"))
    for more in range(1, 100):
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + more, 1024))
        try:
            print(lambdamr.map_reduce(len, lambda a, b: a + b, range(8)))
            break
        except (lambdamr.LambdamrError, OSError) as error:
            print(type(error).__name__, error)
            del error
            gc.collect()  # asyncio leaves to it what it opened for a loop that cannot be made
            left = [name for name in os.listdir("/dev/shm") if f"-{os.getpid()}-" in name]
            assert not left, left
    """
    ended = script(text)
    assert ended.returncode == 0, ended.stderr
    *errors, value = ended.stdout.splitlines()
    assert errors
    assert all("Too many open files" in error for error in errors)
    assert value == "8"


@pytest.mark.parametrize(("hard", "all_work"), [(80, False), (1024, True)])
def test_more_workers_than_descriptors(hard, all_work):
    text = """
    import lambdamr, os, resource, time
    from lambdamr import events
    hard = int(os.environ["HARD"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    told = []

    def mapper(partition):
        time.sleep(0.2)
        return 1

    with lambdamr.LocalExecutor(workers=100) as executor:
        print(lambdamr.map_reduce(
            mapper, lambda a, b: a + b, range(200), npartitions=200, executor=executor,
            observers=[told.append],
        ))
    of = lambda kind: [event for event in told if isinstance(event, kind)]
    workers = len({event.stats.worker for event in of(events.TaskFinished)})
    print(len(of(events.TaskFailed)), bool(of(events.Throttled)), workers == 100, workers > 20)
    """
    ended = script(text, HARD=str(hard))
    assert ended.stdout == f"200\n0 {not all_work} {all_work} True\n", ended.stderr


def test_workers_give_back_the_memory_of_a_job_when_it_ends(executor):
    import numpy

    def mapper(partition):
        return [numpy.full(5 << 20, 1.0) for _ in range(2)] and len(partition)

    before = {process.pid: process.memory_info().rss for process in crew_processes()}
    assert lambdamr.map_reduce(mapper, add, range(8), executor=executor) == 8
    workers = [process for process in crew_processes() if process.pid not in before]
    assert workers
    deadline = time.monotonic() + 30
    while max(process.memory_info().rss for process in workers) > 70 << 20:  # of 80 MiB, and Python
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers must be a whole number from 1 up, not 0"),
        ({"workers": True}, "workers must be a whole number from 1 up, not True"),
        ({"workers": 2.0}, "workers must be a whole number from 1 up, not 2.0"),
        ({"workers": "2"}, "workers must be a whole number from 1 up, not '2'"),
        ({"max_tasks_per_child": 0}, "max_tasks_per_child must be a whole number from 1 up"),
        ({"memory": 512}, "512 bytes is less than a Python worker needs"),
        ({"memory": 1e9}, "memory must be a whole number"),
        ({"memory": "1G"}, "memory must be a whole number from 1 up, not '1G'"),
        ({"memory": []}, "memory must be ascending, at least one number"),
        ({"memory": [1 << 30, 1 << 29]}, "memory must be ascending"),
        ({"memory": object()}, "memory must be a number of bytes"),
        ({"preload": "numpy"}, r"write \['numpy'\]"),
        ({"preload": [sys]}, "preload must hold names of modules, not <module 'sys'"),
        ({"warm_up": "numpy"}, "warm_up must be callable, not 'numpy'"),
        ({"warm_up": threading.Lock().acquire}, "warm_up cannot be sent to the template"),
    ],
)
def test_an_argument_that_cannot_be_used_is_an_error_at_once(arguments, message):
    with pytest.raises(lambdamr.InputError, match=message):
        lambdamr.LocalExecutor(**arguments)
