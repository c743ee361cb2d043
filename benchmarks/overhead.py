"""`python -m benchmarks.overhead`: what progress and a report cost 20,000 no-op partitions.

And 20 times as many: 20,000 have ended before there is a first picture. With and without, in turn,
on the same warm workers. Progress is drawn in a pseudo-terminal that is read; the report is a page
and a record. Prints the medians, and their ratio with the 95 % interval of the median of the paired
ratios (a sign test).
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import lambdamr
from benchmarks import work

PARTITIONS = 20_000
PICTURES = 20  # times as many, in a tenth of the rounds
LIMIT = 1.03


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=41, metavar="N", help="default: 41")
    rounds = parser.parse_args().rounds
    ratios = _measured(PARTITIONS, rounds), _measured(PICTURES * PARTITIONS, max(5, rounds // 10))
    return 0 if max(ratios) < LIMIT else 1


def _measured(partitions: int, rounds: int) -> float:
    """The ratio of watched to plain jobs, which is printed, too."""
    out, numbers = sys.stdout, list(range(partitions))
    with (
        tempfile.TemporaryDirectory() as folder,
        lambdamr.LocalExecutor(2) as executor,
        open(_read_terminal(), "w") as terminal,
    ):
        files = Path(folder) / "{job}.html", Path(folder) / "{job}.json"

        def seconds(watched: bool) -> float:
            started = time.perf_counter()
            observers = [lambdamr.Report(*files)] if watched else []
            value = lambdamr.map_reduce(
                work.one,
                work.add,
                numbers,
                npartitions=partitions,
                executor=executor,
                progress=watched,
                observers=observers,
            )
            taken = time.perf_counter() - started
            assert value == partitions
            for report in observers:  # in a thread, while the program goes on: none of its time
                report.wait()
            return taken

        sys.stderr = terminal  # where tqdm draws
        for watched in (True, False, True, False):
            seconds(watched)
        pairs = [
            (seconds(True), seconds(False)) if number % 2 else (seconds(False), seconds(True))[::-1]
            for number in range(rounds)
        ]
        sys.stderr = sys.__stderr__
    watched, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    margin = round(0.98 * rounds**0.5)  # ranks either side of the median
    low, high = ratios[max(0, rounds // 2 - margin)], ratios[min(rounds - 1, rounds // 2 + margin)]
    print(
        f"{partitions:,} no-op partitions, {rounds} pairs: {1000 * plain:.1f} ms without, "
        f"{1000 * watched:.1f} ms with progress and report: {100 * (ratio - 1):+.1f} % "
        f"({100 * (low - 1):+.1f} … {100 * (high - 1):+.1f} %)",
        file=out,
    )
    return ratio


def _read_terminal() -> int:
    """A terminal of 100 columns whose other end another process reads, and forgets."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(ours)  # it ends when we do
    return theirs


if __name__ == "__main__":
    sys.exit(main())
