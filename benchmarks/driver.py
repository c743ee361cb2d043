"""One sample in a process of its own: open a peer, run a workload, write down what was measured.

A process for each sample keeps the peers' threads, imports and memory apart.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS


def main(workload: str, peer: str, partitions: int, answer: Path) -> None:
    measured = WORKLOADS[workload].measure
    if measured is None:
        raise SystemExit(f"{workload} is not measured by this driver")
    with PEERS[peer].open() as run:
        values = measured(run, partitions)
    answer.write_text(json.dumps(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
