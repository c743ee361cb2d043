"""The dataframe that the user holds: it books operations, and runs them when a result is wanted."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

from PyRDF import remote
from PyRDF.compiler import overheard
from PyRDF.dataset import open_dataset
from PyRDF.engine import MOUNTS, Engine, count
from PyRDF.errors import InputError, reason
from PyRDF.operations import ACTIONS, TRANSFORMATIONS, Operation, kind_of, unsupported
from PyRDF.source import Source

_FORWARDED = frozenset(
    [
        "Describe",
        "Display",
        "GetColumnNames",
        "GetColumnType",
        "GetDefinedColumnNames",
        "GetFilterNames",
        "GetVariations",
        "HasColumn",
    ]
)
"""What the local dataframe answers; for Display it reads the first rows of the dataset here."""
_NOT_TRIED = frozenset(["AsNumpy", "Snapshot", "Take"])
"""Actions that are not tried on the local dataframe: they cost too much."""


class Node:
    """An operation in a graph, and its result once it is known. Held by those that hang on it."""

    def __init__(self, head: Head, operation: Operation, parent: Node | None, local: Any) -> None:
        self.head = head
        self.operation = operation
        self.parent = parent
        self.local = local  # the node of the local dataframe, which never runs
        self.done = False
        self.failed = False
        self.value: Any = None
        head.nodes[operation.number] = self


class Head:
    """A dataset, and the graph that grows on it.

    Attributes:
        nodes: those that somebody holds: what nobody holds is not computed.
    """

    def __init__(self, engine: Engine, npartitions: int | None, arguments: tuple[Any, ...]) -> None:
        self.engine = engine
        self.npartitions = npartitions
        self.arguments = arguments  # a tree given by the user has to live
        frame, source = open_dataset(arguments)
        self.source: Source = source
        self.nodes: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
        self.numbers = itertools.count(1)
        self.root = Node(self, Operation(0, 0, ""), None, frame)
        self.lock = threading.Lock()
        self.live: dict[int, list[Callable[[Any], object]]] = {}  # drawn while they grow

    def pending(self, asked: Node) -> list[Node]:
        """The actions that are not done, in the order in which they were booked.

        Those of a run that failed are left out, but for the one that is asked for: somebody may
        hold them without knowing, as a traceback does.
        """
        nodes = [node for _, node in sorted(self.nodes.items())]
        wanted = [node for node in nodes if node.operation.kind and not node.done]
        return [node for node in wanted if node is asked or not node.failed]


class _Proxy:
    """What the user holds of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node


class NodeProxy(_Proxy):
    """A dataframe: the dataset, or a transformation of it. See ROOT's RDataFrame."""

    def __getattr__(self, name: str) -> Any:
        if name in TRANSFORMATIONS:
            return lambda *arguments, **keywords: self._transform(name, arguments, keywords)
        if name == "Take":
            return _Taker(self)
        if name in ACTIONS:
            return lambda *arguments, **keywords: self._act(name, arguments, keywords)
        if name in _FORWARDED:
            return getattr(self._node.local, name)
        raise unsupported(name, _FORWARDED)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *TRANSFORMATIONS, *ACTIONS, *_FORWARDED})

    def _transform(
        self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> NodeProxy:
        if name == "RedefinePerSample" and not hasattr(self._node.local, name):
            return self._redefine_per_sample(*arguments, **keywords)
        local = _locally(self._node, name, arguments, keywords)
        return NodeProxy(self._add(name, arguments, keywords, "", "", local))

    def _redefine_per_sample(self, name: str, expression: str) -> NodeProxy:
        """ROOT 6.40 does not have it: another column for each sample, and the column made of it."""
        hidden = f"{name}_of_sample_{next(self._node.head.numbers)}"
        defined: NodeProxy = self.DefinePerSample(hidden, expression)
        redefined: NodeProxy = defined.Redefine(name, hidden)
        return redefined

    def _act(
        self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], template: str = ""
    ) -> Any:
        kind = kind_of(name, arguments, keywords)
        if name not in _NOT_TRIED:
            _locally(self._node, name, arguments, keywords)
        instant = name in ("AsNumpy", "Snapshot")
        if name == "AsNumpy":
            keywords = dict(keywords)
            instant = not keywords.pop("lazy", False)
            _check_columns(self._node, arguments, keywords)
            _check_arrays(self._node, arguments, keywords)
        if name == "Snapshot":
            arguments, keywords, instant = _snapshot(arguments, keywords)
            _check_snapshot(self._node, arguments)
        result = ResultProxy(self._add(name, arguments, keywords, kind, template, None))
        return result.GetValue() if instant else result

    def _add(
        self,
        name: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        kind: str,
        template: str,
        local: Any,
    ) -> Node:
        head, parent = self._node.head, self._node
        number = next(head.numbers)
        above = parent.operation.number
        operation = Operation(number, above, name, arguments, keywords, kind, template)
        return Node(head, operation, parent, local)


class RDataFrame(NodeProxy):
    """A distributed dataframe.

    Args:
        arguments: those of ROOT.RDataFrame: a number of entries; the name of a tree or RNTuple
            and its file, glob, or list of files (paths or URLs); a TTree or TChain; an
            RDatasetSpec.
        engine: where it runs.
        npartitions: ranges of the dataset; default: see `PyRDF.engine.Engine.partitions`.

    Raises:
        InputError: there is no such dataset, or it cannot be distributed.
    """

    def __init__(self, *arguments: Any, engine: Engine, npartitions: object = None) -> None:
        super().__init__(Head(engine, count(npartitions), arguments).root)

    @property
    def _headnode(self) -> Any:
        """Where ROOT.RDataFrame(..., executor=...) looks for the local dataframe."""
        return SimpleNamespace(rdf_node=self._node.local)


class ResultProxy(_Proxy):
    """A result that is computed when it is first used; its methods are those of the value."""

    def GetValue(self) -> Any:  # as in ROOT
        """The value. Runs all actions of the graph that are wanted and not done."""
        if not self._node.done:
            from PyRDF.job import run

            run(self._node)
        return self._node.value

    GetPtr = GetValue

    def IsReady(self) -> bool:
        """Whether the value is there."""
        return self._node.done

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a notebook looks for _repr_html_ and the like: not a wish to run
            raise AttributeError(name)
        return getattr(self.GetValue(), name)

    def __iter__(self) -> Any:
        return iter(self.GetValue())

    def __len__(self) -> int:
        return len(self.GetValue())

    def __bool__(self) -> bool:  # as in ROOT; Python would ask for the length
        return True

    def __getitem__(self, key: Any) -> Any:
        return self.GetValue()[key]

    def __repr__(self) -> str:
        return (
            f"<result of {self._node.operation.text}{'' if self._node.done else ', not computed'}>"
        )


def variations_for(result: Any) -> ResultProxy:
    """The values of an action under all variations that were booked with Vary.

    Raises:
        InputError: this is no result of a distributed dataframe, or it is computed already.
    """
    if not isinstance(result, ResultProxy):
        raise InputError(
            f"VariationsFor needs a result of a distributed RDataFrame, not {result!r:.60}"
        )
    node = result._node
    if node.done:
        raise InputError("VariationsFor must be called before the result is computed")
    if node.operation.kind in ("report", "take", "asnumpy", "snapshot"):
        raise InputError(f"{node.operation.name} has no variations")
    number, above, kind = next(node.head.numbers), node.operation.number, node.operation.kind
    operation = Operation(number, above, "VariationsFor", kind=kind)
    return ResultProxy(Node(node.head, operation, node, None))


class _Taker:
    """``df.Take["float"]("x")``, or ``df.Take("x")`` for the type of the column."""

    def __init__(self, proxy: NodeProxy, template: str = "") -> None:
        self._proxy = proxy
        self._template = template

    def __getitem__(self, template: Any) -> _Taker:
        kind = template[0] if isinstance(template, tuple) else template
        name = getattr(kind, "__cpp_name__", None) or getattr(kind, "__name__", None) or str(kind)
        return _Taker(self._proxy, name)

    def __call__(self, column: str) -> Any:
        node = self._proxy._node
        _check_columns(node, ([column],), {})
        template = self._template or str(node.local.GetColumnType(column))
        return self._proxy._act("Take", (column,), {}, template)


def _locally(node: Node, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Book it on the local dataframe: what is wrong shows here, before anything is sent."""
    copies = [_copied(each) for each in arguments]
    named = {key: _copied(each) for key, each in keywords.items()}
    try:
        with overheard():
            return getattr(node.local, name)(*copies, **named)
    except Exception as error:  # C++ raises anything
        call = Operation(0, 0, name, arguments).text
        raise InputError(f"{call} cannot be booked: {reason(error)}") from error


def _copied(argument: Any) -> Any:
    """Of a function a copy: ROOT hangs what it compiled on it, which could not be sent."""
    if not isinstance(argument, FunctionType):
        return argument
    f = argument
    return FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)


def _check_columns(node: Node, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    columns = keywords.get("columns") or (arguments[0] if arguments else None) or []
    if isinstance(columns, str):
        raise InputError(f"columns must be a list of names: [{columns!r}]")
    for column in columns:
        if not node.local.HasColumn(str(column)):
            known = ", ".join(str(name) for name in node.local.GetColumnNames())
            raise InputError(f"there is no column {str(column)!r}; known are {known}")


def _check_arrays(node: Node, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    columns, exclude = (*arguments, None, None)[:2]
    exclude = keywords.get("exclude") or exclude or ()
    for column in keywords.get("columns") or columns or node.local.GetColumnNames():
        name = str(column)
        if name not in exclude and str(node.local.GetColumnType(name)) in ("char", "Char_t"):
            raise InputError(
                f"ROOT makes no array of the column {name!r}, whose type is char. Define an int "
                f"of it, or leave it out: AsNumpy(exclude=[{name!r}])"
            )


def _check_snapshot(node: Node, arguments: tuple[Any, ...]) -> None:
    filename, columns = (*arguments[1:], "")[:2]
    if not isinstance(columns, str):  # that would be a regular expression
        _check_columns(node, (list(columns),), {})
    if node.head.engine.elsewhere and not filename.startswith(("s3://", MOUNTS)):
        raise InputError(
            f"the functions of AWS Lambda would write {filename} on disks of their own, where it "
            f"is lost; write to s3://bucket/name.root, or below {MOUNTS} if a file system is there"
        )


def _snapshot(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """All arguments by position, and whether it is to run at once."""
    import os

    names = ("treename", "filename", "columnList", "options")
    given = dict(zip(names, arguments, strict=False))
    for name, value in keywords.items():
        given["columnList" if name.startswith("column") else name] = value
    if unknown := set(given) - set(names):
        raise InputError(f"Snapshot has no argument {', '.join(sorted(unknown))}")
    if not {"treename", "filename"} <= set(given):
        raise InputError("Snapshot needs the name of a tree and a file")
    given["filename"] = str(given["filename"])
    if remote.on_network(given["filename"]):
        raise InputError(
            f"Snapshot writes local files and objects (s3://bucket/name), not {given['filename']!r}"
        )
    if not remote.on_s3(given["filename"]):
        given["filename"] = os.path.abspath(given["filename"])
    options = given.get("options")
    lazy = False
    if options is not None:
        lazy = bool(options.fLazy)
        if str(options.fMode).upper() == "UPDATE":
            raise InputError(
                "Snapshot in UPDATE mode cannot be distributed: ranges write files of their own"
            )
        given.setdefault("columnList", "")
    return tuple(given[name] for name in names if name in given), {}, not lazy
