"""Datasets of all kinds, results that are files, code that travels, and the old and new ways in."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import PyRDF
import pytest
import ROOT
from cases import build_libraries, chain_with_friend
from same import assert_same

import lambdamr


@pytest.fixture(params=["forked", "in a process with threads"])
def executor(request, warm):
    return warm if request.param == "forked" else "inline"


def book(df):
    return df.Sum("x"), df.Take["int"]("i"), df.Count()


def ranges(executor):
    """In a process with threads each range is compiled anew, for a second."""
    return (3,) if executor == "inline" else (1, 3, 7)


def check(arguments, executor, book=book):
    want = book(ROOT.RDataFrame(*arguments))
    for npartitions in ranges(executor):
        df = PyRDF.RDataFrame(*arguments, executor=executor, npartitions=npartitions)
        for one, other in zip(book(df), want, strict=True):
            assert_same(one, other)


def test_no_dataset(executor):
    check((100,), executor, lambda df: (df.Define("z", "rdfentry_ * 2").Sum("z"), df.Count()))


def test_globs_and_repeated_files(data, executor):
    check(("t", str(data / "[ab].root")), executor)
    check(("t", [str(data / f"{name}.root") for name in "aba"]), executor)


def test_paths_as_people_write_them(data, warm, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    monkeypatch.setenv("MY_DATA", str(data))
    monkeypatch.chdir(data)
    for files in (
        "~/a.root",
        "$MY_DATA/a.root",
        Path("a.root"),
        (f"{name}.root" for name in "a"),
        np.array(["a.root"]),
        ROOT.std.vector["std::string"](["a.root"]),
    ):
        df = PyRDF.RDataFrame("t", files, executor=warm)
        assert [path for _, path in df._node.head.source.datasets] == [str(data / "a.root")]


def test_what_the_dataset_is_like_is_known_here(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm).Define("z", "i * 2")
    assert df.GetColumnType("z") == "int"
    assert {"i", "z"} <= {str(name) for name in df.GetColumnNames()}
    assert "1" in df.Describe().AsString().partition("Columns from defines")[2].split()
    shown = df.Filter("i > 30").Display(["i", "z"], 2).AsString()
    assert [row.split("|")[2:4] for row in shown.splitlines()[3::2]] == [
        [" 31 ", " 62 "],
        [" 32 ", " 64 "],
    ]


def test_a_notebook_that_shows_a_result_does_not_run_it(data, warm):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm)
    count, histogram = df.Count(), df.Histo1D(("h", "", 10, -10, 10), "x")
    for result in count, histogram:
        assert result
        assert not hasattr(result, "_repr_html_")
        assert "not computed" in repr(result)
        assert not result.IsReady()


def test_functions_of_python(data, executor):
    """ROOT compiles them with numba, here and in the workers."""
    edge = 3.0

    def book(df):
        doubled = df.Define("z", lambda x, y: 2 * x + y, ["x", "y"])
        return (doubled.Sum("z"), df.Filter(lambda x: x > edge).Count())

    check(("t", str(data / "a.root")), executor, book)


def test_implicit_multithreading_of_the_user_changes_no_order(data):
    arguments = "t", [str(data / f"{name}.root") for name in "abc"]
    ROOT.EnableImplicitMT(2)
    try:
        df = PyRDF.RDataFrame(*arguments, executor="inline", npartitions=2)
        np.testing.assert_array_equal(df.AsNumpy(["i"])["i"], np.arange(250))
        assert ROOT.GetThreadPoolSize() == 2
    finally:
        ROOT.DisableImplicitMT()


def test_a_tree_a_chain_and_a_directory(data, executor):
    file = ROOT.TFile.Open(str(data / "a.root"))
    check((file.Get("t"),), executor)
    check(("t", file), executor)
    chain = ROOT.TChain()
    chain.Add(f"{data}/a.root?#t")
    chain.Add(f"{data}/other.root?#other")
    check((chain,), executor)


def test_default_columns(data, executor):
    check(("t", str(data / "a.root"), ["x"]), executor, lambda df: (df.Filter("x > 0").Sum(),))


def test_friends_with_an_alias_and_other_boundaries(data, executor):
    main, _friend = chain_with_friend(data)
    check(
        (main,),
        executor,
        lambda df: (df.Take["int"]("other.i"), df.Define("d", "other.i - i").Sum("d")),
    )


def test_an_rntuple(data, executor):
    paths = [str(data / f"ntuple_{part}.root") for part in ("one", "two")]
    check(("n", paths), executor, lambda df: (*book(df), df.Sum("v")))


def test_rntuples_without_entries(data, executor):
    """ROOT 6.40 crashes where there is nothing else."""
    names = ["empty", "one", "empty", "two", "empty"]
    check(("n", [str(data / f"ntuple_{name}.root") for name in names]), executor)
    df = PyRDF.RDataFrame("n", str(data / "ntuple_empty.root"), executor=executor)
    with pytest.raises(PyRDF.RangeError, match=r"the dataset \(n\) has no entries"):
        df.Count().GetValue()


def test_a_specification_with_metadata_and_friends(data, executor):
    def weighted(df):
        df = df.DefinePerSample("w", 'rdfsampleinfo_.GetD("weight")')
        return (df.Sum("w"), df.Take["int"]("f.i"), df.Define("p", "w * x").Sum("p"))

    want = weighted(ROOT.RDF.Experimental.FromSpec(str(data / "spec.json")))
    for npartitions in ranges(executor):
        df = PyRDF.FromSpec(str(data / "spec.json"), executor=executor, npartitions=npartitions)
        for one, other in zip(weighted(df), want, strict=True):
            assert_same(one, other)


def test_a_snapshot_is_a_new_dataframe(data, executor, tmp_path):
    arguments = "t", [str(data / f"{name}.root") for name in "abc"]
    df = PyRDF.RDataFrame(*arguments, executor=executor, npartitions=4)
    made = df.Filter("i > 30").Define("z", "x * 2").Snapshot("s", "out/../snap.root", ["i", "z"])
    want = ROOT.RDataFrame(*arguments).Filter("i > 30").Define("z", "x * 2")
    assert_same(made.Sum("z"), want.Sum("z"))
    assert_same(made.Take["int"]("i"), want.Take["int"]("i"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"snap_{i}.root" for i in range(4) if (tmp_path / f"snap_{i}.root").exists()
    ]


def test_a_snapshot_as_rntuple(data, executor):
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    files = [str(data / f"{name}.root") for name in "abc"]
    df = PyRDF.RDataFrame("t", files, executor=executor, npartitions=4).Filter("i > 130")
    made = df.Snapshot("s", "snap.root", ["i", "v"], options)
    assert_same(made.Sum("i"), ROOT.RDataFrame("t", files).Filter("i > 130").Sum("i"))
    assert ROOT.RNTupleReader.Open("s", "snap_2.root").GetNEntries() == 119


def test_a_lazy_snapshot(data, warm, tmp_path):
    options = ROOT.RDF.RSnapshotOptions()
    options.fLazy = True
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=2)
    lazy = df.Snapshot("s", "lazy.root", ["i"], options)
    count = df.Count()
    assert not list(tmp_path.iterdir())
    assert count.GetValue() == 100
    assert lazy.GetValue().Sum("i").GetValue() == sum(range(100))
    options.fMode = "UPDATE"
    with pytest.raises(PyRDF.InputError, match="UPDATE"):
        df.Snapshot("s", "lazy.root", ["i"], options)


def test_code_headers_files_and_a_function_to_begin_with(data, warm, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/base.h").write_text("#pragma once\ninline int base_of_mine() { return 40; }")
    (tmp_path / "mine/top.h").write_text(
        '#include "base.h"\ninline int top_of_mine(int i) { return base_of_mine() + i; }'
    )
    (tmp_path / "offset.txt").write_text("7")
    PyRDF.include_headers("mine")
    PyRDF.DistributeCppCode("int twice_of_mine(int i) { return 2 * i; }")
    PyRDF.send_generic_files("offset.txt")

    def begin(name):
        ROOT.gInterpreter.Declare(f"int {name} = {Path('offset.txt').read_text()};")

    PyRDF.initialize(begin, "offset_of_mine")
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=3)
    got = df.Define("z", "top_of_mine(i) + twice_of_mine(i) + offset_of_mine").Sum("z")
    assert got.GetValue() == 100 * 47 + 3 * sum(range(100))
    with pytest.raises(PyRDF.InputError, match="no file or folder"):
        PyRDF.include_headers("nothing.h")


def test_headers_bring_what_they_include(data, warm, tmp_path):
    (tmp_path / "include/deep").mkdir(parents=True)
    (tmp_path / "include/top_of_tree.h").write_text(
        '#include <cmath>\n#include "deep/middle.h"\nint top_of_tree() { return middle() + 1; }'
    )
    (tmp_path / "include/deep/middle.h").write_text(
        '#pragma once\n#include "../bottom.icc"\ninline int middle() { return bottom() + 1; }'
    )
    (tmp_path / "include/bottom.icc").write_text("#pragma once\ninline int bottom() { return 40; }")
    (tmp_path / "include/README.md").write_text("no C++")
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=2)
    for given in "include/top_of_tree.h", tmp_path / "include":  # the second has it all, again
        PyRDF.include_headers(given)
        assert df.Define("z", "top_of_tree()").Sum("z").GetValue() == 4200


def test_libraries_that_need_each_other(data, warm, tmp_path):
    libraries = build_libraries(tmp_path, "local")
    PyRDF.DistributeCppCode('extern "C" int upper_local();')
    PyRDF.include_shared_libraries(libraries)
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=2)
    assert df.Define("z", "upper_local()").Sum("z").GetValue() == 4200


def test_code_that_root_knows_already_is_for_the_workers(data, warm):
    code = "int known_here(int i) { return i + 1; }"
    ROOT.gInterpreter.Declare(code)
    PyRDF.DistributeCppCode(code)
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=2)
    assert df.Define("z", "known_here(i)").Sum("z").GetValue() == 100 + sum(range(100))
    with pytest.raises(PyRDF.InputError, match=r"redefinition of 'known_here'.*fresh kernel"):
        PyRDF.DistributeCppCode("int known_here(int i) { return i + 2; }")


def test_several_graphs_at_once(data, warm):
    frames = [PyRDF.RDataFrame("t", str(data / f"{n}.root"), executor=warm) for n in "abc"]
    counts = [df.Count() for df in frames]
    assert PyRDF.RunGraphs(counts) == 3
    assert [count.GetValue() for count in counts] == [100, 50, 100]
    bad = frames[0].Define("z", 'throw std::runtime_error("bad"); return 1;').Sum("z")
    with pytest.raises(PyRDF.RangeError, match="bad"):
        PyRDF.RunGraphs([bad])


def test_results_are_drawn_while_they_grow(data, warm):
    seen = []
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=warm, npartitions=5)
    histogram = df.Histo1D(("h", "", 10, -10, 10), "x")
    graph = df.Graph("i", "x")
    PyRDF.LiveVisualize({histogram: lambda h: seen.append(h.GetEntries()), graph: None})
    assert histogram.GetEntries() == 100
    assert seen
    assert seen == sorted(seen)
    assert seen[-1] == 100
    with pytest.raises(PyRDF.InputError, match="before"):
        PyRDF.LiveVisualize([histogram])


def test_the_old_way_in(data):
    PyRDF.use("LOCAL", {"npartitions": "3", "workers": 1})
    assert PyRDF.current_backend().npartitions == 3
    assert PyRDF.RDataFrame("t", str(data / "a.root")).Count().GetValue() == 100


def test_the_new_names_of_old_functions():
    assert PyRDF.DistributeHeaders is PyRDF.include_headers
    assert PyRDF.DistributeSharedLibs is PyRDF.include_shared_libraries
    assert PyRDF.DistributeFiles is PyRDF.send_generic_files


def test_a_logger(tmp_path):
    logger = PyRDF.create_logger("info", str(tmp_path / "log"))
    try:
        logging.getLogger("lambdamr.job").info("a job began")
        logger.debug("a detail")
    finally:
        PyRDF.create_logger("WARNING")
    assert "a job began" in (tmp_path / "log").read_text()
    assert "a detail" not in (tmp_path / "log").read_text()
    with pytest.raises(PyRDF.InputError, match="no log level 'LOUD'; use DEBUG"):
        PyRDF.create_logger("LOUD")


def test_a_report_of_each_job(data, tmp_path):
    PyRDF.use("local", {"workers": 1, "report": tmp_path / "job.json"})
    assert PyRDF.RDataFrame("t", str(data / "a.root")).Count().GetValue() == 100
    assert json.loads((tmp_path / "job.json").read_text())
    with pytest.raises(lambdamr.InputError, match="a report is"):
        PyRDF.use("local", {"report": "job.docx"})


def test_functions_of_root_take_our_results(data, warm):
    """Without `enable`, too; and those of plain ROOT as before."""
    files = "t", str(data / "a.root")
    for df in PyRDF.RDataFrame(*files, executor=warm, npartitions=2), ROOT.RDataFrame(*files):
        sum_ = df.Vary("x", "ROOT::RVecD{x - 1, x + 1}", ["down", "up"], "s").Sum("x")
        varied = ROOT.RDF.Experimental.VariationsFor(sum_)
        assert ROOT.RDF.RunGraphs([sum_]) == 1
        assert [str(key) for key in varied.GetKeys()] == ["nominal", "s:down", "s:up"]
        assert varied["s:up"] - varied["nominal"] == pytest.approx(100)


def test_root_itself_takes_our_executors(data, warm):
    PyRDF.enable()
    PyRDF.enable()
    spec = str(data / "spec.json")
    for executor in {"executor": warm}, {}:
        assert ROOT.RDF.Experimental.FromSpec(spec, **executor).Count().GetValue() == 250
    df = ROOT.RDataFrame("t", str(data / "a.root"), executor=warm)
    assert isinstance(df, PyRDF.dataframe.RDataFrame)
    assert df.Count().GetValue() == 100
    assert ROOT.RDataFrame(10).Count().GetValue() == 10


def test_asnumpy_in_the_order_of_the_entries(data, warm):
    df = PyRDF.RDataFrame(
        "t", [str(data / f"{n}.root") for n in "abc"], executor=warm, npartitions=8
    )
    np.testing.assert_array_equal(df.AsNumpy(["i"])["i"], np.arange(250))


REAL = os.environ.get("LAMBDAMR_REAL_DATA")


@pytest.mark.skipif(not REAL, reason="LAMBDAMR_REAL_DATA is not set")
@pytest.mark.parametrize(
    ("tree", "file", "book"),
    [
        (
            "Events",
            "nano_dimuon.root",
            lambda df: df.Filter("nMuon == 2").Histo1D(("h", "", 100, 0, 200), "Muon_pt"),
        ),
        (
            "Events",
            "nano_dimuon_rntuple.root",
            lambda df: df.Filter("nMuon == 2").Histo1D(("h", "", 100, 0, 200), "Muon_pt"),
        ),
        (
            "Events",
            "nanoAOD_2015_CMS_Open_Data_ttbar.root",
            lambda df: df.Histo1D(("h", "", 100, 0, 300), "Jet_pt"),
        ),
        ("events", "uproot-Zmumu.root", lambda df: df.Histo1D(("h", "", 100, 0, 200), "M")),
    ],
)
def test_real_files(tree, file, book, executor):
    arguments = tree, f"{REAL}/{file}"
    want = book(ROOT.RDataFrame(*arguments))
    for npartitions in ranges(executor)[:2]:
        got = book(PyRDF.RDataFrame(*arguments, executor=executor, npartitions=npartitions))
        assert_same(got, want)
    assert want.GetEntries() > 0
