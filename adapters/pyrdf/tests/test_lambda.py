"""On AWS Lambda, emulated: the notebook of 2021, and what only a Lambda would get wrong."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import analysis  # from the examples
import botocore.session
import nbformat
import PyRDF
import pytest
import ROOT
from cases import build_libraries, chain_with_friend
from emulated_lambda import BUCKET, stack
from generate import generate
from killing import sum_while_a_worker_is_killed
from nbclient import NotebookClient
from same import assert_same

import lambdamr

pytestmark = pytest.mark.timeout(300)


def test_the_notebook_of_2021(cloud, tmp_path):
    """With the file list changed and nothing else."""
    events = tmp_path / "events.root"
    generate(20_000, [events])
    notebook = nbformat.read(Path(analysis.__file__).with_name("dimuon.ipynb"), as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert "PyRDF.use(\"AWS\", {'npartitions': '32'})" in code[0]
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            'f = ROOT.TFile("h.root", "RECREATE"); f.WriteObject(h.GetValue(), "h"); f.Close()'
        )
    )
    NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert (tmp_path / "dimuon_spectrum.pdf").read_bytes().startswith(b"%PDF")
    file = ROOT.TFile.Open(str(tmp_path / "h.root"))
    got = file.Get("h")
    want = analysis.book(ROOT.RDataFrame("Events", str(events)))[0].GetValue()
    contents = [[h.GetBinContent(i) for i in range(h.GetNcells())] for h in (got, want)]
    assert contents[0] == contents[1]
    assert got.GetEntries() == want.GetEntries() > 5000


def test_the_example_of_the_readme(aws, tmp_path):
    generate(1000, [tmp_path / "events.root"])
    files = [str(tmp_path / "events.root")]
    text = (Path(analysis.__file__).parents[2] / "README.md").read_text()
    code = text.partition("```py\n")[2].partition("```")[0]
    given = {"files": files}
    exec(code, given)
    want = analysis.book(ROOT.RDataFrame("Events", files))[0]
    assert given["h"].GetEntries() == want.GetEntries() > 100


def test_headers_libraries_and_files_that_a_lambda_has_never_seen(aws, registry, tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include/base.h").write_text(
        "#pragma once\ninline int base_of_lambda() { return 40; }"
    )
    (tmp_path / "include/top.h").write_text(
        '#include "base.h"\ninline int top_of_lambda(int i) { return base_of_lambda() + i; }'
    )
    PyRDF.include_headers("include/top.h")
    PyRDF.DistributeCppCode('extern "C" int upper_remote();')
    PyRDF.DistributeSharedLibs(build_libraries(tmp_path, "remote"))
    (tmp_path / "constants").mkdir()
    (tmp_path / "constants/offset.txt").write_text("7")
    PyRDF.send_generic_files("constants/offset.txt")

    def begin(name):
        ROOT.gInterpreter.Declare(f"int {name} = {Path('constants/offset.txt').read_text()};")

    PyRDF.initialize(begin, "offset_of_lambda")
    code = 'std::ifstream file("constants/offset.txt"); int n = -1000; file >> n; return n;'
    for times in 1, 2:  # with a graph that is new, in a function that has met all this
        df = PyRDF.RDataFrame(10).Define("top", f"{times} * top_of_lambda((int)rdfentry_)")
        assert df.Sum("top").GetValue() == times * 445
        df = df.Define("read", code)
        df = df.Define("others", f"{times} * (upper_remote() + offset_of_lambda + read)")
        assert df.Sum("others").GetValue() == times * 560


def test_a_file_is_uploaded_once_for_all_graphs(cloud, aws, registry, tmp_path):
    s3 = botocore.session.get_session().create_client("s3", endpoint_url=cloud)

    def objects():
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="functions/").get("Contents", ())
        return {one["Key"]: one["Size"] for one in listed}

    Path("table.bin").write_bytes(os.urandom(200_000))
    PyRDF.send_generic_files("table.bin")
    code = 'std::ifstream file("table.bin", std::ios::ate); return (int)file.tellg();'
    new = []
    for times in 1, 2:
        before = objects()
        df = PyRDF.RDataFrame(10).Define("size", code).Define("x", f"{times} * size")
        assert df.Sum("x").GetValue() == times * 10 * 200_000
        new.append([size for key, size in objects().items() if key not in before])
    (listed, table), (listed_anew,) = map(sorted, new)
    assert table == 200_000
    assert max(listed, listed_anew) < 20_000


def test_environments_that_are_started_before_the_graph_is_booked(cloud, monkeypatch):
    prepared, prepare = [], lambdamr.LambdaExecutor.prepare
    monkeypatch.setattr(
        lambdamr.LambdaExecutor, "prepare", lambda self: prepared.append(self) or prepare(self)
    )
    PyRDF.use("AWS", {"npartitions": 2, "warm": "1"})
    try:
        assert len(prepared) == 1
        assert PyRDF.RDataFrame(100).Define("x", "1").Sum("x").GetValue() == 100
        woken = asyncio.run(prepared[0].wake())
        assert (woken.environments, woken.cold, woken.error) == (1, 0, None)
    finally:
        PyRDF.session._state.clear()
    with pytest.raises(PyRDF.InputError, match="warm must be a whole number from 1 up, not 0"):
        PyRDF.use("AWS", {"warm": 0})


def few(df):
    return df.Sum("x"), df.Take["int"]("i"), df.Count()


def test_no_dataset(aws):
    df = PyRDF.RDataFrame(100).Define("i", "(int)rdfentry_").Define("x", "i * 0.5")
    assert [result.GetValue() for result in few(df)][::2] == [2475.0, 100]


def test_a_tree_and_files_that_are_empty_or_repeated(aws, data):
    with ROOT.TFile.Open(str(data / "a.root")) as file:
        tree = file.Get("t")
        names = [str(data / f"{name}.root") for name in ("empty", "b", "empty", "b", "c")]
        for arguments in ((tree,), ("t", names)):
            got, want = (few(frame(*arguments)) for frame in (PyRDF.RDataFrame, ROOT.RDataFrame))
            for one, other in zip(got, want, strict=True):
                assert_same(one, other)


def test_several_graphs_at_once(aws, data):
    frames = [PyRDF.RDataFrame("t", str(data / f"{name}.root")) for name in "abc"]
    counts = [df.Count() for df in frames]
    assert PyRDF.RunGraphs(counts) == 3
    assert all(count.IsReady() for count in counts)
    assert [count.GetValue() for count in counts] == [100, 50, 100]


def test_a_lambda_that_is_killed_in_mid_range(aws, data, tmp_path):
    df = PyRDF.RDataFrame("t", str(data / "a.root"))
    assert sum_while_a_worker_is_killed(df, tmp_path / "pid") == sum(range(100))


def test_a_chain_with_friends(aws, data):
    main, _friend = chain_with_friend(data)
    got, want = (
        frame(main).Take["int"]("other.i") for frame in (PyRDF.RDataFrame, ROOT.RDataFrame)
    )
    assert_same(got, want)


def test_an_rntuple(aws, data):
    arguments = "n", [str(data / f"ntuple_{part}.root") for part in ("one", "two")]
    for got, want in zip(
        few(PyRDF.RDataFrame(*arguments)), few(ROOT.RDataFrame(*arguments)), strict=True
    ):
        assert_same(got, want)


def test_a_specification_with_metadata(aws, data):
    df = PyRDF.FromSpec(str(data / "spec.json"))
    weighted = df.DefinePerSample("w", 'rdfsampleinfo_.GetD("weight")')
    assert weighted.Sum("w").GetValue() == 150 * 2.0 + 100 * 0.5


@pytest.fixture(scope="module")
def objects(cloud, data):
    """The URL of a folder in S3, with the data."""
    s3 = stack.client("s3", cloud)
    for path in data.glob("*.root"):
        s3.put_object(Bucket=BUCKET, Key=f"inputs/{path.name}", Body=path.read_bytes())
    return f"s3://{BUCKET}/inputs"


@pytest.mark.parametrize("how", ["glob", "chain", "specification", "specification in code"])
def test_all_of_a_dataset_on_s3(how, aws, objects, data, tmp_path):
    """With friends, if it is no glob."""

    def dataset(folder):
        if how == "glob":
            return ("t", [f"{folder}/[abc].root"])
        if how == "chain":
            main, friend = chain_with_friend(folder)
            friends.append(friend)
            return (main,)
        spec = json.loads((data / "spec.json").read_text().replace(str(data), str(folder)))
        if how == "specification":
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
            path.write_text(json.dumps(spec))
            return (ROOT.Internal.RDF.RetrieveSpecFromJson(str(path)),)
        made = ROOT.RDF.Experimental.RDatasetSpec()
        for name, sample in spec["samples"].items():
            made.AddSample((name, "t", sample["files"]))
        pair = [f"{folder}/friend_{part}.root" for part in ("one", "two")]
        made.WithGlobalFriends("f", pair, "other")
        return (made,)

    friends = []

    def book(df):
        other = {"glob": "i", "specification": "f.i"}.get(how, "other.i")
        return df.Sum("x"), df.Define("o", other).Take["int"]("o")

    got = book(PyRDF.RDataFrame(*dataset(objects)))
    files = dataset(data)
    if how == "glob":
        files = ("t", [str(data / f"{name}.root") for name in "abc"])
    for one, other in zip(got, book(ROOT.RDataFrame(*files)), strict=True):
        assert_same(one, other)


def test_objects_that_are_not_there(aws, objects):
    with pytest.raises(PyRDF.InputError, match=r"no file matches s3://.*/inputs/z\*\.root"):
        PyRDF.RDataFrame("t", f"{objects}/z*.root")
    with pytest.raises(PyRDF.InputError, match=r"list s3://no-bucket.*no such bucket"):
        PyRDF.RDataFrame("t", "s3://no-bucket-of-ours/*.root")
    with pytest.raises(PyRDF.InputError, match=r"nope"):
        PyRDF.RDataFrame("nope", f"{objects}/a.root")


def test_a_snapshot_that_would_be_lost(aws, data):
    df = PyRDF.RDataFrame("t", str(data / "a.root"))
    with pytest.raises(PyRDF.InputError, match=r"disks of their own.*s3://bucket"):
        df.Snapshot("s", "skim.root", ["i"])


def test_a_lazy_snapshot_on_s3(cloud, aws, data):
    options = ROOT.RDF.RSnapshotOptions()
    options.fLazy = True
    df = PyRDF.RDataFrame("t", str(data / "a.root"))
    lazy = df.Snapshot("s", f"s3://{BUCKET}/lazy/skim.root", ["i"], options)
    assert not stack.keys(cloud, BUCKET, "lazy/")
    assert df.Count().GetValue() == 100
    assert lazy.GetValue().Sum("i").GetValue() == sum(range(100))


def test_a_snapshot_on_s3_is_a_new_dataframe(cloud, aws, data):
    arguments = "t", [str(data / f"{name}.root") for name in "abc"]
    target = f"s3://{BUCKET}/skims/x/skim.root"
    made = PyRDF.RDataFrame(*arguments).Filter("i > 30").Snapshot("s", target, ["i", "x"])
    names = [f"skims/x/skim_{i}.root" for i in range(3)]
    assert stack.keys(cloud, BUCKET, "skims/") == names
    want = few(ROOT.RDataFrame(*arguments).Filter("i > 30"))
    urls = [f"s3://{BUCKET}/{name}" for name in names]
    here = PyRDF.RDataFrame("s", urls, executor="inline")
    for df in (made, here):
        for got, expected in zip(few(df), want, strict=True):
            assert_same(got, expected)
    with pytest.raises(PyRDF.InputError, match=r"skim_9\.root: there is no such object"):
        PyRDF.RDataFrame("s", f"s3://{BUCKET}/skims/x/skim_9.root")
    with pytest.raises(PyRDF.InputError, match="no such bucket"):
        PyRDF.RDataFrame("s", "s3://no-bucket-of-ours/a.root")


def test_results_are_drawn_while_they_grow(aws):
    seen = []
    histogram = (
        PyRDF.RDataFrame(90).Define("x", "(double)rdfentry_").Histo1D(("h", "", 9, 0, 90), "x")
    )
    PyRDF.LiveVisualize([histogram], lambda h: seen.append(h.GetEntries()))
    assert histogram.GetEntries() == 90
    assert seen == sorted(seen)
    assert seen[-1] == 90


def test_exceptions_and_crashes_of_cpp(aws, data):
    df = PyRDF.RDataFrame("t", str(data / "a.root"))
    bad = df.Define("z", 'if (i == 60) throw std::runtime_error("sixty is bad"); return i;')
    with pytest.raises(PyRDF.RangeError, match=r"range 1 \(entries .*a\.root\).*sixty is bad"):
        bad.Sum("z").GetValue()
    worse = df.Define("z", "if (i == 60) return *(volatile int *)nullptr; return i;")
    with pytest.raises(PyRDF.RangeCrashedError, match=r"range 1 .*a\.root.*SIGSEGV"):
        worse.Sum("z").GetValue()
    assert df.Sum("i").GetValue() == sum(range(100)), "the Lambda is as it was"
