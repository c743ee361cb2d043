"""Generates dimuon events, draws their spectrum with PyRDF, and checks it against plain ROOT.

PyRDF runs on processes of this machine, and on AWS Lambda, which is emulated here.

python demo.py [--events 1000000] [--out build/dimuon]
"""

from __future__ import annotations

import argparse
import operator
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import analysis
from emulated_lambda import emulated_lambda
from generate import generate

WORKERS = 2
PARTITIONS = 8


def bins(histogram):
    """All bins, with underflow and overflow, and the entries."""
    contents = [histogram.GetBinContent(i) for i in range(histogram.GetNcells())]
    return contents, histogram.GetEntries()


def bits(histogram):
    """Bins, errors and statistics (sums of doubles), as they are stored."""
    import numpy as np

    statistics = np.zeros(13)
    histogram.GetStats(statistics)
    errors = [histogram.GetBinError(i) for i in range(histogram.GetNcells())]
    return [number.hex() for number in (*statistics.tolist(), *errors, *bins(histogram)[0])]


def timed(what, events, run):
    started = time.perf_counter()
    value = run()
    seconds = time.perf_counter() - started
    print(
        f"  {what:<44}{seconds:6.1f} s {events / seconds / 1e6:8.2f} million events/s", flush=True
    )
    return value


def estimated_and_real():
    """What `lambdamr.estimate` says of a job of a few seconds on Lambda, and what it was."""
    import lambdamr

    def pi(seed):
        numbers, hits = random.Random(seed), 0
        for _ in range(1_000_000):
            hits += numbers.random() ** 2 + numbers.random() ** 2 < 1
        return hits

    job = pi, operator.add, lambdamr.Partitions(range(48))
    executor = lambdamr.LambdaExecutor(concurrency=WORKERS)
    told, events = lambdamr.estimate(*job, executor=executor), []
    started = time.perf_counter()
    lambdamr.map_reduce(*job, executor=executor, observers=[events.append])
    seconds = time.perf_counter() - started
    print(f"  pi on emulated Lambdas, from {told.sampled} of {told.npartitions} partitions:")
    print(f"    estimated {told.seconds:5.1f} s, {told.cost:.6f} USD ± {100 * told.error:.0f} %")
    print(f"    it took   {seconds:5.1f} s, {events[-1].cost:.6f} USD")


def main() -> int:
    warnings.filterwarnings("ignore", message="(?s).*alpha stage")  # of ROOT's wheel
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/dimuon"))
    arguments = parser.parse_args()
    events, out = arguments.events, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"events-{events}.root"

    import PyRDF

    print(f"Dimuon spectrum of {events:,} events")
    PyRDF.use("local", {"workers": WORKERS, "npartitions": PARTITIONS})  # they get ready meanwhile
    if not path.exists():
        timed("generated", events, lambda: generate(events, [path]))

    def distributed():
        histogram, report = analysis.book(PyRDF.RDataFrame("Events", str(path)))
        return histogram.GetValue(), report.GetValue()

    def plain():
        import ROOT

        histogram, _ = analysis.book(ROOT.RDataFrame("Events", str(path)))
        return histogram.GetValue()

    spectrum, report = timed(f"PyRDF, {WORKERS} processes, first run", events, distributed)
    again, _ = timed(f"PyRDF, {WORKERS} processes, second run", events, distributed)
    expected = timed("plain ROOT, first run", events, plain)
    timed("plain ROOT, second run", events, plain)
    with (
        tempfile.TemporaryDirectory(prefix="pyrdf-demo-") as folder,
        emulated_lambda(Path(folder), WORKERS),
    ):
        PyRDF.use("AWS", {"npartitions": PARTITIONS})
        lambdas, _ = timed("PyRDF, 2 emulated Lambdas, cold", events, distributed)
        timed("PyRDF, 2 emulated Lambdas, warm", events, distributed)
        estimated_and_real()

    report.Print()
    plots = [str(out / f"dimuon_spectrum.{kind}") for kind in ("png", "pdf")]
    analysis.draw(spectrum, plots)
    print(f"plots: {', '.join(plots)}")
    if not bins(spectrum) == bins(again) == bins(lambdas) == bins(expected):
        print("error: the spectrum of PyRDF is not that of plain ROOT", file=sys.stderr)
        return 1
    if not bits(spectrum) == bits(again) == bits(lambdas):
        print("error: the runs of PyRDF differ in their last bits", file=sys.stderr)
        return 1
    cells = spectrum.GetNcells()
    print(
        f"all {cells:,} bins are those of plain ROOT, and all runs of PyRDF are the same to the "
        f"last bit ({spectrum.GetEntries():,.0f} pairs)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
