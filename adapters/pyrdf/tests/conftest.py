"""Datasets, and executors that are cold or warm."""

from __future__ import annotations

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ROOT's wheel says that it is young
    import ROOT

import datasets
import PyRDF


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


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
