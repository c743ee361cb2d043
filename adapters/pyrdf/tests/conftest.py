"""Datasets, and executors that are cold or warm."""

from __future__ import annotations

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ROOT's wheel says that it is young
    import ROOT

import datasets
import PyRDF
import PyRDF.registry


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of small files; see `datasets`."""
    return datasets.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def warm():
    """A worker that all tests share: it meets many graphs, and all ranges of each."""
    ROOT.gROOT.SetBatch(True)
    with PyRDF.local(1) as executor:
        yield executor


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """The URL of an emulated AWS whose Lambdas have ROOT."""
    from emulated_lambda import emulated_lambda

    with emulated_lambda(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture
def aws(cloud):
    """Dataframes run on Lambda."""
    PyRDF.use("AWS", {"npartitions": 3})
    yield
    PyRDF.session._state.clear()


@pytest.fixture
def registry(monkeypatch):
    """Nothing is sent along but what the test says."""
    for name, nothing in vars(PyRDF.registry.Registry()).items():
        monkeypatch.setattr(PyRDF.registry.REGISTRY, name, nothing)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
