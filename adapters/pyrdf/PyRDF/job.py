"""Runs a graph: from the dataframe to a job of lambdamr, and its value back to the results."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lambdamr
from lambdamr import LocalExecutor, MapperError, Partitions
from PyRDF import codec, remote, results
from PyRDF.dataframe import Head, Node, RDataFrame, ResultProxy
from PyRDF.errors import IncompleteError, InputError, RangeError
from PyRDF.operations import Operation
from PyRDF.partial import Partial, merge
from PyRDF.registry import REGISTRY
from PyRDF.source import Files, Source, cut
from PyRDF.worker import GraphMapper, Plan

_ENTRY = "rdfentry_"


def run(asked: Node) -> None:
    """Compute a result, and with it all that hang on its dataframe and are wanted.

    Raises:
        RangeError: a range failed.
        IncompleteError: the dataset changed meanwhile.
        LambdamrError: the job could not be done; see ``docs/errors.md``.
    """
    head = asked.head
    with head.lock:
        if asked.done:
            return
        wanted = head.pending(asked)
        nodes = _with_ancestors(wanted)
        operations = tuple(node.operation for node in nodes)
        source = _counting_from_zero(head.source, operations)
        mapper, order = _mapper(source, operations)
        ranges = cut(source, head.engine.partitions(source, head.npartitions))
        try:
            partial = _map_reduce(head, mapper, ranges, order)
            _check(source, partial)
        except Exception:
            for node in wanted:
                node.failed = True
            raise
        _hand_out(head, nodes, order, partial)


def run_graphs(proxies: Any) -> int:
    """Run the graphs of these results, all at once where there is room; how many they are.

    Raises:
        InputError: one is no result of a distributed dataframe.
    """
    proxies = list(proxies)
    for proxy in proxies:
        if not isinstance(proxy, ResultProxy):
            raise InputError(
                f"RunGraphs needs results of distributed dataframes, not {proxy!r:.60}"
            )
    asked = list({id(p._node.head): p._node for p in proxies if not p._node.done}.values())
    if not asked:
        return 0
    here = any(isinstance(node.head.engine.executor, (LocalExecutor, str)) for node in asked)
    with ThreadPoolExecutor(1 if here else len(asked)) as threads:  # this machine is busy with one
        for future in [threads.submit(run, node) for node in asked]:
            future.result()
    return len(asked)


def _with_ancestors(wanted: list[Node]) -> list[Node]:
    found: dict[int, Node] = {}
    for node in wanted:
        above: Node | None = node
        while above is not None and above.parent is not None:
            found[above.operation.number] = above
            above = above.parent
    return [found[number] for number in sorted(found)]


def _counting_from_zero(source: Source, operations: tuple[Operation, ...]) -> Source:
    """``rdfentry_`` is the number of an entry in the dataset, as it is in plain ROOT."""
    if isinstance(source, Files) and not source.whole:
        said = [o.arguments for o in operations], [o.keywords for o in operations]
        if _ENTRY in repr(said):
            if source.ntuple:
                raise InputError(
                    f"{_ENTRY} of an RNTuple would count from each range's first entry"
                )
            return dataclasses.replace(source, whole=True)
    return source


def _mapper(
    source: Source, operations: tuple[Operation, ...]
) -> tuple[GraphMapper, list[Operation]]:
    """The mapper, and the actions in the order of its values."""
    order = [operation for operation in operations if operation.kind]
    try:
        files: list[pickle.PickleBuffer] = []
        setup = REGISTRY.setup()
        plan = codec.dumps(Plan(source, operations, setup), files)
        actions = codec.dumps([dataclasses.replace(o, arguments=(), keywords=None) for o in order])
    except Exception as error:  # pickling meets anything
        for operation in operations:
            _check_sent(operation)
        raise InputError(f"the graph cannot be sent to workers: {error}") from error
    digest = hashlib.blake2b(plan, digest_size=16)
    for file in files:
        digest.update(file)
    if isinstance(source, Files):
        for _, path in source.datasets:
            if remote.on_s3(path):
                digest.update(remote.version(path).encode())
                continue
            try:
                status = os.stat(path)
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            except OSError:
                digest.update(b"?")
    return GraphMapper(plan, files, actions, digest.hexdigest(), setup.loads), order


def _check_sent(operation: Operation) -> None:
    try:
        codec.dumps(operation)
    except Exception as error:
        raise InputError(
            f"{operation.text} cannot be sent to workers: {error}. Give expressions as strings, "
            f"and declare functions with DistributeCppCode"
        ) from error


def _map_reduce(
    head: Head, mapper: GraphMapper, ranges: list[Any], order: list[Operation]
) -> Partial:
    executor = head.engine.executor
    if head.live:
        from PyRDF.live import LiveExecutor

        executor = LiveExecutor(executor, order, head.live)
    try:
        value: Partial = lambdamr.map_reduce(
            mapper, merge, Partitions(ranges), executor=executor, **head.engine.options
        )
    except MapperError as error:
        if isinstance(error.__cause__, RangeError):
            raise error.__cause__ from None
        raise
    finally:  # who has a result finds its report
        for observer in head.engine.options.get("observers", ()):
            if isinstance(observer, lambdamr.Report):
                observer.wait()
    return value


def _check(source: Source, partial: Partial) -> None:
    if isinstance(source, Files):
        entries = sum(partial.counts.values())
        if len(partial.counts) != len(source.datasets) or partial.processed != entries:
            raise IncompleteError(
                f"the dataset has {entries} entries, and {partial.processed} were processed: did "
                f"its files change meanwhile?"
            )
        if not entries:
            names = sorted({name for name, _ in source.datasets})
            raise InputError(f"the dataset ({', '.join(names)}) has no entries in any file")
    elif partial.processed != source.entries:
        raise IncompleteError(f"{partial.processed} of {source.entries} entries were processed")


def _hand_out(head: Head, nodes: list[Node], order: list[Operation], partial: Partial) -> None:
    by_number = {node.operation.number: node for node in nodes}
    for operation, value in zip(order, partial.values, strict=True):
        node = by_number[operation.number]
        parent = by_number.get(operation.parent)
        result = results.finish(operation, value, parent.operation if parent else None)
        if operation.name == "Snapshot":
            paths = [file.path for file in result]
            result = RDataFrame(operation.arguments[0], paths, engine=head.engine)
        node.value, node.done = result, True
