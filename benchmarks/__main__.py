"""`python -m benchmarks`: measures, prints the tables, and writes them where asked."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import rounds
from benchmarks.machine import CpuClock, lambdamr_source, this_machine
from benchmarks.report import Report
from benchmarks.rounds import Sample
from benchmarks.workloads import WORKLOADS

DEFAULT_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and so clean up
    workloads = [WORKLOADS[name] for name in options.workloads]
    count = 1 if options.quick else options.rounds
    machine = this_machine(options.peers)
    clock = CpuClock.read()
    samples: list[Sample] = []
    for sample in rounds.measure(workloads, options.peers, count, quick=options.quick):
        samples.append(sample)
        print(_line(sample), file=sys.stderr, flush=True)
    report = Report(
        machine,
        workloads,
        samples,
        count,
        options.quick,
        stolen_percent=CpuClock.read().stolen_since(clock),
        source_changed=machine.lambdamr not in (None, lambdamr_source()),
    )
    print(report.text())
    if options.json:
        report.write_json(options.json)
    if options.markdown:
        report.write_markdown(options.markdown)
    return 1 if report.failed else 0


def _line(sample: Sample) -> str:
    what = ", ".join(f"{name} {value:,.4g}" for name, value in sample.values.items())
    why = sample.problem.rpartition("\n")[2]
    return (
        f"{sample.workload} · round {sample.round + 1} · {sample.peer}: "
        f"{what or why or sample.status}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    peers = list(dict.fromkeys(peer for w in WORKLOADS.values() for peer in w.partitions))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=list(WORKLOADS),
        default=list(WORKLOADS),
        metavar="NAME",
        help=f"which to run, of: {', '.join(WORKLOADS)} (default: all)",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=peers,
        default=peers,
        metavar="NAME",
        help=f"which to run, of: {', '.join(peers)} (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=DEFAULT_ROUNDS,
        metavar="N",
        help=f"samples of each peer, interleaved (default: {DEFAULT_ROUNDS})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round on less work, a minute or two: shows that all runs, judges nothing",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables to FILE, between its result markers where it has them",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
