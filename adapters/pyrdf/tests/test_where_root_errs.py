"""What ROOT 6.40's own distributed RDataFrame has wrong is right here, on cold workers and warm.

The letters are those of the list in the README. One worker runs all ranges: the first time it has
met neither ROOT nor any class of it, the second time it has met the very same graph.
"""

from __future__ import annotations

import numpy as np
import PyRDF
import PyRDF.dataframe
import pytest
import ROOT
from same import assert_same, plain

import lambdamr

pytestmark = pytest.mark.timeout(300)
AXES = (("int", (4, 5)), ("double", (-10, 0)), ("double", (10, 250)))


def redefined(df):
    """Plain ROOT 6.40 has no RedefinePerSample."""
    defined, expression = df.Define("s", "7.0"), 'rdfsampleinfo_.GetD("weight")'
    if isinstance(df, PyRDF.dataframe.NodeProxy):
        return defined.RedefinePerSample("s", expression).Sum("s")
    return defined.DefinePerSample("s_", expression).Redefine("s", "s_").Sum("s")


def booked(df):
    vectors = [ROOT.std.vector[kind](values) for kind, values in AXES]
    return {
        "friend": df.Define("apart", "f.i - i").Sum("apart"),
        "report": df.Filter("i % 4 != 0", "quarter").Report(),
        "many dimensions": df.HistoND(("h", "t", 2, *vectors), ["x", "i"]),
        "arrays": df.AsNumpy(["i"], lazy=True),
        "per sample": redefined(df),
        "no model": df.Histo1D("x"),
        "taken": df.Take["int"]("i"),
    }


@pytest.fixture(scope="module")
def runs(data):
    spec = str(data / "spec.json")
    runs = {"plain": booked(ROOT.RDF.Experimental.FromSpec(spec))}
    with lambdamr.LocalExecutor(1) as worker:
        for name, npartitions in (("cold", 4), ("warm", 4), ("warm, two ranges", 2)):
            df = PyRDF.FromSpec(spec, executor=worker, npartitions=npartitions)
            runs[name] = booked(df)
            runs[name]["report"].GetValue()
    return runs


@pytest.fixture(params=["cold", "warm", "warm, two ranges"])
def got(request, runs):
    return runs[request.param]


def test_a_objects_of_cpp_reach_workers_that_have_seen_no_class(got, runs):
    assert_same(got["friend"], runs["plain"]["friend"])


def test_b_a_report_of_several_ranges_on_one_worker_does_not_crash(got):
    assert [str(cut.GetName()) for cut in got["report"]] == ["quarter"]


def test_c_every_entry_is_in_a_histogram_of_many_dimensions_once(got, runs):
    assert got["many dimensions"].GetEntries() == 250
    assert_same(got["many dimensions"], runs["plain"]["many dimensions"])


def test_d_arrays_are_in_the_order_of_the_entries(got):
    np.testing.assert_array_equal(got["arrays"].GetValue()["i"], np.arange(250))


def test_e_a_column_is_redefined_for_each_sample(got, runs):
    assert plain(got["per sample"]) == 150 * 2.0 + 100 * 0.5
    assert_same(got["per sample"], runs["plain"]["per sample"])


def test_f_a_report_counts_every_range(got):
    passed = sum(i % 4 != 0 for i in range(250))
    assert plain(got["report"].GetValue()) == [("quarter", passed, 250)]


def test_g_a_histogram_without_a_model(got, runs):
    assert_same(got["no model"], runs["plain"]["no model"])


def test_h_a_column_is_taken_in_order(got):
    assert list(got["taken"].GetValue()) == list(range(250))
