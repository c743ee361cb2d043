"""The dimuon spectrum: PyRDF on two processes beside ROOT with two threads, alone, and on Dask.

    python -m benchmarks.dimuon [--events 5000000] [--rounds 3]

Each run is a fresh Python. "first" is from its start to the first histogram, imports included;
"second" is the same graph on a new dataframe. Peers take turns, so a busy machine is fair to all;
medians are shown. Dask runs the graph without its Report, which crashes ROOT's workers there
(6.40). Needs ROOT and PyRDF (`make test-pyrdf` installs them).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKERS = 2
EXAMPLE = Path(__file__).resolve().parent.parent / "examples/dimuon"
PEERS = ("PyRDF", "ROOT, 2 threads", "ROOT, serial", "ROOT on Dask")


def spectrum(peer: str, path: str) -> list[float]:
    """Seconds of two runs, the first from the start of this process."""
    sys.path.insert(0, str(EXAMPLE))
    import analysis

    frame = opener(peer)
    started, seconds = float(sys.argv[3]), []
    for _ in range(2):
        histogram, report = analysis.book(frame("Events", path))
        if peer == "ROOT on Dask":  # a Report crashes its workers (6.40); unheld, it is not run
            del report
        assert histogram.GetValue().GetEntries() > 0
        seconds.append(time.time() - started)
        started = time.time()
    return seconds


def opener(peer: str):
    """What makes a dataframe."""
    if peer == "PyRDF":
        import PyRDF

        PyRDF.use("local", {"workers": WORKERS, "npartitions": 4 * WORKERS})
        return PyRDF.RDataFrame
    import ROOT

    if peer == "ROOT on Dask":
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        client = Client(cluster)
        return lambda *arguments: ROOT.RDataFrame(
            *arguments, executor=client, npartitions=4 * WORKERS
        )
    if peer == "ROOT, 2 threads":
        ROOT.EnableImplicitMT(WORKERS)
    return ROOT.RDataFrame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    taken: dict[str, list[list[float]]] = {peer: [] for peer in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "events.root")
        generate = [sys.executable, "-W", "ignore", EXAMPLE / "generate.py"]
        subprocess.run([*generate, str(arguments.events), path], check=True)
        for _ in range(arguments.rounds):
            for peer, runs in taken.items():
                command = [sys.executable, "-W", "ignore", __file__, peer, path, str(time.time())]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{arguments.events:,} events, median of {arguments.rounds}: seconds")
    print(f"{'':<18}{'first':>8}{'second':>8}")
    for peer, runs in taken.items():
        first, second = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{peer:<18}{first:>8.2f}{second:>8.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in PEERS:
        print(json.dumps(spectrum(sys.argv[1], sys.argv[2])))
    else:
        main()
