"""What is imported and warmed up once, in the template, is there in every worker."""

import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from operator import add, or_
from pathlib import Path

import psutil
import pytest

import lambdamr

pytestmark = pytest.mark.timeout(60)

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    in_memory = folders_in_memory()
    yield
    children = psutil.Process().children(recursive=True)
    assert [process for process in children if process.pid not in before] == []
    assert list(temporary.iterdir()) == []
    assert folders_in_memory() <= in_memory


def folders_in_memory():
    return set(MEMORY.glob(f"lambdamr-*-{os.getpid()}-*"))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module where the driver finds it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "preloaded.py").write_text(textwrap.dedent(text))

    yield write
    sys.modules.pop("preloaded", None)


def test_modules_and_warm_up_run_once_and_are_there_in_all_workers(tmp_path, module):
    module(
        f"""
        import os
        with open({str(tmp_path / "imports")!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        state = "cold"
        """
    )
    notes = tmp_path / "warm ups"

    def warm_up():
        import preloaded

        preloaded.state = "warm"
        with notes.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def mapper(partition):
        time.sleep(0.02)
        loaded = sys.modules["preloaded"], sys.modules["decimal"]
        return {(os.getpid(), os.getppid(), loaded[0].state)}

    preload = ["decimal", "preloaded"]
    with lambdamr.LocalExecutor(workers=4, preload=preload, warm_up=warm_up) as executor:
        for _ in range(2):
            seen = lambdamr.map_reduce(mapper, or_, range(40), npartitions=40, executor=executor)
    assert len(seen) == 4
    assert {state for _, _, state in seen} == {"warm"}
    (template,) = {parent for _, parent, _ in seen}
    assert (tmp_path / "imports").read_text() == notes.read_text() == f"{template}\n"


def test_a_preload_that_fails_is_named_with_its_traceback(module):
    module(
        """
        def deep():
            raise RuntimeError("no licence")
        deep()
        """
    )
    executor = lambdamr.LocalExecutor(workers=2, preload=["decimal", "preloaded"])
    with pytest.raises(lambdamr.BrokenExecutorError, match="no licence") as caught:
        lambdamr.map_reduce(len, add, range(8), executor=executor)
    assert "preload or warm_up failed: RuntimeError: no licence" in str(caught.value)
    assert "preloaded.py" in str(caught.value)
    assert "in deep" in str(caught.value)


def test_a_module_that_is_not_there_is_named():
    executor = lambdamr.LocalExecutor(workers=2, preload=["no_such_module"])
    for _ in range(2):  # it says so every time
        with pytest.raises(lambdamr.BrokenExecutorError, match="No module named 'no_such_module'"):
            lambdamr.map_reduce(len, add, range(8), executor=executor)


@pytest.mark.parametrize(
    ("warm_up", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: sys.exit("enough"), "SystemExit: enough"),
        (lambda: os._exit(3), r"exited with status 3 while it started \(preload, warm_up\)"),
        (lambda: os.kill(os.getpid(), 9), "was killed by SIGKILL while it started"),
        (lambda: os.kill(os.getpid(), 2), "KeyboardInterrupt"),
    ],
)
def test_a_warm_up_that_fails_is_an_error_that_says_how(warm_up, message):
    executor = lambdamr.LocalExecutor(workers=2, warm_up=warm_up)
    with pytest.raises(lambdamr.BrokenExecutorError, match=message):
        lambdamr.map_reduce(len, add, range(8), executor=executor)


def test_a_warm_up_that_fails_after_it_started_processes_and_threads_leaves_none():
    def warm_up():
        import threading

        subprocess.Popen(["sleep", "1000"])
        threading.Thread(target=time.sleep, args=[1000]).start()
        raise ValueError

    executor = lambdamr.LocalExecutor(workers=2, warm_up=warm_up)
    with pytest.raises(lambdamr.BrokenExecutorError, match="ValueError"):
        lambdamr.map_reduce(len, add, range(8), executor=executor)


def test_what_a_warm_up_started_ends_with_the_executor(tmp_path):
    def warm_up():
        (tmp_path / "pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))

    with lambdamr.LocalExecutor(workers=2, warm_up=warm_up) as executor:
        assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8
        process = psutil.Process(int((tmp_path / "pid").read_text()))
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(10)


def test_functions_that_a_preloaded_module_registered_run_at_the_end(tmp_path):
    def warm_up():
        import atexit

        atexit.register((tmp_path / "cleaned").touch)

    with lambdamr.LocalExecutor(workers=2, warm_up=warm_up) as executor:
        assert lambdamr.map_reduce(len, add, range(8), executor=executor) == 8
    assert (tmp_path / "cleaned").exists()


def test_a_preload_that_starts_threads_works():
    """NumPy's OpenBLAS has threads of its own, which a fork does not have."""

    def warm_up():
        import numpy

        numpy.ones((500, 500)) @ numpy.ones((500, 500))

    def mapper(partition):
        import numpy

        return float((numpy.ones((500, 500)) @ numpy.ones((500, 500))).sum())

    with lambdamr.LocalExecutor(workers=2, preload=["numpy"], warm_up=warm_up) as executor:
        value = lambdamr.map_reduce(mapper, add, range(8), npartitions=8, executor=executor)
    assert value == 8 * 500.0**3


def test_a_template_that_is_replaced_warms_up_again(tmp_path):
    def warm_up():
        with (tmp_path / "warm ups").open("a") as file:
            file.write("warm\n")

    def mapper(partition):
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getppid(), 9)
            time.sleep(10)
        return 1

    with lambdamr.LocalExecutor(workers=1, warm_up=warm_up) as executor:
        value = lambdamr.map_reduce(mapper, add, range(8), npartitions=8, executor=executor)
    assert value == 8
    assert (tmp_path / "warm ups").read_text() == "warm\n" * 2
