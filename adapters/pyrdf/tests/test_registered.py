"""What is registered reaches workers as it was registered, whatever they have met before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import PyRDF
import pytest
import ROOT
from killing import sum_while_a_worker_is_killed
from PyRDF import session
from PyRDF.engine import Engine
from PyRDF.registry import REGISTRY, collect

import lambdamr

pytestmark = pytest.mark.timeout(300)

READ = 'std::ifstream file("%s"); int n = -1; file >> n; return n;'


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A worker where the notebook is, too: it sees the user's own files."""
    folder = tmp_path_factory.mktemp("notebook")
    with contextlib.chdir(folder):
        executor = PyRDF.local(1)  # starts here
    with executor:
        yield executor, folder


@pytest.fixture(params=["local", "lambda"])
def executor(request, registry, monkeypatch):
    """With one worker, which has met the other tests: as if they were other sessions."""
    if request.param == "local":
        executor, folder = request.getfixturevalue("local")
        monkeypatch.chdir(folder)
        return executor
    request.getfixturevalue("cloud")
    return lambdamr.LambdaExecutor()


@pytest.fixture
def one_attempt(executor, monkeypatch):
    """A process that has loaded something else is replaced, and no task is lost by that."""
    options = {"retry": lambdamr.RetryPolicy(attempts=1)}
    monkeypatch.setitem(session._state, "engine", Engine("any", executor, 1, options))


def value(code, **where):
    return PyRDF.RDataFrame(2, **where).Define("z", code).Max("z").GetValue()


def in_a_fresh_kernel(paths, role):
    """Register what another session would: C++ of this process stays as it is."""
    REGISTRY.__init__()
    REGISTRY.add(collect(paths, role).values())


def registered(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    PyRDF.send_generic_files(name)


def test_a_file_that_is_registered_anew(one_attempt):
    for content in "123", "456", "123", "":
        registered("data/n.txt", content)
        assert value(READ % "data/n.txt") == int(content or -1)
        assert value(f"/* {content} */" + READ % "data/n.txt") == int(content or -1)


def test_a_file_that_is_not_registered_anew(one_attempt):
    """It is as it was registered, though the workers of this machine could see it."""
    registered("once.txt", "1")
    code = READ % "once.txt"
    assert value(code) == 1
    Path("once.txt").write_text("22")
    assert value(code) == 1
    assert value("/* new */" + code) == 1
    Path("once.txt").unlink()
    assert value(code) == 1
    registered("once.txt", "22")
    assert value(code) == 22


def test_a_file_that_changes_between_booking_and_run(one_attempt):
    registered("booked.txt", "1")
    df = PyRDF.RDataFrame(2)
    result = df.Define("z", READ % "booked.txt").Max("z")
    Path("booked.txt").write_text("2")
    assert result.GetValue() == 1
    result = df.Define("z", "/* */" + READ % "booked.txt").Max("z")
    PyRDF.send_generic_files("booked.txt")
    assert result.GetValue() == 2


def test_cpp_that_reads_a_file_when_it_is_loaded(one_attempt):
    Path("global.txt").write_text("1")
    PyRDF.send_generic_files("global.txt")
    PyRDF.DistributeCppCode("int of_a_global = [] { " + READ % "global.txt" + " }();")
    assert value("of_a_global") == 1
    registered("global.txt", "2")
    assert value("of_a_global") == 2


def test_a_function_to_begin_with_that_reads_a_file(one_attempt):
    def begin():
        ROOT.gInterpreter.Declare(f"int begun = {Path('begin.txt').read_text()};")

    registered("begin.txt", "1")
    PyRDF.initialize(begin)
    assert value("begun") == 1
    registered("begin.txt", "2")
    assert value("begun") == 2


def test_another_function_to_begin_with(one_attempt):
    def begin(n):
        ROOT.gInterpreter.Declare(f"int begun_anew = {n};")

    for n in 1, 2:
        PyRDF.initialize(begin, n)
        assert value("begun_anew") == n


def test_a_function_to_begin_with_that_crashes(one_attempt):
    """It does so each time: no attempt is made again, and the next graph finds a worker."""
    here = os.getpid()
    PyRDF.initialize(lambda: os.getpid() == here or os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(PyRDF.RangeCrashedError, match=r"range 0: .*SIGSEGV"):
        value("1")
    PyRDF.initialize(int)
    assert value("1") == 1


def test_a_header_of_another_session(one_attempt):
    text = "#ifndef GUARDED\n#define GUARDED\ninline int guarded() {{ return {}; }}\n#endif"
    Path("guarded.h").write_text(text.format(1))
    PyRDF.include_headers("guarded.h")
    assert value("guarded()") == 1
    Path("guarded.h").write_text(text.format(2))
    in_a_fresh_kernel("guarded.h", "header")
    assert value("guarded()") == 2


def test_a_header_that_another_includes(one_attempt):
    Path("inner.h").write_text("#define INNER 1")
    Path("outer.h").write_text(
        '#pragma once\n#include "inner.h"\ninline int outer() { return INNER; }'
    )
    PyRDF.include_headers("outer.h")
    assert value("outer()") == 1
    Path("inner.h").write_text("#define INNER 2")
    in_a_fresh_kernel("outer.h", "header")
    assert value("outer()") == 2


def library(name, n):
    Path("source.cxx").write_text(f'extern "C" int {name}() {{ return {n}; }}')
    command = ["c++", "-shared", "-fPIC", f"-Wl,-soname,lib{name}.so", "source.cxx"]
    subprocess.run([*command, "-o", f"lib{name}.so"], check=True)
    return f"lib{name}.so"


def test_a_library_of_another_session(one_attempt):
    ROOT.gInterpreter.Declare('extern "C" int rebuilt();')
    code = 'extern "C" int rebuilt();'
    PyRDF.DistributeCppCode(code)
    PyRDF.include_shared_libraries(library("rebuilt", 1))
    assert value("rebuilt()") == 1
    os.unlink("librebuilt.so")  # which this process has mapped
    in_a_fresh_kernel(library("rebuilt", 2), "library")
    REGISTRY.add_code(code)
    assert value("rebuilt()") == 2


def test_files_that_somebody_spoils(one_attempt):
    """Code of the user, or whoever cleans the disk."""
    for name in "written.txt", "removed.txt":
        registered(name, "1")
    assert value('std::ofstream("written.txt") << 2; return gSystem->Unlink("removed.txt");') == 0
    assert value(READ % "written.txt") == 1
    assert value(READ % "removed.txt") == 1


def test_a_process_is_kept_while_it_may(one_attempt):
    def begin():
        ROOT.gInterpreter.Declare("int of_a_kept_process = 1;")

    PyRDF.initialize(begin)
    registered("kept.txt", "1")
    first = value("(int)getppid()")
    assert value("(int)getppid() + 0") == first
    PyRDF.DistributeCppCode("int more_for_it() { return getppid(); }")
    registered("more.txt", "1")
    assert value("more_for_it()") == first
    registered("more.txt", "2")
    assert value("more_for_it()") != first


def test_many_files_of_any_name(one_attempt):
    names = [f"many/{n % 7}/{n}.txt" for n in range(300)]
    names += [
        "many/empty",
        "many/with a space",
        "many/μμ → 東京.txt",
        "many/twin one",
        "many/twin two",
    ]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("" if name == "many/empty" else str(len(name)))
    PyRDF.send_generic_files("many")
    listed = ", ".join(f'"{name}"' for name in names)
    code = (
        f"int sum = 0; for (const char *name : {{{listed}}})"
        "{ std::ifstream file(name); int n = 0; if (!file) return -1; file >> n; sum += n; }"
        "return sum;"
    )
    assert value(code) == sum(map(len, names)) - len("many/empty")


def test_graphs_that_run_at_once_take_what_is_registered_then(one_attempt):
    results = []
    for content in "1", "2":
        registered("at_once.txt", content)
        df = PyRDF.RDataFrame(2).Define("z", f"/* {content} */" + READ % "at_once.txt")
        results.append(df.Max("z"))
    PyRDF.RunGraphs(results)
    assert [result.GetValue() for result in results] == [2, 2]


def test_a_worker_that_is_killed_with_code_and_files(executor, tmp_path):
    registered("survives.txt", "5")
    PyRDF.DistributeCppCode("int survives() { " + READ % "survives.txt" + "}")
    df = PyRDF.RDataFrame(100, executor=executor, npartitions=3)
    df = df.Define("i", "(int)rdfentry_ + survives()")
    mark = tmp_path / "killed"
    assert sum_while_a_worker_is_killed(df, mark) == sum(range(100)) + 500


def test_cpp_and_libraries_that_have_changed_are_refused(registry):
    Path("changed.h").write_text("#ifndef CHANGED\n#define CHANGED\nint changed();\n#endif")
    PyRDF.include_headers("changed.h")
    PyRDF.include_headers("changed.h")
    Path("changed.h").write_text("#ifndef CHANGED\n#define CHANGED\nlong changed();\n#endif")
    with pytest.raises(PyRDF.InputError, match=r"changed\.h was registered before.*fresh kernel"):
        PyRDF.include_headers("changed.h")
    with pytest.raises(PyRDF.InputError, match=r"changed\.h was registered before \(as a header\)"):
        PyRDF.send_generic_files("changed.h")
    PyRDF.include_shared_libraries(library("changed", 1))
    os.unlink("libchanged.so")  # which this process has mapped
    with pytest.raises(PyRDF.InputError, match=r"libchanged\.so was registered before.*kernel"):
        PyRDF.include_shared_libraries(library("changed", 2))


def test_names_that_are_the_same_in_the_workers(registry, tmp_path_factory):
    one, two = (tmp_path_factory.mktemp("elsewhere") / "same.txt" for _ in range(2))
    one.write_text("1")
    two.write_text("2")
    with pytest.raises(PyRDF.InputError, match=r"would both be same\.txt in the workers"):
        PyRDF.send_generic_files([str(one), str(two)])
    two.write_text("1")
    PyRDF.send_generic_files([str(one), str(two)])


IN_ONE_PROCESS = """
import os, sys, PyRDF
from pathlib import Path
from PyRDF.registry import REGISTRY

def value(code):
    try:
        return PyRDF.RDataFrame(2, npartitions=1, **where).Define("z", code).Max("z").GetValue()
    except PyRDF.RangeError as error:
        return "restart it" in str(error)

def register(content, name="n.txt"):
    Path(name).write_text(content)
    PyRDF.send_generic_files(name)

if __name__ == "__main__":
    where, here = {}, Path.cwd()
    if sys.argv[1] == "inline":
        where = {"executor": "inline"}
    else:
        PyRDF.use("dask", {"n_workers": 1, "dashboard_address": None})
    read = 'std::ifstream file("n.txt"); int n = -1; file >> n; return n;'
    said = []
    for name in "../elsewhere.txt", "n.txt":
        for content in "1", "2", "1":
            register(content, name)
            said.append(value(read.replace("n.txt", Path(name).name)))
    Path("n.txt").write_text("3")
    said += [value(read), os.getcwd() == str(here)]
    register("4")
    PyRDF.DistributeCppCode("int of_n = [] { " + read + " }();")
    said.append(value("of_n"))
    register("5")
    said.append(value("of_n"))
    REGISTRY.__init__()  # another session, which a worker of Dask may meet
    PyRDF.DistributeCppCode("int of_another() { return 6; }")
    print(*said, value("of_another()"))
"""


@pytest.mark.parametrize("where", ["inline", "dask"])
def test_a_process_that_cannot_be_replaced(where, tmp_path):
    """It reads files as they were registered, and says so where it keeps what it has loaded."""
    (tmp_path / "notebook").mkdir()
    (tmp_path / "script.py").write_text(IN_ONE_PROCESS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "../script.py", where],
        cwd=tmp_path / "notebook",
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1.0 2.0 1.0 1.0 2.0 1.0 1.0 True 4.0 True 6.0"
