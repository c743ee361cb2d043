"""The peers: each opens two workers and gives back one function that maps and folds."""

from __future__ import annotations

import functools
import importlib.util
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from distributed import Client

# `Any`, because a peer hands on whatever the workload's own, typed, functions make
Mapper = Callable[[Any], Any]
Reducer = Callable[[Any, Any], Any]
Map = Callable[[Mapper, Sequence[Any]], Iterable[Any]]
MapReduce = Callable[[Mapper, Reducer, Sequence[Any]], Any]
"""Maps every partition and folds the results, in partition order, to one value."""
ChunkRule = Callable[[int], int]
"""Number of partitions to chunk size."""

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the work, and what has to be installed for it."""

    name: str
    label: str
    open: Callable[[], AbstractContextManager[MapReduce]]
    module: str | None = None
    """Top-level module that it needs, `None` for the standard library."""

    @property
    def installed(self) -> bool:
        if self.module is None:
            return True
        spec = importlib.util.find_spec(self.module)
        return spec is not None and spec.origin is not None  # a bare folder has no origin

    @property
    def version(self) -> str:
        if self.module is None:
            return f"of Python {sys.version.split()[0]}"
        try:
            return metadata.version(self.module)
        except metadata.PackageNotFoundError:
            return "from the source tree" if self.installed else "not installed"


def one_by_one(partitions: int) -> int:
    return 1


def four_a_worker(partitions: int) -> int:
    """`multiprocessing.Pool.map`'s own rule, and the fastest here of those tried (see README)."""
    return math.ceil(partitions / (WORKERS * 4))


def fold_in_driver(map_: Map) -> MapReduce:
    """What a user of a peer without a reduction writes."""

    def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
        return functools.reduce(reducer, map_(mapper, partitions))

    return run


@contextmanager
def lambdamr_local() -> Iterator[MapReduce]:
    import lambdamr

    with lambdamr.LocalExecutor(workers=WORKERS) as executor:

        def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
            data = lambdamr.Partitions(partitions)
            return lambdamr.map_reduce(mapper, reducer, data, executor=executor)

        yield run


@contextmanager
def serial() -> Iterator[MapReduce]:
    """The fold in this one process: the yardstick of the array workload."""
    yield fold_in_driver(map)


@contextmanager
def by_hand() -> Iterator[MapReduce]:
    """Two forked processes, half the partitions each: no scheduling at all, so a ceiling."""

    def fold(answer: Connection, mapper: Mapper, reducer: Reducer, half: Sequence[Any]) -> None:
        answer.send(functools.reduce(reducer, map(mapper, half)))

    def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
        context = multiprocessing.get_context("fork")
        share = math.ceil(len(partitions) / WORKERS)
        started = []
        for start in range(0, len(partitions), share):
            answer, worker_end = context.Pipe(duplex=False)
            half = partitions[start : start + share]
            process = context.Process(target=fold, args=(worker_end, mapper, reducer, half))
            process.start()
            worker_end.close()
            started.append((process, answer))
        value = functools.reduce(reducer, [answer.recv() for _, answer in started])
        for process, _ in started:
            process.join()
        return value

    yield run


@contextmanager
def pool_imap(chunksize: ChunkRule) -> Iterator[MapReduce]:
    with multiprocessing.Pool(WORKERS) as pool:
        yield fold_in_driver(
            lambda mapper, partitions: pool.imap(
                mapper, partitions, chunksize=chunksize(len(partitions))
            )
        )
        pool.close()
        pool.join()


@contextmanager
def futures_map(chunksize: ChunkRule) -> Iterator[MapReduce]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        yield fold_in_driver(
            lambda mapper, partitions: executor.map(
                mapper, partitions, chunksize=chunksize(len(partitions))
            )
        )


@contextmanager
def loky_map(chunksize: ChunkRule) -> Iterator[MapReduce]:
    import loky

    with loky.ProcessPoolExecutor(WORKERS) as executor:
        yield fold_in_driver(
            lambda mapper, partitions: executor.map(
                mapper, partitions, chunksize=chunksize(len(partitions))
            )
        )


@contextmanager
def pebble_map(chunksize: ChunkRule) -> Iterator[MapReduce]:
    import pebble

    with pebble.ProcessPool(max_workers=WORKERS) as pool:
        yield fold_in_driver(
            lambda mapper, partitions: pool.map(
                mapper, partitions, chunksize=chunksize(len(partitions))
            ).result()
        )


@contextmanager
def _dask_client() -> Iterator[Client]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs="ERROR",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def dask_fold() -> Iterator[MapReduce]:
    """Gathered and folded in the driver: for tiny results, a tree would only double the tasks."""
    with _dask_client() as client:
        yield fold_in_driver(
            lambda mapper, partitions: client.gather(
                client.map(mapper, list(partitions), pure=False)
            )
        )


@contextmanager
def dask_tree() -> Iterator[MapReduce]:
    """A binary tree of futures, in order: the partial results stay on the workers."""
    with _dask_client() as client:

        def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
            level = client.map(mapper, list(partitions), pure=False)
            while len(level) > 1:
                odd = level[len(level) // 2 * 2 :]
                pairs = zip(level[::2], level[1::2], strict=False)
                level = [client.submit(reducer, a, b, pure=False) for a, b in pairs] + odd
            return level[0].result()

        yield run


@contextmanager
def dask_bag() -> Iterator[MapReduce]:
    """`dask.bag`, four bag partitions a worker: Dask's own way to put many items in a task."""
    with _dask_client():
        import dask.bag

        def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
            bag = dask.bag.from_sequence(partitions, npartitions=WORKERS * 4)
            return bag.map(mapper).fold(reducer).compute()

        yield run


@contextmanager
def lithops_localhost(version: int) -> Iterator[MapReduce]:
    import lithops

    config = {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "localhost": {
            "version": version,
            "worker_processes": WORKERS,
            # its default is the interpreter's bare name, looked up on PATH: maybe another one
            "runtime": sys.executable,
        },
    }

    def run(mapper: Mapper, reducer: Reducer, partitions: Sequence[Any]) -> Any:
        # An executor for each job, about 10 ms: in lithops 3.8.0, the next job of a version 2
        # executor hangs if the last one's job manager has not ended yet (nobody takes its tasks).
        with lithops.FunctionExecutor(config=config, log_level=None) as executor:
            # Nothing is shipped, the mapper is on PYTHONPATH as for every peer: in version 2, one
            # worker may import the shipped module while another is writing the file.
            futures = executor.map(mapper, list(partitions), include_modules=None)
            return functools.reduce(reducer, executor.get_result(futures))

    yield run


PEERS = {
    peer.name: peer
    for peer in (
        Peer("lambdamr", "lambdamr", lambdamr_local, "lambdamr"),
        Peer("serial", "serial fold, one process", serial),
        Peer("by-hand", "two forks by hand (ceiling)", by_hand),
        *(
            Peer(name + suffix, f"{label}, chunksize={chunk}", functools.partial(open_, rule), mod)
            for name, label, open_, mod in (
                ("pool", "Pool.imap", pool_imap, None),
                ("futures", "concurrent.futures", futures_map, None),
                ("loky", "loky", loky_map, "loky"),
                ("pebble", "pebble", pebble_map, "pebble"),
            )
            for suffix, chunk, rule in (
                ("", "1", one_by_one),
                ("-chunked", "n/8", four_a_worker),
            )
        ),
        Peer("dask", "Dask, client.map", dask_fold, "distributed"),
        Peer("dask-tree", "Dask, tree of futures", dask_tree, "distributed"),
        Peer("dask-bag", "Dask, bag of n/8", dask_bag, "distributed"),
        *(
            Peer(
                f"lithops-v{version}",
                f"Lithops localhost v{version}",
                functools.partial(lithops_localhost, version),
                "lithops",
            )
            for version in (1, 2)
        ),
    )
}
