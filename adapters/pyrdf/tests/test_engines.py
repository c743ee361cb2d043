"""The example of the dimuon spectrum on real Dask and Spark, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import analysis  # from the examples
import pytest
import ROOT
from generate import generate

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import analysis, PyRDF, ROOT

if __name__ == "__main__":
    conf = {
        "dask": {"n_workers": 1, "dashboard_address": None},
        "spark": {"spark.master": "local[1]", "spark.ui.enabled": "false"},
    }
    PyRDF.use(sys.argv[2], {"npartitions": "3", **conf[sys.argv[2]]})
    histogram, report = analysis.book(PyRDF.RDataFrame("Events", "events.root"))
    with ROOT.TFile("spectrum.root", "RECREATE") as file:
        file.WriteObject(histogram.GetValue(), "h")
    print([(str(cut.GetName()), cut.GetPass(), cut.GetAll()) for cut in report.GetValue()])
    print(PyRDF.current_backend().name, type(PyRDF.current_backend().executor).__name__)
"""


@pytest.mark.parametrize(
    ("backend", "executor"), [("dask", "DaskExecutor"), ("spark", "SparkExecutor")]
)
def test_the_example(backend, executor, tmp_path):
    generate(20_000, [tmp_path / "events.root"])
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", Path(analysis.__file__).parent, backend],
        cwd=tmp_path,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},  # whatever this machine's name is
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    want, cuts = analysis.book(ROOT.RDataFrame("Events", str(tmp_path / "events.root")))
    with ROOT.TFile.Open(str(tmp_path / "spectrum.root")) as file:
        got = file.Get("h")
        got.SetDirectory(ROOT.nullptr)
    assert [got.GetBinContent(i) for i in range(got.GetNcells())] == [
        want.GetBinContent(i) for i in range(want.GetNcells())
    ]
    assert got.GetEntries() == want.GetEntries() > 5000
    shown = [(str(cut.GetName()), cut.GetPass(), cut.GetAll()) for cut in cuts.GetValue()]
    assert done.stdout.splitlines()[-2:] == [str(shown), f"{backend} {executor}"]
