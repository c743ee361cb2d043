"""Results that are drawn while they grow."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from lambdamr.executor import Executor, Pool
from lambdamr.executors.names import resolve
from lambdamr.wire import Answer, Buffer, Item, Ref, Task, decode
from PyRDF import codec, results
from PyRDF.dataframe import Head, ResultProxy
from PyRDF.errors import InputError
from PyRDF.operations import Operation
from PyRDF.partial import Partial, merge

_DRAWABLE = frozenset(
    ("Graph", "GraphAsymmErrors", "Histo1D", "Histo2D", "Histo3D", "Profile1D", "Profile2D")
)

Callback = Callable[[Any], object]


def visualize(drawables: Any, callback: Callback | None = None) -> None:
    """Ask for results to be drawn while they grow.

    Args:
        drawables: results, or a dict of results and callbacks (or None).
        callback: called with each partial result before it is drawn.

    Raises:
        InputError: one cannot be drawn, or is computed already; or they are of several dataframes.
    """
    given = drawables if isinstance(drawables, dict) else dict.fromkeys(drawables)
    heads: set[Head] = set()
    for result, own in given.items():
        if not isinstance(result, ResultProxy) or result._node.operation.name not in _DRAWABLE:
            raise InputError(f"only these can be drawn live: {', '.join(sorted(_DRAWABLE))}")
        if result._node.done:
            raise InputError("LiveVisualize must be called before the result is computed")
        for each in (own, callback):
            if each is not None and _needs(each) != 1:
                raise InputError(
                    f"a callback takes the object that is drawn: {each!r:.60} does not"
                )
        heads.add(result._node.head)
    if len(heads) != 1:
        raise InputError("LiveVisualize takes results of one dataframe")
    (head,) = heads
    head.live = {
        result._node.operation.number: [each for each in (own, callback) if each is not None]
        for result, own in given.items()
    }


def _needs(function: Callback) -> int:
    if not callable(function):
        return -1
    parameters = inspect.signature(function).parameters.values()
    return sum(p.default is p.empty and p.kind in (0, 1) for p in parameters)


class LiveExecutor:
    """Another executor, whose answers are looked at on their way: each adds to what is drawn.

    What is drawn is a copy: the value of the job is folded by the core, in its own order.

    Args:
        executor: runs the tasks.
        order: the actions, in the order of the values.
        callbacks: of those that are drawn, by number.
    """

    def __init__(
        self, executor: Executor | str, order: list[Operation], callbacks: dict[int, list[Callback]]
    ) -> None:
        self._executor = resolve(executor)
        self._order = order
        self._callbacks = callbacks

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Pool]:
        """A pool of the other executor, watched."""
        drawing = Drawing(self._order, self._callbacks)
        try:
            async with self._executor.open() as pool:
                yield _WatchedPool(pool, drawing)
        finally:
            drawing.close()


class _WatchedPool:
    def __init__(self, pool: Pool, drawing: Drawing) -> None:
        self._pool = pool
        self._drawing = drawing

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    @property
    def latency(self) -> float:
        return self._pool.latency

    async def put(self, frame: list[Buffer]) -> Ref:
        return await self._pool.put(frame)

    async def get(self, ref: Ref) -> Buffer:
        return await self._pool.get(ref)

    def discard(self, refs: Iterable[Ref]) -> None:
        self._pool.discard(refs)

    async def recover(self, task: Task) -> Answer | None:
        return await self._pool.recover(task)

    async def run(self, task: Task) -> Answer:
        answer = await self._pool.run(task)
        if task.chunk is not None:
            for item in answer.items:
                if item.ref is not None and self._drawing.wants(item):
                    value = decode(bytes(await self._pool.get(item.ref)))
                    self._drawing.add(item, value)
        return answer


class Drawing:
    """The canvas, and the sum of what came so far."""

    def __init__(self, order: list[Operation], callbacks: dict[int, list[Callback]]) -> None:
        import ROOT

        self._order = order
        self._callbacks = callbacks
        self._seen: set[int] = set()
        self._sum: Partial | None = None
        self._shown: list[Any] = []
        columns = math.ceil(math.sqrt(len(callbacks)))
        self._context = ROOT.TVirtualPad.TContext()
        self._canvas = ROOT.TCanvas("PyRDF", "PyRDF", 800 * columns, 400 * columns)
        self._canvas.Divide(columns, math.ceil(len(callbacks) / columns))

    def wants(self, item: Item) -> bool:
        """Whether none of these partitions is drawn yet (a straggler may be computed twice)."""
        return self._seen.isdisjoint(range(item.lo, item.hi))

    def add(self, item: Item, value: Partial) -> None:
        """Add the values of some partitions, and draw."""
        if not self.wants(item):
            return
        self._seen.update(range(item.lo, item.hi))
        self._sum = value if self._sum is None else merge(self._sum, value)
        pad, self._shown = 0, []
        values = codec.loads(codec.dumps(self._sum.values))
        for operation, each in zip(self._order, values, strict=True):
            if operation.number in self._callbacks:
                pad += 1
                self._canvas.cd(pad)
                drawn = results.finish(operation, each)
                self._shown.append(drawn)
                for callback in self._callbacks[operation.number]:
                    callback(drawn)
                drawn.Draw("AP" if operation.name.startswith("Graph") else "")
        self._canvas.Update()

    def close(self) -> None:
        """Close the canvas."""
        self._shown = []
        self._canvas.Close()
        self._context.__destruct__()
