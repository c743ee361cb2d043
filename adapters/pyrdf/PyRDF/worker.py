"""The mapper: runs a graph over one range, where a task was sent.

In a process with a single thread the graph is compiled once, and each range runs in a child that is
forked from there (`PyRDF.isolation`). If the graph is one of strings, and the library of
`PyRDF.precompiled` is there, Python sees nothing of ROOT meanwhile (`PyRDF.native`). Elsewhere (a
thread of Dask, the user's own process) each range books a graph of its own: ROOT's own backends
clone the actions of one that has run, which in 6.40 gives wrong counts (HistoND) or a crash
(Report).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambdamr.wire import Buffer, decode, encode
from PyRDF import codec, graph, isolation, native, warm
from PyRDF.compiler import CompilationError, overheard
from PyRDF.errors import RangeCrashedError, RangeError, reason
from PyRDF.operations import Operation
from PyRDF.partial import Partial
from PyRDF.resources import Setup
from PyRDF.source import Files, Range, Slice, Source, copy_structure, forget_files

_REMEMBERED = 4  # graphs that stay compiled, some 10 MB each
_FIRST_SEED = 4357  # of ROOT's gRandom; so the first range draws what plain ROOT does


@dataclass(frozen=True)
class Plan:
    """All that a worker has to know: the dataset, what to do with it, and what that needs."""

    source: Source
    operations: tuple[Operation, ...]
    setup: Setup


class GraphMapper:
    """Runs the graph of a plan over a range.

    Args:
        plan: pickled (`PyRDF.codec`).
        buffers: of the plan: what is in the files of the user, and large arrays.
        actions: pickled, the operations that have results.
        digest: of the plan and of the state of its files.
        loads: whether a process that runs it loads code of the user, and keeps it.
    """

    def __init__(
        self,
        plan: bytes,
        buffers: list[pickle.PickleBuffer],
        actions: bytes,
        digest: str,
        loads: bool = False,
    ) -> None:
        self._plan = plan
        self._buffers = buffers
        self._actions = actions
        self._digest = digest
        self._loads = loads
        self._home = _PROCESS  # of the user

    def __call__(self, part: Range) -> Partial:
        """The values of a range.

        Raises:
            RangeError: says which range, and why.
        """
        if isolation.threads() != 1:
            with _one_at_a_time:
                return self._here(part)
        own = self._home == _PROCESS
        by_deputy = self._loads and not own
        answered = decode(self._by_deputy(part) if by_deputy else self._by_child(part, own))
        if isinstance(answered, Exception):
            raise answered
        assert isinstance(answered, Partial)
        return answered

    def _by_deputy(self, part: Range) -> bytearray:
        """In a process that can be replaced: were it this one, that would cost an attempt."""
        for _ in range(2):
            try:
                return self._ask(part)
            except isolation.Outdated:
                _deputies.clear()
            except isolation.Crashed as crash:
                _deputies.clear()
                raise RangeCrashedError(f"range {part.number}: {crash}") from None
            except BaseException:  # it is gone
                _deputies.clear()
                raise
        os._exit(isolation.OUTDATED)  # what is wrong was in this process before

    def _ask(self, part: Range) -> bytearray:
        now = tempfile.tempdir, dict(os.environ)  # tasks on Lambda have their own
        known = self._digest, self._actions, part, now
        if _deputies:
            answer = _deputies[0].ask(encode((*known, ())))
            if answer:
                return answer
        else:
            _deputies.append(isolation.Deputy(_serve))
        plan: list[Any] = [self._plan, *self._buffers]
        return _deputies[0].ask(encode((*known, [*map(pickle.PickleBuffer, plan)])))

    def _by_child(self, part: Range, own: bool) -> bytearray:
        compiled = _compiled(self._digest, self._load, part, own)
        with compiled.plan.setup.entered():
            return self._in_child(compiled, part)

    def _in_child(self, compiled: _Compiled, part: Range) -> bytearray:
        source = compiled.plan.source
        piece = None
        if not compiled.remote:
            with _named(part, None, source):
                piece = source.slice(part)

        def answer() -> list[Buffer]:
            compiled.booker.seed(_FIRST_SEED + part.number)
            try:
                return encode(self._run(compiled, part, piece))
            except RangeError as error:
                return encode(error)

        try:
            return isolation.in_child(answer)
        except isolation.Crashed as crash:
            where = "" if piece is None else f" ({source.where(piece)})"
            raise RangeCrashedError(f"range {part.number}{where}: {crash}") from None

    def _load(self) -> Plan:
        plan: Plan = codec.loads(self._plan, self._buffers)
        return plan

    def _here(self, part: Range) -> Partial:
        import ROOT

        ROOT.EnableThreadSafety()
        plan = self._load()
        with plan.setup.entered():
            with _named(part, None, plan.source):
                plan.setup.apply()
            with _in_order():
                return self._run(_Compiled(plan, graph, None, False), part, None)

    def _run(self, compiled: _Compiled, part: Range, piece: Slice | None) -> Partial:
        plan, booked = compiled.plan, compiled.booked
        with _named(part, piece, plan.source) as progress:
            if piece is None:
                piece = progress.piece = plan.source.slice(part)
            opened = piece if piece.entries else plan.source.nothing()
            if booked is not None:
                booked.rebind(plan.source, opened)
            else:
                if _spoiled:
                    raise RuntimeError(_SPOILED)
                token = secrets.token_hex(4)
                with _compiling():
                    booked = compiled.booker.book(
                        plan.source, opened, plan.operations, part.number, token
                    )
                    booked.compile()
            return Partial(self._actions, booked.run(), (), piece.entries, piece.counts)


def _serve(request: bytearray) -> list[Buffer]:
    """What a deputy answers: the values of a range, an error, or nothing: it needs the plan."""
    digest, actions, part, (tempfile.tempdir, environment), sent = decode(request)
    _follow(environment)
    if not sent and digest not in _known:
        return []
    plan, *buffers = sent or (b"",)
    try:
        return [GraphMapper(plan, buffers, actions, digest)._by_child(part, own=False)]
    except RangeError as error:
        return encode(error)
    except Exception as error:  # of the disk, say
        return encode(RangeError(f"range {part.number}: {reason(error)}"))


def _follow(environment: dict[str, str]) -> None:
    """Change what has changed in the worker; what a function of the user has set here stays."""
    before = dict(_environment) or environment
    for name in before.keys() - environment.keys():
        os.environ.pop(name, None)
    os.environ.update(environment.items() - before.items())
    _environment.clear()
    _environment.update(environment)


_deputies: list[isolation.Deputy] = []  # one at most
_environment: dict[str, str] = {}  # in a deputy: that of the worker when it asked last


# -- compiled graphs -----------------------------------------------------------------------------


@dataclass
class _Compiled:
    plan: Plan
    booker: Any  # the module that books its graph: `PyRDF.native` or `PyRDF.graph`
    booked: Any  # a graph that has not run, to be given a range in a child; None: book it there
    remote: bool


_PROCESS = secrets.token_hex(8)
"""Of this process, and of those that are forked from it."""

_known: OrderedDict[str, _Compiled] = OrderedDict()
_spoiled: list[CompilationError] = []
_one_at_a_time = threading.Lock()


def _compiled(digest: str, load: Callable[[], Plan], part: Range, own: bool) -> _Compiled:
    """The graph of a plan, compiled; ``own``: in the process of the user."""
    known = _known.get(digest)
    if known and (known.booked or not _spoiled):
        _known.move_to_end(digest)
        return known
    if _spoiled and own:
        raise RangeError(f"range {part.number}: {_SPOILED}")
    if _spoiled:
        os._exit(isolation.OUTDATED)  # a fresh process tries again
    forget_files()
    plan = load()
    remote = isinstance(plan.source, Files) and plan.source.remote
    with _named(part, None, plan.source):
        compiled = _Compiled(plan, _booker(plan), None, remote)
    with _named(part, None, plan.source, _ADVICE), _compiling(), plan.setup.entered():
        plan.setup.apply(replaceable=not own)
        if not remote:
            compiled.booked = _compile(plan, compiled.booker)
        elif isinstance(plan.source, Files) and plan.source.rebinds and not plan.source.friends:
            with tempfile.TemporaryDirectory(prefix="pyrdf-") as folder:
                skeleton = _skeleton(plan.source, f"{folder}/skeleton.root")
                compiled.booked = _compile(replace(plan, source=skeleton), compiled.booker)
    _known[digest] = compiled
    if len(_known) > _REMEMBERED:
        _known.popitem(last=False)
    return compiled


@contextlib.contextmanager
def _compiling() -> Any:
    """After a graph that does not compile, ROOT 6.40 compiles no new ones in this process."""
    try:
        with overheard():
            yield
    except CompilationError as error:
        _spoiled.append(error)
        raise


_SPOILED = (
    "a graph did not compile before, and ROOT 6.40 compiles no new ones in this process since "
    "then: restart it (the kernel; for Dask client.restart())"
)


def _booker(plan: Plan) -> Any:
    """The module that books the graph of a plan, ready to do it."""
    if not native.available():
        return graph
    if native.takes(plan.operations):
        native.start()
        return native
    warm.start_python()
    return graph


def _skeleton(source: Files, path: str) -> Files:
    """The first tree without its entries, in a local file: enough to compile for.

    A child looks at the remote file, whose client has threads, which do not survive a fork.
    """

    def copy() -> list[Buffer]:
        try:
            copy_structure(*source.datasets[0], path)
        except Exception as error:
            return encode(reason(error))
        return encode("")

    if failed := decode(isolation.in_child(copy)):
        raise RuntimeError(f"{source.datasets[0][1]}: {failed}")
    name = source.datasets[0][0]
    return replace(source, datasets=((name, path),), samples=source.samples[:1])


def _compile(plan: Plan, booker: Any) -> Any:
    """Run the graph over nothing, so that all of it is compiled; then book a fresh one."""
    booker.seed(_FIRST_SEED)  # or each child compiles the call
    with tempfile.TemporaryDirectory(prefix="pyrdf-") as folder:
        operations = tuple(_elsewhere(operation, Path(folder)) for operation in plan.operations)
        values = booker.book(plan.source, plan.source.nothing(), operations, 0).run()
        codec.loads(codec.dumps(values))
    if not plan.source.rebinds or any(o.name == "Snapshot" for o in plan.operations):
        return None
    booked = booker.book(plan.source, plan.source.nothing(), plan.operations, 0)
    booked.compile()
    return booked


def _elsewhere(operation: Operation, folder: Path) -> Operation:
    """A Snapshot that nobody sees."""
    if operation.name != "Snapshot":
        return operation
    tree, path, *more = operation.arguments
    hidden = str(folder / f"{operation.number}-{Path(path).name}")
    return Operation(
        operation.number,
        operation.parent,
        operation.name,
        (tree, hidden, *more),
        operation.keywords,
        operation.kind,
    )


@contextlib.contextmanager
def _in_order() -> Any:
    """No implicit multithreading, which takes entries in another order each time."""
    import ROOT

    threads = ROOT.GetThreadPoolSize() if ROOT.IsImplicitMTEnabled() else 0
    if not threads:
        yield
        return
    ROOT.DisableImplicitMT()
    try:
        yield
    finally:
        ROOT.EnableImplicitMT(threads)


# -- errors --------------------------------------------------------------------------------------


@dataclass
class _Progress:
    piece: Slice | None


@contextlib.contextmanager
def _named(part: Range, piece: Slice | None, source: Source, advice: str = "") -> Any:
    """Whatever is raised here becomes an error that names the range, and that can travel."""
    progress = _Progress(piece)
    try:
        yield progress
    except RangeError:
        raise
    except BaseException as error:  # C++ and the user's code raise anything
        if isinstance(error, KeyboardInterrupt):
            raise
        where = f" ({source.where(progress.piece)})" if progress.piece else ""
        said = reason(error)
        if not _UNKNOWN.search(said):
            advice = ""
        raise RangeError(f"range {part.number}{where}: {said}{advice}") from None


_UNKNOWN = re.compile("undeclared identifier|unknown type|no (member|type|template) named")
_ADVICE = (
    "\nIf this names a function or class of yours: what was declared in your process only is not "
    "known to the workers; use PyRDF.DistributeCppCode or PyRDF.include_headers"
)
