"""Every action and every transformation, in any number of ranges, gives what plain ROOT gives.

All cases hang on one dataframe, since ROOT compiles for a second for each graph; `test_features.py`
has graphs of their own, and workers that are cold.
"""

from __future__ import annotations

import PyRDF
import PyRDF.backends
import pytest
import ROOT
from cases import ACTIONS, FEATURES, TRANSFORMATIONS, VARIED, booked, trees
from same import assert_same

PARTITIONS = (1, 2, 3, 5, 8)
pytestmark = pytest.mark.timeout(600)  # ROOT compiles for a minute, once


CASES = [
    *ACTIONS,
    *TRANSFORMATIONS,
    *(f"{which} {name}" for name in VARIED for which in ("nominal", "varied")),
]
FEW = [*FEATURES, "nominal Histo1D", "varied Histo1D"]


@pytest.fixture(scope="module")
def plain(data):
    return booked(ROOT.RDataFrame(*trees(data)))


@pytest.fixture(scope="module")
def forked(data, warm):
    """In children of one worker, which runs all ranges of all of them."""
    return {
        n: booked(PyRDF.RDataFrame(*trees(data), executor=warm, npartitions=n)) for n in PARTITIONS
    }


@pytest.fixture(scope="module")
def threaded(data):
    """In a process with threads, where each range books a graph of its own."""
    return booked(PyRDF.RDataFrame(*trees(data), executor="inline", npartitions=2), FEATURES)


@pytest.fixture(scope="module")
def on_lambda(data, cloud):
    """In a Lambda that is cold, and again while it is warm."""
    engine = PyRDF.backends.engine("AWS", {"npartitions": 3})
    runs = []
    for _ in range(2):
        runs.append(booked(PyRDF.RDataFrame(*trees(data), executor=engine), FEATURES))
        runs[-1]["Count"].GetValue()
    return runs


@pytest.mark.parametrize("npartitions", PARTITIONS)
@pytest.mark.parametrize("name", CASES)
def test_forked(name, npartitions, forked, plain):
    assert_same(forked[npartitions][name], plain[name])


@pytest.mark.parametrize("name", FEW)
def test_in_a_process_with_threads(name, threaded, plain):
    assert_same(threaded[name], plain[name])


@pytest.mark.parametrize("name", FEW)
def test_on_a_cold_and_on_a_warm_lambda(name, on_lambda, plain):
    for run in on_lambda:
        assert_same(run[name], plain[name])


@pytest.mark.parametrize("name", FEW)
def test_the_bits_are_the_same_on_lambda(name, on_lambda, forked):
    for run in on_lambda:
        assert_same(run[name], forked[3][name], exact=True)


def test_nothing_is_left_out():
    """Every action and transformation that PyRDF offers is compared."""
    from PyRDF.operations import ACTIONS as ALL_ACTIONS, TRANSFORMATIONS as ALL_TRANSFORMATIONS

    compared = {name.split()[0] for name in CASES}
    assert compared - {"rdfentry_", "nominal", "varied"} | {"Vary", "Snapshot"} >= (
        ALL_ACTIONS | ALL_TRANSFORMATIONS
    )


def test_the_bits_depend_on_the_ranges_alone(data, warm):
    """Sums of doubles included."""

    def numbers(executor):
        df = PyRDF.RDataFrame(*trees(data), executor=executor, npartitions=5)
        return df.Histo1D(("h", "t", 50, -10, 10), "x", "y"), df.Sum("x"), df.StdDev("x")

    for one, other in zip(numbers(warm), numbers("inline"), strict=True):
        assert_same(one, other, exact=True)
