"""Interleaved rounds: every peer once, then every peer again, so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks import sandbox
from benchmarks.peers import WORKERS
from benchmarks.workloads import Values, Workload

Status = Literal["measured", "missing", "failed"]

TIMEOUT_SECONDS = 120.0
"""Twice and more what the slowest sample took on a busy machine."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One peer, one workload, one round."""

    workload: str
    peer: str
    round: int
    partitions: int
    status: Status
    values: Values
    problem: str = ""
    processes_left: tuple[str, ...] = ()
    files_left: int = 0


def measure(
    workloads: Sequence[Workload], peers: Sequence[str], rounds: int, *, quick: bool
) -> Iterator[Sample]:
    """Yields each sample as soon as it is there; a peer that is missing yields one and no more."""
    for workload in workloads:
        chosen = [peer for peer in workload.partitions if peer in peers]
        for number in range(rounds * (1 if quick else workload.samples_per_round)):
            for peer in chosen:
                if workload.installed(peer):
                    yield _sample(workload, peer, number, workload.size(peer, quick=quick))
                elif number == 0:
                    yield Sample(workload.name, peer, number, 0, "missing", {})


def _sample(workload: Workload, peer: str, number: int, partitions: int) -> Sample:
    if workload.measure is None:
        command = ["benchmarks/cold_start.py", peer, str(WORKERS)]
    else:
        command = ["-m", "benchmarks.driver", workload.name, peer, str(partitions)]
    try:
        answer = sandbox.run(command, timeout=TIMEOUT_SECONDS)
    except sandbox.SampleFailed as failure:
        return Sample(workload.name, peer, number, partitions, "failed", {}, str(failure))
    return Sample(
        workload.name,
        peer,
        number,
        partitions,
        "measured",
        answer.values,
        processes_left=answer.processes_left,
        files_left=answer.files_left,
    )
