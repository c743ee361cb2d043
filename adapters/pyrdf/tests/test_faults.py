"""What fails, fails clearly: bad inputs, exceptions, crashes, and workers that are killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import PyRDF
import PyRDF.dataframe
import PyRDF.engine
import pytest
import ROOT
import ways
from killing import sum_while_a_worker_is_killed
from PyRDF import worker
from PyRDF.compiler import CompilationError
from PyRDF.source import Range

import lambdamr


def test_a_missing_file(data, warm):
    with pytest.raises(PyRDF.InputError, match=r"no file .*/nothing\.root"):
        PyRDF.RDataFrame("t", [str(data / "a.root"), str(data / "nothing.root")], executor=warm)


def test_a_glob_that_matches_nothing(data, warm):
    with pytest.raises(PyRDF.InputError, match="no file matches"):
        PyRDF.RDataFrame("t", str(data / "z*.root"), executor=warm)


def test_a_tree_that_is_not_there(data, warm):
    with pytest.raises(PyRDF.InputError, match="nope"):
        PyRDF.RDataFrame("nope", str(data / "a.root"), executor=warm)


def test_a_tree_that_is_not_in_a_later_file(data, warm):
    df = PyRDF.RDataFrame(
        "t", [str(data / "a.root"), str(data / "other.root")], executor=warm, npartitions=2
    )
    with pytest.raises(PyRDF.RangeError, match=r"other\.root"):
        df.Count().GetValue()


def test_a_file_that_is_none_of_root(tmp_path, warm):
    (tmp_path / "text.root").write_text("no ROOT file")
    with pytest.raises(PyRDF.InputError, match=r"text\.root"):
        PyRDF.RDataFrame("t", str(tmp_path / "text.root"), executor=warm)


@pytest.mark.parametrize(
    "book",
    [
        lambda df: df.Histo1D(("h", "", 10, 0, 1), "nope"),
        lambda df: df.Define("z", "nope + 1"),
        lambda df: df.Filter("nope > 1"),
        lambda df: df.Sum("nope"),
        lambda df: df.AsNumpy(["nope"]),
        lambda df: df.Take("nope"),
        lambda df: df.Snapshot("t", "out.root", ["i", "nope"]),
        lambda df: df.Vary("nope", "ROOT::RVecD{1, 2}", 2),
    ],
)
def test_a_missing_column(book, data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm)
    with pytest.raises(PyRDF.InputError, match="nope"):
        book(df)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("t", "a.root", "b.root"), r"several files are given as a list.*\['a.root', 'b.root'\]"),
        (("a.root", "t"), r"the name of the tree comes first.*RDataFrame\('t', 'a.root'\)"),
        (("a.root",), "names no file"),
        (("t", {"a.root"}), "a path or a list of them"),
        ((1e3,), "must be an int"),
        ((-1,), "nothing to distribute"),
        ((), "needs a number of entries"),
    ],
)
def test_arguments_that_are_mixed_up(arguments, said, data, warm, monkeypatch):
    monkeypatch.chdir(data)
    with pytest.raises(PyRDF.InputError, match=said):
        PyRDF.RDataFrame(*arguments, executor=warm)


def test_a_file_that_the_workers_do_not_have(data, warm, tmp_path):
    shutil.copy(data / "a.root", tmp_path / "mine.root")
    df = PyRDF.RDataFrame("t", "mine.root", executor=warm)
    (tmp_path / "mine.root").unlink()
    with pytest.raises(PyRDF.RangeError, match=r"no file .*mine\.root where this worker .*s3://"):
        df.Count().GetValue()


def test_an_empty_dataset(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "empty.root"), executor=warm)
    with pytest.raises(PyRDF.InputError, match="no entries"):
        df.Count().GetValue()
    with pytest.raises(PyRDF.InputError, match="no entries"):
        PyRDF.RDataFrame(0, executor=warm)


def test_empty_files_among_others_and_more_ranges_than_clusters(data, warm):
    files = [str(data / f"{name}.root") for name in ("empty", "a", "empty", "c", "empty")]
    df = PyRDF.RDataFrame("t", files, executor=warm, npartitions=40)
    assert df.Count().GetValue() == 200


def test_a_friend_with_an_index(data, warm):
    chain, friend = ROOT.TChain("t"), ROOT.TChain("f")
    chain.Add(str(data / "a.root"))
    friend.Add(str(data / "friend_one.root"))
    friend.BuildIndex("i")
    chain.AddFriend(friend)
    with pytest.raises(PyRDF.InputError, match="TTreeIndex"):
        PyRDF.RDataFrame(chain, executor=warm)


def test_an_entry_list_and_a_tree_in_memory(data, warm):
    file = ROOT.TFile.Open(str(data / "a.root"))
    tree = file.Get("t")
    entries = ROOT.TEntryList("l", "")
    entries.Enter(3, tree)
    tree.SetEntryList(entries)
    with pytest.raises(PyRDF.InputError, match="entry list"):
        PyRDF.RDataFrame(tree, executor=warm)
    ROOT.gROOT.cd()
    with pytest.raises(PyRDF.InputError, match="memory"):
        PyRDF.RDataFrame(ROOT.TTree("m", "m"), executor=warm)


def test_what_cannot_be_distributed_says_what_can(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm)
    with pytest.raises(AttributeError, match=r"'Foreach'.*Use Define.*It can do: Alias"):
        df.Foreach(print)
    with pytest.raises(AttributeError, match=r"'Range'.*rdfentry_ <"):
        df.Range(10)
    with pytest.raises(AttributeError, match="Did you mean 'Histo1D'"):
        df.histo1d("x")
    with pytest.raises(PyRDF.InputError, match=r"'c', whose type is char.*exclude"):
        df.Define("c", "(char)i").AsNumpy(["i", "c"])
    with pytest.raises(PyRDF.InputError, match="limits"):
        df.Histo2D(("h", "", 10, 0.0, 0.0, 10, 0, 1), "x", "y")


def test_settings_that_are_wrong():
    with pytest.raises(PyRDF.InputError, match="'local', 'AWS', 'dask', 'spark'"):
        PyRDF.use("condor")
    for name, key in (
        ("local", "workers"),
        ("AWS", "concurrency"),
        ("dask", "n_workers"),
        ("spark", r"spark\.\*"),
    ):
        with pytest.raises(PyRDF.InputError, match=rf"'cores'; known are .*{key}"):
            PyRDF.use(name, {"cores": 3})
    with pytest.raises(PyRDF.InputError, match="npartitions"):
        PyRDF.use("local", {"npartitions": "many"})
    with pytest.raises(PyRDF.InputError, match=r"X509_USER_PROXY is the path of a file.*'file:"):
        PyRDF.use("AWS", {"secrets": {"X509_USER_PROXY": "secretsmanager:proxy"}})
    with pytest.raises(PyRDF.InputError, match="executor"):
        PyRDF.RDataFrame(10, executor=object())


def test_an_exception_of_cpp_comes_with_its_text_and_range(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=4)
    bad = df.Define("z", 'if (i == 60) throw std::runtime_error("sixty is bad"); return i;')
    with pytest.raises(PyRDF.RangeError, match=r"range 2 \(entries 50 to 79 of .*a\.root\).*sixty"):
        bad.Sum("z").GetValue()


def test_code_that_the_workers_do_not_know(data, warm):
    ROOT.gInterpreter.Declare("int only_here(int i) { return i; }")
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm)
    said = r"undeclared identifier 'only_here'\n.*DistributeCppCode"
    with pytest.raises(PyRDF.RangeError, match=said):
        df.Define("z", "only_here(i)").Sum("z").GetValue()


def test_what_the_compiler_says_is_in_the_error(data, warm, tmp_path):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm)
    with pytest.raises(PyRDF.InputError, match=r"Filter.*expected expression"):
        df.Filter("x > ")
    with pytest.raises(PyRDF.InputError, match="DistributeCppCode does not compile: expected"):
        PyRDF.DistributeCppCode("int nothing( {")
    (tmp_path / "wrong.h").write_text("int nothing( {")
    with pytest.raises(PyRDF.InputError, match=r"wrong\.h does not compile: expected"):
        PyRDF.include_headers("wrong.h")


def test_after_a_graph_that_does_not_compile_others_do(data, tmp_path):
    """ROOT 6.40 compiles no new ones in that process: a worker is replaced, the user's is not.

    That of an RNTuple is compiled in each child, though the worker knows it.
    """
    (tmp_path / "script.py").write_text(
        "import sys, lambdamr, PyRDF, ways\n"
        "if __name__ == '__main__':\n"
        "    by_python = lambdamr.LocalExecutor(1, warm_up=ways.as_ever)\n"
        "    for executor in 'inline', PyRDF.local(1), by_python:\n"
        "        for tree, column in ('n', 'x'), ('t', 'text'), ('n', 'x'), ('t', 'i'):\n"
        "            path = sys.argv[1] if tree == 't' else sys.argv[2]\n"
        "            df = PyRDF.RDataFrame(tree, path, executor=executor, npartitions=1)\n"
        "            try:\n"
        "                print(df.Sum(column).GetValue())\n"
        "            except PyRDF.RangeError as error:\n"
        "                print(str(error).replace('\\n', ' '))\n"
    )
    files = str(data / "a.root"), str(data / "ntuple_one.root")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(ways.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = done.stdout.splitlines()
    assert len(said) == 12, done.stderr
    before, bad, known, new = said[:4]
    assert before == "2475.0"
    assert "CompilationError: no matching member function" in bad
    assert "restart it" in known
    assert "restart it" in new
    for before, bad, known, new in said[4:8], said[8:]:
        assert (before, known, new) == ("2475.0", "2475.0", "4950.0")
        assert "CompilationError: no matching member function" in bad


def test_a_spoiled_process_ends_unless_it_is_the_users(monkeypatch):
    class Ended(BaseException):
        pass

    def end(status):
        raise Ended

    monkeypatch.setattr(worker.isolation, "threads", lambda: 1)
    monkeypatch.setattr(worker, "_spoiled", [CompilationError([])])
    monkeypatch.setattr(worker.os, "_exit", end)
    mapper = worker.GraphMapper(b"", [], b"", "of a new graph")
    with pytest.raises(PyRDF.RangeError, match="restart it"):
        mapper(Range(0, 0, 1))
    mapper._home = "another process"
    with pytest.raises(Ended):
        mapper(Range(0, 0, 1))


def test_a_segmentation_fault_names_signal_range_and_file(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=4)
    bad = df.Define("z", "if (i == 60) return *(volatile int *)nullptr; return i;")
    with pytest.raises(PyRDF.RangeCrashedError, match=r"range 2 .*a\.root.*SIGSEGV"):
        bad.Sum("z").GetValue()
    assert df.Sum("i").GetValue() == sum(range(100)), "the workers are as they were"


def test_code_that_exits(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=4)
    bad = df.Define("z", "if (i == 60) _exit(3); return i;")
    with pytest.raises(PyRDF.RangeCrashedError, match="status 3"):
        bad.Sum("z").GetValue()


def test_a_worker_that_is_killed_in_mid_range_is_replaced(data, tmp_path, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=4)
    assert sum_while_a_worker_is_killed(df, tmp_path / "pid") == sum(range(100))


def test_a_range_that_hangs_is_stopped(data):
    engine = PyRDF.engine.Engine(
        "local", PyRDF.local(1), 2, {"timeout": 8, "retry": lambdamr.RetryPolicy(attempts=1)}
    )
    df = PyRDF.dataframe.RDataFrame("t", str(data / "a.root"), engine=engine)
    with engine.executor, pytest.raises(lambdamr.PartitionTimeoutError):
        df.Define("z", "sleep(200); return i;").Sum("z").GetValue()
