"""A graph of RDataFrame, built from operations and run once, in a worker."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PyRDF import precompiled, results
from PyRDF.cpp import helpers
from PyRDF.operations import Operation, model_of
from PyRDF.source import Slice, Source


@dataclass
class Graph:
    """A graph that was booked on a dataframe.

    Attributes:
        frame: the dataframe.
        actions: (operation, promise of its result), in the order of the results.
        used: the dataframes and models that must live as long.
    """

    frame: Any
    actions: list[tuple[Operation, Any]] = field(default_factory=list)
    used: list[Any] = field(default_factory=list)

    def rebind(self, source: Source, piece: Slice) -> None:
        """Give it other entries, while it has not run."""
        source.rebind(self.frame, piece)

    def compile(self) -> None:
        """Compile all that it needs, and run nothing."""
        import ROOT

        frame = ROOT.RDF.AsRNode(self.frame)
        with precompiled.optimised():
            helpers().Jit(frame)

    def run(self) -> list[Any]:
        """Run it, and take the value of each action."""
        import ROOT

        self.compile()
        ROOT.Internal.RDF.TriggerRun(ROOT.RDF.AsRNode(self.frame))
        return [results.take(operation, promise) for operation, promise in self.actions]


def book(
    source: Source, piece: Slice, operations: Sequence[Operation], number: int, token: str = ""
) -> Graph:
    """Book operations on a range.

    Args:
        source: the dataset.
        piece: its entries.
        operations: parents before children.
        number: of the range; it is in the names of the files of a Snapshot.
        token: makes the names of files unique while they are written.
    """
    frame = source.open(piece)
    graph = Graph(frame)
    nodes = {0: frame}
    varied = any(operation.name == "VariationsFor" for operation in operations)
    for operation in operations:
        if operation.name == "Snapshot":
            path, final = results.paths_of_part(operation.arguments[1], number, token)
            arguments = _snapshot_arguments(path, operation.arguments)
            operation = replace(operation, arguments=arguments, final=final)
        parent = nodes[operation.parent]
        if varied and operation.name == "DefinePerSample" and len(operation.arguments) == 2:
            parent, operation = _through_another(parent, operation)
        node = nodes[operation.number] = _call(parent, operation)
        if operation.kind:
            graph.actions.append((operation, node))
    graph.used = list(nodes.values())
    return graph


def seed(number: int) -> None:
    """Seed ROOT's gRandom."""
    helpers().Seed(number)


def _call(node: Any, operation: Operation) -> Any:
    import ROOT

    arguments, keywords = operation.arguments, operation.keywords or {}
    if operation.name == "VariationsFor":
        return ROOT.RDF.Experimental.VariationsFor(node)
    if operation.kind == "fills":
        model = model_of(arguments, keywords)
        columns = [str(each) for each in arguments if each is not model]
        return node.Fill(helpers().Fills(), columns)
    if operation.name == "Take":
        return node.Take[operation.template](*arguments)
    if operation.name == "AsNumpy":
        keywords = {**keywords, "lazy": True}
    return getattr(node, operation.name)(*arguments, **keywords)


def _through_another(node: Any, operation: Operation) -> tuple[Any, Operation]:
    """A column for each sample, defined by way of another one.

    ROOT 6.40 aborts ("This should never be called") where an action that varies reads such a one.
    """
    name, expression = operation.arguments
    hidden = f"{name}_of_sample_{operation.number}"
    above = node.DefinePerSample(hidden, expression)
    return above, replace(operation, name="Define", arguments=(name, hidden), keywords=None)


def _snapshot_arguments(path: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lazily, and to this file."""
    import ROOT

    tree, _, *more = given
    columns = more[0] if more else ""
    options = copy.deepcopy(more[1]) if len(more) > 1 else ROOT.RDF.RSnapshotOptions()
    options.fLazy = True
    return tree, path, columns, options
