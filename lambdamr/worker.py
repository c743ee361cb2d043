"""Evaluates a task where it was sent. Imports little: a cold Lambda pays for every import."""

from __future__ import annotations

import pickle
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from lambdamr.travel import modules
from lambdamr.travel.answers import encode_value, failure_of
from lambdamr.tree import EMPTY, Fold, FoldError
from lambdamr.wire import (
    Answer,
    Buffer,
    Failure,
    FailureKind,
    Item,
    Ref,
    Stats,
    Task,
    decode,
    frame_size,
)

_REMEMBERED = 8  # jobs at a time whose functions stay loaded,
_LOADED = 64 << 20  # as long as they have no more bytes than this; one job may have more
_OWN = 64 << 20  # bytes of a task's values that are kept for a next task, which may fold them

Sources = dict[str, modules.Source]
Functions = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class Store(Protocol):
    """Where a worker finds and leaves values that are too large to travel inline."""

    inline: int
    """Frames up to so many bytes travel inline."""

    def read(self, key: str) -> Buffer:
        """The frame under ``key``, writable if that costs nothing."""

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        """Keep a frame, and return its key."""


class Worker:
    """Evaluates tasks, and remembers the functions of the jobs they belong to.

    Each job loads its own: a function may change what it refers to, and no job may find what
    another one left there.

    Args:
        store: for large values; None: all travel inline.
        name: what reports call this worker.
        imports: whether local modules are imported from the job's sources; not in the process of
            the driver, which has them.

    Attributes:
        cold: nothing has run here yet.
    """

    def __init__(self, store: Store | None, name: str, *, imports: bool = True) -> None:
        self._store = store
        self._imports = imports
        self._name = name
        self._functions: OrderedDict[str, tuple[Sources, int, Functions, int]] = OrderedDict()
        self.cold = True
        self._last: _Evaluation | None = None

    def evaluate(self, task: Task) -> Answer:
        """Map and fold what the task says. Exceptions of the user's functions become data."""
        started, cpu = time.perf_counter(), time.process_time()
        own = self._last.stored if self._last else {}
        self._last = evaluation = _Evaluation(task, self._store, own)
        try:
            evaluation.run(*self._load(task, evaluation))
        except Exception as error:
            evaluation.fail("loading", task.lo, task.hi, error)
        items = evaluation.leave()
        stats = Stats(
            worker=self._name,
            wall=time.perf_counter() - started,
            cpu=time.process_time() - cpu,
            storing=evaluation.storing,
            fetching=evaluation.fetching,
            peak_memory=_peak_memory(),
            bytes_in=evaluation.bytes_in,
            bytes_out=evaluation.bytes_out,
            cold=self.cold,
        )
        self.cold = False
        return Answer(items, evaluation.stopped, evaluation.failure, stats)

    def forget(self, everything: bool = False) -> None:
        """Free the values of the last task, but those that the next may want, if they are small.

        It takes time: send the answer first.
        """
        if self._last is not None:
            self._last.forget()
        if everything:
            self._last = None

    def end_job(self) -> None:
        """No other job is under way: free all that was for this one."""
        self.forget(everything=True)
        self._functions.clear()

    def _load(self, task: Task, evaluation: _Evaluation) -> Functions:
        known = self._functions.get(task.job)
        if known is None or _install(known[0]) != known[1]:
            sources, pickled, buffers = evaluation.read(task.functions)
            sources = sources if self._imports else {}
            generation = _install(sources)
            functions = pickle.loads(pickled, buffers=buffers)
            size = task.functions.size
            known = self._functions[task.job] = (sources, generation, functions, size)
            self._functions.move_to_end(task.job)
            self._evict()
        self._functions.move_to_end(task.job)
        return known[2]

    def _evict(self) -> None:
        """Forget the functions that were used longest ago, if there are too many."""
        sizes = [size for *_, size in self._functions.values()]
        while len(sizes) > 1 and (len(sizes) > _REMEMBERED or sum(sizes) > _LOADED):
            self._functions.popitem(last=False)
            del sizes[0]


class _Evaluation:
    """One task under way: what was folded so far, and what went wrong."""

    def __init__(self, task: Task, store: Store | None, own: dict[str, Any]) -> None:
        self._task = task
        self._store = store
        self._own = own  # values that this worker made and stored in its last task
        self.stored: dict[str, Any] = {}  # and in this one
        self._fold: Fold | None = None
        self.stopped = task.lo
        self.failure: Failure | None = None
        self.storing = self.fetching = 0.0
        self.bytes_in = self.bytes_out = 0

    def run(self, mapper: Callable[[Any], Any], reducer: Callable[[Any, Any], Any]) -> None:
        task = self._task
        self._fold = fold = Fold(task.npartitions, task.fan_in, reducer)
        try:
            if task.chunk is not None:
                self._map(mapper, task.chunk, fold)
            else:
                self._merge(reducer, fold)
        except FoldError as error:
            self.stopped = error.hi
            assert error.__cause__ is not None
            self.fail("reducer", error.lo, error.hi, error.__cause__)

    def _map(self, mapper: Callable[[Any], Any], ref: Ref, fold: Fold) -> None:
        task, push, clock = self._task, fold.push, time.perf_counter
        chunk = self.read(ref)
        deadline = clock() + task.budget if task.budget is not None else float("inf")
        for partition in range(task.lo, task.hi):
            try:
                value = mapper(chunk[partition])
            except (Exception, SystemExit) as error:
                self.stopped = partition
                self.fail("mapper", partition, partition + 1, error)
                return
            push(partition, partition + 1, value)
            if clock() > deadline:
                self.stopped = partition + 1
                return
        self.stopped = task.hi

    def _merge(self, reducer: Callable[[Any, Any], Any], fold: Fold) -> None:
        task = self._task
        for item in task.items:
            value = EMPTY if item.ref is None else self.read(item.ref)
            if task.initial is not None and value is not EMPTY:
                try:
                    value = reducer(self.read(task.initial), value)
                except (Exception, SystemExit) as error:
                    raise FoldError(item.lo, item.hi) from error
            fold.push(item.lo, item.hi, value)
        self.stopped = task.hi

    def leave(self) -> tuple[Item, ...]:
        """Send or store what was folded."""
        items = []
        for lo, hi, value in self._fold.items() if self._fold else ():
            if value is EMPTY:
                items.append(Item(lo, hi, None))
                continue
            try:
                items.append(Item(lo, hi, self._write(lo, hi, value)))
            except Exception as error:
                self.fail("result", lo, hi, error)
        return tuple(items)

    def fail(self, kind: FailureKind, lo: int, hi: int, error: BaseException) -> None:
        """Turn an exception into data; the first one of a task is the one that counts."""
        if self.failure is None:
            self.failure = failure_of(kind, lo, hi, error)

    def read(self, ref: Ref) -> Any:
        if ref.key in self._own:
            return self._own.pop(ref.key)
        started = time.perf_counter()
        frame: Buffer | None = ref.data
        if self._store is not None and ref.key is not None:
            frame = self._store.read(ref.key)
        assert frame is not None
        elapsed = time.perf_counter() - started
        self.storing += elapsed
        self.fetching += elapsed
        self.bytes_in += ref.size
        return decode(frame)

    def _write(self, lo: int, hi: int, value: Any) -> Ref:
        frame = encode_value(value)
        size = frame_size(frame)
        self.bytes_out += size
        if self._store is None or size <= self._store.inline:
            return Ref(size, data=b"".join(frame))
        started = time.perf_counter()
        key = self._store.write(self._task, lo, hi, frame)
        self.storing += time.perf_counter() - started
        if self.bytes_out <= _OWN:
            self.stored[key] = value
        return Ref(size, key=key)

    def forget(self) -> None:
        """Free all but what was stored."""
        self._fold = None
        self._own = {}


def _install(sources: Sources) -> int:
    return modules.install(sources) if sources else 0  # who needs none is not concerned


def _peak_memory() -> int:
    """The largest resident set of this process so far, in bytes."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
