"""What really happens to processes: signals, exits, no memory, hangs, drivers that are killed."""

import contextlib
import ctypes
import fcntl
import operator
import os
import pty
import random
import resource
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import threading
import time
import uuid
from collections import Counter
from operator import add, or_
from pathlib import Path

import psutil
import pytest
from processes import STRUGGLE, crew_processes, still_alive

import lambdamr
from lambdamr import events
from lambdamr.executors.local_process import TemplateProcess

pytestmark = pytest.mark.timeout(60)

MEMORY = Path("/dev/shm")
ONCE = lambdamr.RetryPolicy(attempts=1, straggler_factor=None)
PROMPT = lambdamr.RetryPolicy(base_delay=0, straggler_factor=None)


@pytest.fixture(autouse=True)
def _nothing_is_left(temporary):
    before = {process.pid for process in crew_processes()}
    yield
    assert still_alive({process.pid for process in crew_processes()} - before) == []
    assert list(temporary.iterdir()) == []
    assert list(MEMORY.glob(f"lambdamr-*-{os.getpid()}-*")) == []


@pytest.fixture
def executor():
    with lambdamr.LocalExecutor(workers=2) as executor:
        yield executor


def noted(path):
    """A function that notes a partition in a file, whichever process calls it."""

    def note(partition):
        fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(fd, f"{partition}\n".encode())
        os.close(fd)

    return note


def counts(path):
    return Counter(int(line) for line in Path(path).read_text().split())


def first_time(path):
    """A function that is true once, whichever processes call it."""

    def first():
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    return first


# -- many workers ------------------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch):
    """The socket to the template takes a few orders at a time."""

    def spawn(self, original=TemplateProcess._spawn):
        original(self)
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    monkeypatch.setattr(TemplateProcess, "_spawn", spawn)


@pytest.mark.parametrize("preload", [(), ("decimal",)])
def test_more_workers_than_orders_fit_in_the_socket(narrow, preload):
    told = []

    def mapper(partition):
        time.sleep(0.2)
        return 1

    with lambdamr.LocalExecutor(workers=40, preload=preload) as executor:
        got = lambdamr.map_reduce(
            mapper, add, range(80), npartitions=80, executor=executor, observers=[told.append]
        )
    assert got == 80
    assert not [event for event in told if isinstance(event, events.TaskFailed)]
    finished = [event for event in told if isinstance(event, events.TaskFinished)]
    assert len({event.stats.worker for event in finished}) == 40


def test_more_busy_workers_than_orders_fit_in_the_socket_are_killed(narrow, tmp_path):
    def mapper(partition):
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 40:
            time.sleep(0.01)
        if partition[0] == 0:
            raise ValueError("no more")
        time.sleep(60)

    with lambdamr.LocalExecutor(workers=40) as executor:
        with pytest.raises(lambdamr.MapperError):
            lambdamr.map_reduce(mapper, add, range(40), npartitions=40, executor=executor)
        (crew,) = executor._idle  # the template did answer
        assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8
        assert executor._idle == [crew]


# -- workers that die --------------------------------------------------------------------------


DEATHS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": os.abort,
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "exited with status 3": lambda: os._exit(3),
    "exited with status 0": lambda: os._exit(0),
}


def quietly(die):
    def quiet():
        import faulthandler

        faulthandler.disable()  # pytest's is inherited by nobody, but -X dev's is
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        die()

    return quiet


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_that_dies_costs_only_its_own_task(executor, tmp_path, how):
    die, note, first = quietly(DEATHS[how]), noted(tmp_path / "notes"), first_time(tmp_path / "it")
    told = []

    def mapper(partition):
        note(partition[0])
        if partition[0] == 5 and first():
            die()
        return [partition[0]]

    value = lambdamr.map_reduce(
        mapper,
        add,
        range(16),
        npartitions=16,
        executor=executor,
        retry=PROMPT,
        observers=[told.append],
    )
    assert value == list(range(16))
    (failed,) = [event for event in told if isinstance(event, events.TaskFailed)]
    assert how in failed.message
    seen = counts(tmp_path / "notes")
    assert seen[5] == 2
    assert {seen[i] for i in range(16) if not failed.lo <= i < failed.hi} == {1}
    assert failed.hi - failed.lo < 16


@pytest.mark.parametrize("how", DEATHS)
def test_the_message_says_how_the_worker_died(executor, how):
    die = quietly(DEATHS[how])

    def mapper(partition):
        if partition[0] == 5:
            die()
        return 1

    with pytest.raises(lambdamr.WorkerLostError, match=how) as caught:
        lambdamr.map_reduce(mapper, add, range(6), npartitions=6, executor=executor, retry=ONCE)
    assert (caught.value.lo, caught.value.hi, caught.value.attempts) == (5, 6, 1)


def test_a_worker_that_died_is_replaced(executor, tmp_path):
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if first():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)  # so that one worker does not do it all
        return {os.getpid()}

    for _ in range(2):
        pids = lambdamr.map_reduce(
            mapper, or_, range(100), npartitions=100, executor=executor, retry=PROMPT
        )
        assert len(pids) == 2


def test_a_reducer_that_kills_its_worker_is_tried_again(executor, tmp_path):
    first = first_time(tmp_path / "it")

    def reducer(a, b):
        if first():
            os.kill(os.getpid(), signal.SIGKILL)
        return a + b

    value = lambdamr.map_reduce(
        len, reducer, range(40), npartitions=40, executor=executor, retry=PROMPT
    )
    assert value == 40


def test_workers_that_are_killed_while_they_are_idle_are_replaced(executor):
    def mapper(partition):
        time.sleep(0.02)
        return {os.getpid()}

    def pids():
        return lambdamr.map_reduce(
            mapper, or_, range(60), npartitions=60, executor=executor, retry=PROMPT
        )

    before = pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert still_alive(before) == []
    after = pids()
    assert len(after) == 2
    assert not before & after


def test_a_worker_that_closes_its_connection_is_killed_and_replaced(executor, tmp_path):
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if first():
            os.closerange(3, 100)
        return 1

    value = lambdamr.map_reduce(
        mapper, add, range(8), npartitions=8, executor=executor, retry=PROMPT
    )
    assert value == 8


@pytest.mark.parametrize("large", [False, True])
def test_a_child_that_a_mapper_forks_is_not_taken_for_its_worker(large):
    """Its answer would be the second one: every later task would get that of its predecessor."""

    def mapper(partition):
        forked = partition[0] == 3 and os.fork() == 0
        value = 1000 if forked else partition[0]
        return {value: bytes(100_000 if large else 1)}

    with lambdamr.LocalExecutor(workers=1) as executor:
        for _ in range(3):
            value = lambdamr.map_reduce(mapper, or_, range(20), npartitions=20, executor=executor)
            assert sorted(value) == list(range(20))


def test_a_template_that_cannot_fork_is_an_error_that_says_so():
    def exhaust():
        def fork():
            raise BlockingIOError(11, "Resource temporarily unavailable")

        os.fork = fork

    with (
        lambdamr.LocalExecutor(workers=2, warm_up=exhaust) as executor,
        pytest.raises(lambdamr.WorkerLostError, match="could not be forked: Resource temporarily"),
    ):
        lambdamr.map_reduce(len, add, range(4), npartitions=4, executor=executor, retry=PROMPT)


# -- memory ------------------------------------------------------------------------------------


def test_a_worker_that_uses_too_much_memory_is_killed_and_costs_only_its_task(tmp_path):
    note = noted(tmp_path / "notes")
    told = []

    def mapper(partition):
        note(partition[0])
        if partition[0] == 9:
            hold = b"x" * (300 << 20)
            signal.pause()
            del hold
        return [partition[0]]

    with lambdamr.LocalExecutor(workers=2, memory=200 << 20) as executor:
        outcome = lambdamr.map_reduce(
            mapper,
            add,
            range(16),
            npartitions=16,
            executor=executor,
            retry=PROMPT,
            errors="return",
            observers=[told.append],
        )
    assert outcome.value == [i for i in range(16) if i != 9]
    (error,) = outcome.failures
    assert isinstance(error, lambdamr.OutOfMemoryError)
    assert (error.lo, error.hi, error.attempts) == (9, 10, 3)
    assert "may use 200 MiB" in str(error)
    failed = [event for event in told if isinstance(event, events.TaskFailed)]
    assert {event.failure for event in failed} == {"memory"}
    seen = counts(tmp_path / "notes")
    assert {seen[i] for i in range(16) if not failed[0].lo <= i < failed[0].hi} == {1}


def test_the_memory_of_a_child_that_a_mapper_forks_counts():
    def hungry_child(part):
        child = os.fork()
        if child == 0:
            used = bytearray(300 << 20)
            used[:: 1 << 12] = bytes(len(used) >> 12)  # every page
            time.sleep(30)
            os._exit(0)
        os.waitpid(child, 0)

    with (
        lambdamr.LocalExecutor(workers=1, memory=200 << 20) as executor,
        pytest.raises(lambdamr.OutOfMemoryError),
    ):
        lambdamr.map_reduce(hungry_child, operator.add, [1], executor=executor)


def test_the_next_rung_of_the_memory_ladder_is_tried_for_that_task_alone(tmp_path):
    note = noted(tmp_path / "notes")
    told = []

    def mapper(partition):
        note(partition[0])
        if partition[0] == 9:
            hold = b"x" * (200 << 20)
            time.sleep(0.3)  # the memory of processes is looked at now and then
            return [len(hold)]
        return [partition[0]]

    with lambdamr.LocalExecutor(workers=2, memory=[64 << 20, 512 << 20]) as executor:
        value = lambdamr.map_reduce(
            mapper,
            add,
            range(16),
            npartitions=16,
            executor=executor,
            retry=PROMPT,
            observers=[told.append],
        )
    assert value == [*range(9), 200 << 20, *range(10, 16)]
    failed = [event for event in told if isinstance(event, events.TaskFailed)]
    assert {event.failure for event in failed} == {"memory"}
    assert "may use 64 MiB" in failed[0].message
    seen = counts(tmp_path / "notes")
    assert {seen[i] for i in range(16) if not failed[0].lo <= i < failed[0].hi} == {1}


def test_a_memory_error_in_a_mapper_is_tried_on_the_next_rung(tmp_path):
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if partition[0] == 3 and first():
            raise MemoryError
        return 1

    with lambdamr.LocalExecutor(workers=2, memory=[64 << 20, 512 << 20]) as executor:
        value = lambdamr.map_reduce(
            mapper, add, range(8), npartitions=8, executor=executor, retry=PROMPT
        )
    assert value == 8


# -- workers that hang, and what they started ----------------------------------------------------


def hangs():
    def spin():
        while True:
            pass

    def sleep_in_c():
        """All signals are blocked, and the interpreter's lock is held."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            ctypes.PyDLL(None).sleep(1000)

    return {"sleep": lambda: time.sleep(1e6), "busy loop": spin, "C, signals blocked": sleep_in_c}


@pytest.mark.parametrize("how", hangs())
def test_a_worker_that_hangs_is_killed_after_the_timeout(executor, how):
    hang = hangs()[how]

    def mapper(partition):
        if partition[0] == 5:
            hang()
        return [partition[0]]

    outcome = lambdamr.map_reduce(
        mapper,
        add,
        range(8),
        npartitions=8,
        executor=executor,
        timeout=0.5,
        retry=ONCE,
        errors="return",
    )
    assert outcome.value == [0, 1, 2, 3, 4, 6, 7]
    (error,) = outcome.failures
    assert isinstance(error, lambdamr.PartitionTimeoutError)
    value = lambdamr.map_reduce(len, add, range(8), npartitions=8, executor=executor)
    assert value == 8  # the executor is as good as new


def starters():
    """Ways to start a child that inherits more and more."""

    def plainly():
        return subprocess.Popen(["sleep", "1000"]).pid

    def with_all_descriptors():
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, True)
        return subprocess.Popen(["sleep", "1000"], close_fds=False).pid

    def by_fork():
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
        return pid

    def in_the_shell():
        return int(os.popen("sleep 1000 >&2 & echo $!").read())

    return {f.__name__: f for f in (plainly, with_all_descriptors, by_fork, in_the_shell)}


@pytest.mark.parametrize("end", ["hang", "die", "return", "raise"])
@pytest.mark.parametrize("how", starters())
def test_what_a_mapper_started_ends_at_the_latest_with_its_worker(executor, tmp_path, how, end):
    start = starters()[how]

    def mapper(partition):
        (tmp_path / "pid").write_text(str(start()))
        if end == "hang":
            time.sleep(1e6)
        elif end == "die":
            os._exit(3)
        elif end == "raise":
            raise ValueError
        return 1

    with contextlib.suppress(lambdamr.PartitionError):
        lambdamr.map_reduce(
            mapper, add, range(1), npartitions=1, executor=executor, timeout=0.5, retry=ONCE
        )
    if end in ("return", "raise"):  # its worker waits for the next job, and it may as well
        executor.close()
    assert_gone(tmp_path / "pid")


def assert_gone(path):
    assert still_alive([int(path.read_text())]) == []


# -- the template ------------------------------------------------------------------------------


def kill_template():
    (template,) = (p for p in crew_processes() if p.ppid() == os.getpid())
    template.kill()
    assert still_alive([template.pid]) == []  # or it serves one more job, on a busy machine
    return template


def test_a_template_that_is_killed_between_jobs_is_replaced(executor):
    for _ in range(3):
        value = lambdamr.map_reduce(len, add, range(8), npartitions=8, executor=executor)
        assert value == 8
        kill_template()


def test_a_template_that_is_killed_in_the_middle_of_a_job_is_replaced(executor, tmp_path):
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if partition[0] == 5 and first():
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(10)
        return [partition[0], bytes(100_000)]

    value = lambdamr.map_reduce(
        mapper, add, range(40), npartitions=40, executor=executor, retry=PROMPT
    )
    assert value[::2] == list(range(40))
    assert len(crew_processes()) == 3


def test_a_template_outlives_the_thread_that_started_it():
    with lambdamr.LocalExecutor(workers=1, warm_up=lambda: time.sleep(0.6)) as executor:
        thread = threading.Thread(target=lambda: executor.prepare() or time.sleep(0.3))
        thread.start()
        thread.join()  # in the middle of the warm-up
        (template,) = (p for p in crew_processes() if p.ppid() == os.getpid())
        parent = lambda partition: os.getppid()  # noqa: E731
        assert lambdamr.map_reduce(parent, max, range(1), executor=executor) == template.pid


def test_a_template_that_is_killed_while_it_starts_is_replaced():
    with lambdamr.LocalExecutor(workers=2, warm_up=lambda: time.sleep(0.3)) as executor:
        executor.prepare()
        (template,) = (p for p in crew_processes() if p.ppid() == os.getpid())
        template.kill()
        assert lambdamr.map_reduce(len, add, range(8), npartitions=8, executor=executor) == 8


def test_a_template_that_dies_whenever_it_starts_is_an_error_that_says_so():
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    with (
        lambdamr.LocalExecutor(workers=2, warm_up=die) as executor,
        pytest.raises(lambdamr.BrokenExecutorError, match=r"killed by SIGKILL while it started"),
    ):
        lambdamr.map_reduce(len, add, range(8), executor=executor)


@pytest.mark.parametrize("how", ["popen", "fork"])
def test_what_a_template_started_ends_with_it_while_it_starts(tmp_path, how):
    """One that was forked has the template's end of the socket to the driver."""

    def warm_up():
        pid = subprocess.Popen(["sleep", "1000"]).pid if how == "popen" else os.fork()
        if pid == 0:
            time.sleep(1000)
        (tmp_path / f"of {os.getpid()}").write_text(str(pid))
        os.kill(os.getpid(), signal.SIGSEGV)

    with (
        lambdamr.LocalExecutor(workers=1, warm_up=warm_up) as executor,
        pytest.raises(lambdamr.BrokenExecutorError, match="SIGSEGV while it started"),
    ):
        lambdamr.map_reduce(len, add, range(8), executor=executor)
    paths = list(tmp_path.glob("of *"))
    assert len(paths) == 2  # it was started again, once
    for path in paths:
        assert_gone(path)


def test_a_child_that_a_warm_up_forks_is_no_template(tmp_path):
    def warm_up():
        if os.fork() == 0:
            sys.exit(3)

    with lambdamr.LocalExecutor(workers=1, warm_up=warm_up) as executor:
        assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8


def test_a_warm_up_that_blocks_signals_hides_no_death():
    def warm_up():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    die = lambda partition: os._exit(1)  # noqa: E731
    with (
        lambdamr.LocalExecutor(workers=1, warm_up=warm_up) as executor,
        pytest.raises(lambdamr.WorkerLostError),
    ):
        lambdamr.map_reduce(die, add, range(1), executor=executor, retry=ONCE)


def test_a_driver_that_ignores_the_deaths_of_children_can_warm_up(start):
    script = start(
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        executor = lambdamr.LocalExecutor(workers=1, warm_up=lambda: None)
        print(lambdamr.map_reduce(one, lambda a, b: a + b, range(8), executor=executor))
        """
    )
    script.wait_for("8")
    script.end()


def test_a_warm_up_may_wait_for_all_its_children():
    def warm_up():
        subprocess.Popen(["true"])
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()

    with lambdamr.LocalExecutor(workers=1, warm_up=warm_up) as executor:
        assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8


def test_the_start_of_another_template_does_not_count_as_time_of_a_partition(tmp_path):
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if partition[0] == 5 and first():
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(10)
        return 1

    with lambdamr.LocalExecutor(workers=2, warm_up=lambda: time.sleep(1)) as executor:
        twice = lambdamr.RetryPolicy(attempts=2, base_delay=0, straggler_factor=None)
        options = {"npartitions": 8, "executor": executor, "timeout": 0.5, "retry": twice}
        assert lambdamr.map_reduce(mapper, add, range(8), **options) == 8


def test_what_workers_started_ends_when_their_template_is_killed(executor, tmp_path):
    def mapper(partition):
        (tmp_path / "pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)

    with pytest.raises(lambdamr.WorkerLostError, match="template process was killed by SIGKILL"):
        lambdamr.map_reduce(mapper, add, range(1), npartitions=1, executor=executor, retry=ONCE)
    assert_gone(tmp_path / "pid")


def test_a_template_that_is_killed_again_and_again_ends_the_job(executor):
    def mapper(partition):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)

    patient = lambdamr.RetryPolicy(attempts=100, base_delay=0)
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"cannot go on.*killed by SIGKILL"):
        lambdamr.map_reduce(mapper, add, range(1), npartitions=1, executor=executor, retry=patient)


def test_a_template_that_is_stopped_does_not_keep_a_job_from_ending(executor):
    assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8
    (template,) = (p for p in crew_processes() if p.ppid() == os.getpid())

    stop = lambda partition: (os.kill(os.getppid(), signal.SIGSTOP), time.sleep(1e6))  # noqa: E731
    with pytest.raises(lambdamr.PartitionTimeoutError):
        lambdamr.map_reduce(
            stop, add, range(1), npartitions=1, executor=executor, timeout=0.2, retry=ONCE
        )
    assert still_alive([template.pid]) == []
    assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8


def test_a_driver_whose_signals_are_blocked_hears_of_deaths(executor, tmp_path):
    """Threads of C++ frameworks block all signals, and children inherit that."""
    first = first_time(tmp_path / "it")

    def mapper(partition):
        if first():
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    values = []

    def job():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        values.append(
            lambdamr.map_reduce(
                mapper, add, range(8), npartitions=8, executor=executor, retry=PROMPT
            )
        )

    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    thread.join(STRUGGLE)
    assert values == [8]


# -- drivers, as scripts of their own ------------------------------------------------------------


class Script:
    """A driver in a process group of its own, whose descendants all carry its mark."""

    def __init__(self, tmp_path, text, *, terminal=False, **environment):
        self.temporary = tmp_path / "of the script"
        self.temporary.mkdir(exist_ok=True)
        self.mark = uuid.uuid4().hex
        path = tmp_path / f"{self.mark}.py"
        path.write_text(PREAMBLE + textwrap.dedent(text))
        self.terminal, theirs = pty.openpty() if terminal else (None, subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_take_terminal if terminal else None,
            env=os.environ
            | {"TMPDIR": str(self.temporary), "LAMBDAMR_TEST_MARK": self.mark}
            | environment,
        )
        if terminal:
            os.close(theirs)

    def wait_for(self, line):
        for got in self.process.stdout:
            if line in got:  # what two workers print may meet in one line
                return
        pytest.fail(f"no {line!r} came: {self.process.stderr.read()}")

    def end(self):
        """Wait for its end, and that of all its descendants; its exit status, and stderr."""
        _, err = self.process.communicate(timeout=30)
        assert still_alive(p.pid for p in self.processes()) == []
        return self.process.returncode, err

    def clear(self):
        """After a test that failed."""
        for process in self.processes():
            process.kill()
        with self.process:
            self.process.kill()
        if self.terminal is not None:
            os.close(self.terminal)

    def processes(self):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LAMBDAMR_TEST_MARK") == self.mark:
                    found.append(process)
        return found

    def template(self):
        (pid,) = [p.pid for p in self.processes() if p.ppid() == self.process.pid]
        return pid

    def leftovers(self):
        pid = self.process.pid
        return [*self.temporary.iterdir(), *MEMORY.glob(f"lambdamr-*-{pid}-*")]


@pytest.fixture
def start(tmp_path):
    """Starts scripts."""
    with contextlib.ExitStack() as stack:

        def start(text, **options):
            script = Script(tmp_path, text, **options)
            stack.callback(script.clear)
            return script

        yield start


def _take_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


PREAMBLE = """
import os, signal, subprocess, sys, threading, time
from operator import add, or_
import lambdamr

def hang(partition):
    print("mapping", flush=True)
    time.sleep(1000)

def large(partition):
    return {partition[0]: bytes(200_000)}

def one(partition):
    return 1
import signal
for number in (signal.SIGHUP, signal.SIGQUIT):  # nohup and "&" of a shell leave them ignored
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("lambdamr.map_reduce(large, or_, range(40), npartitions=40)", 0),
        ("lambdamr.map_reduce(lambda p: 1 / 0, or_, range(40), npartitions=40)", 1),
        (
            """
            executor = lambdamr.LocalExecutor(workers=2)  # never closed
            lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
            """,
            0,
        ),
        (
            """
            executor = lambdamr.LocalExecutor(workers=2)
            lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
            os._exit(7)
            """,
            7,
        ),
        (
            """
            def leave(event):
                if isinstance(event, lambdamr.events.TaskFinished):
                    sys.exit(5)
            import lambdamr.events
            lambdamr.map_reduce(large, or_, range(40), npartitions=40, observers=[leave])
            """,
            5,
        ),
        (
            """
            def job():
                lambdamr.map_reduce(hang, or_, range(4), npartitions=4)
            def leave():
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGINT)
            threading.Thread(target=job, daemon=True).start()
            threading.Thread(target=leave).start()
            try:
                time.sleep(1000)
            except KeyboardInterrupt:
                sys.exit(6)  # while the daemon thread maps
            """,
            6,
        ),
        (
            """
            def job():
                raise RuntimeError("of a thread")
            threading.Thread(target=job).start()
            lambdamr.map_reduce(large, or_, range(40), npartitions=40)
            """,
            0,
        ),
        (
            """
            def job():
                lambdamr.map_reduce(lambda p: 1 / 0, or_, range(40), npartitions=40)
            threading.Thread(target=job).start()
            """,
            0,
        ),
        (
            """
            executor = lambdamr.LocalExecutor(workers=2)
            def job():
                lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
            threading.Thread(target=job).start()
            raise SystemExit(4)  # the thread goes on, to its end
            """,
            4,
        ),
    ],
)
def test_nothing_is_left_however_a_driver_ends(start, text, status):
    script = start(text)
    returned, err = script.end()
    assert returned == status, err
    assert script.leftovers() == []
    for noise in ("Exception ignored", "ResourceWarning", "was destroyed", "never retrieved"):
        assert noise not in err


INTERRUPTED = """
def note(event):
    if isinstance(event, lambdamr.events.JobFinished):
        print(type(event.error).__name__, flush=True)
import lambdamr.events
lambdamr.map_reduce(hang, or_, range(8), npartitions=8, observers=[note])
"""


@pytest.mark.parametrize("key", [b"\x03", b"\x1c"])
def test_a_key_that_ends_a_script_ends_its_workers(start, key):
    """Ctrl-C and Ctrl-\\, which leaves the driver no time."""
    script = start(INTERRUPTED, terminal=True)
    script.wait_for("mapping")
    os.write(script.terminal, key)
    returned, err = script.end()
    assert returned == (-signal.SIGINT if key == b"\x03" else -signal.SIGQUIT), err
    assert script.leftovers() == []
    if key == b"\x03":
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert "Exception ignored" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_that_ends_a_driver_ends_its_workers(start, number):
    script = start(INTERRUPTED)
    script.wait_for("mapping")
    script.process.send_signal(number)
    returned, err = script.end()
    assert returned == -number, err
    assert script.leftovers() == []


@pytest.mark.parametrize("when", ["in an observer", "while the workers are buried", "in the loop"])
def test_a_second_interrupt_during_the_clean_up_of_the_first_leaves_nothing(start, when):
    again = {
        "in an observer": """
            def note(event):
                if isinstance(event, lambdamr.events.JobFinished):
                    os.kill(os.getpid(), signal.SIGINT)
            """,
        "while the workers are buried": """
            async def bury(self, original=local_crew.Crew.bury):
                os.kill(os.getpid(), signal.SIGINT)
                await original(self)
            local_crew.Crew.bury = bury
            """,
        "in the loop": """
            async def bury(self, original=local_crew.Crew.bury):
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
                await original(self)
            local_crew.Crew.bury = bury
            """,
    }[when]
    text = """
        import asyncio, lambdamr.events
        from lambdamr.executors import local_crew
        note = print
        executor = lambdamr.LocalExecutor(workers=2)
        fds = len(os.listdir("/proc/self/fd"))
    """
    job = """
        try:
            lambdamr.map_reduce(hang, or_, range(8), executor=executor, observers=[note])
        except KeyboardInterrupt:
            executor.close()
            print("descriptors more:", len(os.listdir("/proc/self/fd")) - fds, flush=True)
            raise
    """
    parts = (textwrap.dedent(part) for part in (text, again, job))
    script = start("".join(parts))
    script.wait_for("mapping")
    script.process.send_signal(signal.SIGINT)
    script.wait_for("descriptors more: 0")
    returned, err = script.end()
    assert returned == -signal.SIGINT, err
    assert script.leftovers() == []


def test_an_interrupt_during_a_long_warm_up_ends_at_once(start):
    script = start(
        """
        def warm_up():
            print("warming", flush=True)
            subprocess.Popen(["sleep", "1000"])
            time.sleep(1000)
        executor = lambdamr.LocalExecutor(workers=2, warm_up=warm_up)
        try:
            lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
        finally:
            executor.close()
        """,
    )
    script.wait_for("warming")
    script.process.send_signal(signal.SIGINT)
    returned, err = script.end()
    assert returned == -signal.SIGINT, err
    assert script.leftovers() == []


def test_a_driver_that_is_killed_during_a_warm_up_that_hangs_leaves_nothing(start):
    script = start(
        """
        import ctypes
        def warm_up():
            subprocess.Popen(["sleep", "1000"])
            print("warming", flush=True)
            while True:
                ctypes.PyDLL(None).sleep(1000)  # and keeps the interpreter's lock
        executor = lambdamr.LocalExecutor(workers=2, warm_up=warm_up)
        lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
        """,
    )
    script.wait_for("warming")
    script.process.kill()
    script.end()
    assert script.leftovers() == []


SHORT = "lambdamr.map_reduce(large, or_, range(4), npartitions=4)"

LONG = """
executor = lambdamr.LocalExecutor(workers=2)
def started(partition):
    subprocess.Popen(["sleep", "1000"])
    return large(partition)
print("starting", flush=True)
while True:
    lambdamr.map_reduce(started, or_, range(40), npartitions=40, executor=executor)
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_driver_that_is_killed_at_a_random_moment_leaves_nothing(start, seed):
    script = start(LONG)
    script.wait_for("starting")
    time.sleep(random.Random(seed).uniform(0, 0.6))  # the moment
    script.process.kill()
    script.end()
    if script.leftovers():  # it was killed before its template knew of the folders
        start(SHORT).end()
    assert script.leftovers() == []


@pytest.mark.parametrize("seed", range(4))
def test_the_next_start_clears_what_driver_and_template_left_that_were_killed(start, seed):
    script = start(
        """
        executor = lambdamr.LocalExecutor(workers=2)
        def daemon(partition):
            os.system("setsid sleep 1000 &")  # an inheritor of all that can be inherited
        lambdamr.map_reduce(daemon, max, range(1), executor=executor, initial=0)
        while True:
            lambdamr.map_reduce(large, or_, range(40), npartitions=40, executor=executor)
            print("done", flush=True)
        """.replace("max", "lambda a, b: 0"),
    )
    script.wait_for("done")
    time.sleep(random.Random(seed).uniform(0, 0.1))  # the moment
    pids = [script.process.pid, script.template()]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that neither sees the other die
        for pid in pids:
            os.kill(pid, number)
    script.process.wait(STRUGGLE)
    daemons = [p for p in script.processes() if p.name() == "sleep"]
    workers = [p for p in script.processes() if p not in daemons]
    assert still_alive(p.pid for p in workers) == []
    assert script.leftovers()  # in shared memory another test may have cleared it already
    start(SHORT).end()
    assert script.leftovers() == []
    for daemon in daemons:
        daemon.kill()
    script.end()


def test_a_fork_of_a_killed_driver_does_not_keep_the_workers(start):
    script = start(
        """
        executor = lambdamr.LocalExecutor(workers=2)
        lambdamr.map_reduce(large, or_, range(4), npartitions=4, executor=executor)
        if os.fork() == 0:
            time.sleep(1000)
        print("forked", flush=True)
        lambdamr.map_reduce(hang, or_, range(4), npartitions=4, executor=executor)
        """,
    )
    script.wait_for("mapping")
    (fork,) = (
        p for p in script.processes() if p.ppid() == script.process.pid and p.pid != crew_of(p)
    )
    script.process.kill()
    script.process.wait(STRUGGLE)
    assert still_alive({p.pid for p in script.processes()} - {fork.pid}) == []
    assert script.leftovers() == []
    assert fork.is_running()
    fork.kill()
    script.end()


def crew_of(process):
    return process.pid if any("local_template" in word for word in process.cmdline()) else None


def test_a_fork_of_the_driver_can_use_the_executor_and_leaves_the_parents_workers_alone(start):
    script = start(
        """
        def pids(partition):
            time.sleep(0.02)
            return {os.getpid()}
        def job():
            return lambdamr.map_reduce(pids, or_, range(60), npartitions=60, executor=executor)
        executor = lambdamr.LocalExecutor(workers=2)
        before = job()
        child = os.fork()
        if child == 0:
            assert not job() & before
            assert len(job()) == 2
            sys.exit(0)  # with all that is done at exit
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert job() == before
        """,
        PYTHONWARNINGS="error",
    )
    returned, err = script.end()
    assert returned == 0, err
    assert err == ""
    assert script.leftovers() == []
