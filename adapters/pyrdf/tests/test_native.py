"""A graph of strings gives the same bits with Python's view of ROOT and without it."""

from __future__ import annotations

import subprocess
import sys

import PyRDF
import pytest
import ROOT
from cases import ACTIONS, TRANSFORMATIONS, build_libraries, chain_with_friend, trees
from PyRDF import native, precompiled
from same import assert_same
from ways import as_ever, has_root, without_python

import lambdamr

pytestmark = pytest.mark.timeout(600)

CASES = {**ACTIONS, **TRANSFORMATIONS}
BY_PYTHON = {  # what `native.cpp` does not know
    "Histo1D edges",
    "Histo1D model object",
    "HistoND",
    "HistoNSparseD",
    "Take int",
    "Take float",
    "Take bool",
    "Take char",
    "Take big",
    "Take strings",
    "Take vectors",
    "AsNumpy",
    "AsNumpy of vectors",
    "AsNumpy of strings",
    "AsNumpy of nothing",
    "AsNumpy without",
    "DefaultValueFor",
    "rdfentry_",
}


@pytest.fixture(scope="module", autouse=True)
def library():
    assert native.available(), "run python -m PyRDF.precompiled first, as `make test-pyrdf` does"


@pytest.fixture(scope="module")
def quick():
    with lambdamr.LocalExecutor(1, warm_up=without_python) as executor:
        yield executor


@pytest.fixture(scope="module")
def by_python():
    with lambdamr.LocalExecutor(1, warm_up=as_ever) as executor:
        yield executor


def booked(df):
    return {name: case(df) for name, case in CASES.items() if name not in BY_PYTHON}


def operations(result):
    node, found = result._node, []
    while node.parent is not None:
        found.append(node.operation)
        node = node.parent
    return found


def test_what_it_takes(data):
    df = PyRDF.RDataFrame(*trees(data), executor="inline")
    taken = {name for name, case in CASES.items() if native.takes(operations(case(df)))}
    assert taken == set(CASES) - BY_PYTHON


@pytest.fixture(scope="module")
def plain(data):
    return booked(ROOT.RDataFrame(*trees(data)))


@pytest.fixture(scope="module")
def runs(data, quick, by_python):
    runs = {}
    for npartitions in (1, 3, 8):
        for name, executor in (("native", quick), ("by Python", by_python)):
            df = PyRDF.RDataFrame(*trees(data), executor=executor, npartitions=npartitions)
            runs[name, npartitions] = booked(df)
            runs[name, npartitions]["Count"].GetValue()
    for name, executor in (("native", quick), ("by Python", by_python)):
        seen = lambdamr.map_reduce(has_root, max, [0], executor=executor)
        assert seen == (name == "by Python")
    return runs


@pytest.mark.parametrize("npartitions", [1, 3, 8])
@pytest.mark.parametrize("name", sorted(set(CASES) - BY_PYTHON))
def test_the_same_bits(name, npartitions, runs, plain):
    got, want = (runs[way, npartitions][name].GetValue() for way in ("native", "by Python"))
    assert type(got) is type(want)
    assert_same(got, want, exact=True)
    assert_same(got, plain[name])


SOURCES = {
    "nothing": lambda data: (100,),
    "default columns": lambda data: ("t", str(data / "a.root"), ["x"]),
    "files of which some are empty": lambda data: (
        "t",
        [str(data / f"{name}.root") for name in ("empty", "a", "empty", "c")],
    ),
    "a chain with a friend": chain_with_friend,
    "RNTuples of which some are empty": lambda data: (
        "n",
        [str(data / f"ntuple_{name}.root") for name in ("empty", "one", "empty", "two")],
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources(source, data, quick, by_python):
    arguments = SOURCES[source](data)
    if source == "a chain with a friend":
        arguments, _friend = arguments[:1], arguments[1]
    results = []
    for executor in (quick, by_python):
        df = PyRDF.RDataFrame(*arguments, executor=executor, npartitions=3)
        if source == "nothing":
            df = df.Define("x", "gRandom->Uniform() + rdfentry_")
        if source == "a chain with a friend":
            df = df.Redefine("x", "x + other.i")
        results.append((df.Count(), df.Sum("x"), df.Histo1D(("h", "", 10, -10, 2000), "x")))
        assert native.takes(operations(results[-1][2]))
    for one, other in zip(*results, strict=True):
        assert_same(one, other, exact=True)


def test_a_specification_with_metadata_and_friends(data, quick, by_python):
    def weighted(executor):
        df = PyRDF.FromSpec(str(data / "spec.json"), executor=executor, npartitions=4)
        df = df.DefinePerSample("w", 'rdfsampleinfo_.GetD("weight")').Define("p", "w * x + f.i")
        return df.Sum("p"), df.Max("w"), df.StdDev("p")

    for one, other in zip(weighted(quick), weighted(by_python), strict=True):
        assert_same(one, other, exact=True)


def test_code_and_headers(data, quick, by_python, tmp_path):
    (tmp_path / "mine.h").write_text("inline double of_a_header(double x) { return x; }")
    PyRDF.include_headers("mine.h")
    PyRDF.DistributeCppCode("double of_code(double x) { return x / 3; }")
    sums = []
    for executor in (quick, by_python):
        df = PyRDF.RDataFrame(*trees(data), executor=executor, npartitions=3)
        sums.append(df.Define("z", "of_a_header(x) + of_code(x)").Sum("z").GetValue())
    assert sums[0] == sums[1]


@pytest.mark.parametrize("way", ["native", "by Python"])
def test_libraries_and_the_order_of_entries(way, data, quick, by_python, registry, tmp_path):
    executor, suffix = (quick, "native") if way == "native" else (by_python, "by_python")
    PyRDF.DistributeCppCode(f'extern "C" int upper_{suffix}();')
    PyRDF.include_shared_libraries(build_libraries(tmp_path, suffix))
    PyRDF.DistributeCppCode(f"bool threads_{suffix} = (ROOT::EnableImplicitMT(2), true);")
    ROOT.DisableImplicitMT()
    df = PyRDF.RDataFrame(*trees(data), executor=executor, npartitions=3)
    df = df.Define("upper", f"upper_{suffix}()").Define("many", "ROOT::IsImplicitMTEnabled()")
    upper, many = df.Sum("upper"), df.Sum("many")
    assert native.takes(operations(upper))
    assert (upper.GetValue(), many.GetValue()) == (250 * 42, 0)


@pytest.mark.parametrize("way", ["native", "by Python"])
def test_what_root_says(way, tmp_path):
    """What the compiler complains about is in the error; a library is tried without a word."""
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from PyRDF import interpreter, native\n"
        "if sys.argv[1] == 'native':\n"
        "    native.start()\n"
        "print(interpreter.load(Path('/tried.so'), quiet=True))\n"
        "print(interpreter.load(Path('/wanted.so')))\n"
        "try:\n"
        "    interpreter.declare('int nothing( {')\n"
        "except RuntimeError as error:\n"
        "    print(type(error).__name__, error)\n"
        "print('ROOT' in sys.modules)\n"
    )
    command = [sys.executable, "-W", "ignore", "script.py", way]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    *loaded, error, root = done.stdout.splitlines()
    assert loaded == ["False", "False"]
    assert error.startswith("CompilationError expected")
    assert root == str(way == "by Python")
    assert "/tried.so" not in done.stderr
    assert "/wanted.so" in done.stderr
    assert "int nothing( {" in done.stderr


def test_a_worker_goes_from_one_way_to_the_other(data, registry):
    """ROOT starts for Python where it had started without, and the first way still works."""
    with lambdamr.LocalExecutor(1, warm_up=without_python) as executor:
        df = PyRDF.RDataFrame(*trees(data), executor=executor, npartitions=3)
        assert df.Filter("i < 40").Count().GetValue() == 40
        assert not lambdamr.map_reduce(has_root, max, [0], executor=executor)
        assert list(df.Filter("i < 5").AsNumpy(["i"])["i"]) == [0, 1, 2, 3, 4]
        assert lambdamr.map_reduce(has_root, max, [0], executor=executor)
        histogram = df.Histo1D(("h", "", 10, -10, 10), "x")
        assert histogram.GetEntries() == 250
        assert df.Take["int"]("i").GetValue().size() == 250


def test_an_exception_names_the_range(data, quick):
    df = PyRDF.RDataFrame("t", str(data / "a.root"), executor=quick, npartitions=4)
    bad = df.Define("z", 'if (i == 60) throw std::runtime_error("sixty is bad"); return i;')
    with pytest.raises(PyRDF.RangeError, match=r"range 2 \(entries 50 to 79 of .*a\.root\).*sixty"):
        bad.Sum("z").GetValue()


@pytest.mark.parametrize(
    "operation",
    [
        ("Filter", (lambda x: x > 1,)),
        ("Filter", ("x > 1", "a\0b")),
        ("Filter", ("x > 1",), {"name": "positive"}),
        ("Histo1D", (("h", "", 10, 0, 1, 2), "x")),
        ("Histo1D", (("h", "", 10.0, 0, 1), "x")),
        ("Histo1D", (("h", "", 10, "0", 1), "x")),
        ("Profile1D", (("h", "", 10, 0, 1, "s"), "x", "y")),
        ("Snapshot", ("t", "f.root", "")),
        ("VariationsFor", ()),
    ],
)
def test_what_it_does_not_take(operation):
    name, arguments, *keywords = operation
    kind = "merging" if name.startswith(("Histo", "Profile")) else ""
    assert not native.takes([PyRDF.operations.Operation(1, 0, name, arguments, *keywords, kind)])


def test_a_library_of_other_sources_is_not_used(monkeypatch, tmp_path):
    """As after an upgrade: it has another name, and `build` removes it."""
    for name in ("precompiled.h", "helpers.h", "native.cpp"):
        (tmp_path / name).write_bytes((precompiled.HEADER.parent / name).read_bytes())
    monkeypatch.setattr(precompiled, "HEADER", tmp_path / "precompiled.h")
    monkeypatch.setattr(precompiled, "_CODE", tmp_path / "native.cpp")
    named = precompiled.library.__wrapped__
    before = named().name
    assert before == precompiled.library().name
    (tmp_path / "helpers.h").write_text("// another version")
    assert named().name != before
