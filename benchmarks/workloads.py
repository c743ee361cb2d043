"""The workloads: what is run, on how much, what is measured, and what lambdamr has to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks import measure
from benchmarks.peers import PEERS, MapReduce

Better = Literal["more", "less"]
Values = dict[str, float]
"""Metric name to what one sample measured."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a sample."""

    name: str
    label: str
    better: Better
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What lambdamr promises: a limit of its own, or a ratio to a peer measured beside it."""

    metric: str
    limit: float
    """Least or most allowed, as the metric's `better` says; with `against`, the least ratio."""
    against: str | None = None
    ceiling: str | None = None
    """What the machine can give: the limit is not judged where even this peer does not reach it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The same work for every peer named in `partitions`."""

    name: str
    title: str
    partitions: Mapping[str, int]
    """Peer to number of partitions: slow peers get fewer, and the metrics do not depend on it."""
    metrics: tuple[Metric, ...]
    targets: tuple[Target, ...]
    measure: Callable[[MapReduce, int], Values] | None
    """`None`: each sample is a fresh interpreter that times itself (`cold_start.py`)."""
    samples_per_round: int = 1
    quick: int = 10
    """A quick run divides the partitions by this."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Names of the rows that are no peer of `peers.py`: they need the standard library only."""

    def size(self, peer: str, *, quick: bool) -> int:
        partitions = self.partitions[peer]
        return max(min(4, partitions), partitions // self.quick) if quick else partitions

    def label(self, peer: str) -> str:
        return self.labels[peer] if peer in self.labels else PEERS[peer].label

    def installed(self, peer: str) -> bool:
        return peer in self.labels or PEERS[peer].installed


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="noop",
            title="No-op partitions, warm workers",
            partitions={
                "lambdamr": 20_000,
                "pool": 20_000,
                "pool-chunked": 20_000,
                "futures": 20_000,
                "futures-chunked": 20_000,
                "loky": 20_000,
                "loky-chunked": 20_000,
                "pebble": 20_000,
                "pebble-chunked": 20_000,
                "dask": 2_000,
                "dask-bag": 20_000,
                "lithops-v1": 200,
                "lithops-v2": 20,
            },
            metrics=(Metric("rate", "partitions/s", "more"),),
            targets=(Target("rate", 5.0, against="pool"),),
            measure=measure.rate,
        ),
        Workload(
            name="arrays",
            title="32 partitions of 32 MB float64 (32,000,000 bytes), summed in place",
            partitions=dict.fromkeys(
                (
                    "lambdamr",
                    "serial",
                    "pool",
                    "futures",
                    "loky",
                    "pebble",
                    "dask-tree",
                    "lithops-v1",
                    "lithops-v2",
                ),
                32,
            ),
            metrics=(Metric("seconds", "seconds", "less", 3),),
            targets=(Target("seconds", 1.0, against="serial"),),
            measure=measure.array_sum_32_mb,
            quick=4,
        ),
        Workload(
            name="arrays-mib",
            title="The same with 32 MiB (33,554,432 bytes): the serial fold faults every page in",
            partitions=dict.fromkeys(("lambdamr", "serial", "futures", "dask-tree"), 32),
            metrics=(Metric("seconds", "seconds", "less", 3),),
            targets=(Target("seconds", 1.0, against="serial"),),
            measure=measure.array_sum_32_mib,
            quick=4,
        ),
        Workload(
            name="cpu",
            title="CPU-bound partitions of 50 ms",
            partitions={
                "lambdamr": 200,
                "by-hand": 200,
                "pool": 200,
                "futures": 200,
                "loky": 200,
                "pebble": 200,
                "dask": 200,
                "lithops-v1": 200,
                "lithops-v2": 40,
            },
            metrics=(Metric("efficiency", "% of ideal", "more", 1),),
            targets=(Target("efficiency", 95.0, ceiling="by-hand"),),
            measure=measure.efficiency,
        ),
        Workload(
            name="cold",
            title="Cold start: fresh interpreter to first result",
            partitions=dict.fromkeys(
                (
                    "lambdamr",
                    "futures-forkserver",
                    "futures-forkserver-preload",
                    "futures-spawn",
                    "futures-fork",
                ),
                2,
            ),
            metrics=(
                Metric("after_imports", "ms after imports", "less", 1),
                Metric("with_imports", "ms with imports", "less", 1),
            ),
            targets=(
                Target("after_imports", 1.0, against="futures-forkserver"),
                Target("with_imports", 1.0, against="futures-forkserver"),
            ),
            measure=None,
            samples_per_round=3,
            labels={
                "futures-forkserver": "concurrent.futures, forkserver",
                "futures-forkserver-preload": "concurrent.futures, forkserver, preloaded",
                "futures-spawn": "concurrent.futures, spawn",
                "futures-fork": "concurrent.futures, fork",
            },
        ),
        Workload(
            name="footprint",
            title="100,000 no-op partitions: what the driver pays",
            partitions=dict.fromkeys(
                ("lambdamr", "pool", "pool-chunked", "futures", "futures-chunked"), 100_000
            ),
            metrics=(
                Metric("peak_mb", "MB peak growth", "less", 1),
                Metric("cpu_us", "µs CPU/partition", "less", 1),
            ),
            targets=(Target("peak_mb", 150.0), Target("cpu_us", 50.0)),
            measure=measure.footprint,
        ),
    )
}
