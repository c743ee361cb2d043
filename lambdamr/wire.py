"""What travels between driver and workers: tasks, answers, refs, and the framing of values.

Named tuples, as they are made, pickled and imported faster than frozen dataclasses.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from lambdamr.errors import IntegrityError

Buffer: TypeAlias = "bytes | bytearray | memoryview"

_HEAD = struct.Struct("<4sIQ")  # magic, number of buffers, length of the pickle
_MAGIC = b"LMR1"
_ALIGN = 64  # bytes; a cache line, and what numpy's SIMD loops like


class Ref(NamedTuple):
    """A value somewhere: its frame inline in ``data``, or under ``key`` in the executor's store."""

    size: int  # bytes of the frame
    data: bytes | None = None
    key: str | None = None


class Item(NamedTuple):
    """The folded value of the partitions ``lo <= i < hi``; no ref if all of them failed."""

    lo: int
    hi: int
    ref: Ref | None


class Task(NamedTuple):
    """Work for one worker: map and fold the partitions ``lo <= i < hi``, or fold ``items``.

    Attributes:
        job: the job's id; what a task stores carries it in the key.
        id: unique in the job; copies and retries of a task have ids of their own.
        chunk: the frame of a `lambdamr.partition.Chunk`; None for a task that only folds.
        budget: seconds after which the task stops at the next partition and answers with what
            it has; None for no limit.
        rung: how often this work ran out of memory: the step of the memory ladder to use.
        initial: the value to put before the fold of ``items``.
    """

    job: str
    id: int
    lo: int
    hi: int
    npartitions: int
    fan_in: int
    functions: Ref
    chunk: Ref | None = None
    items: tuple[Item, ...] = ()
    initial: Ref | None = None
    budget: float | None = None
    rung: int = 0


FailureKind = Literal["mapper", "reducer", "memory", "result", "loading"]


class Failure(NamedTuple):
    """An exception in a worker, as data."""

    kind: FailureKind
    lo: int
    hi: int
    message: str
    types: tuple[str, ...]  # the qualified names of the exception's class and its bases
    traceback: tuple[Any, ...]  # see lambdamr.travel.tracebacks
    exception: bytes | None  # its frame, if it pickles

    def __str__(self) -> str:
        return self.message


class Stats(NamedTuple):
    """What a task used, measured by the worker.

    Times in seconds, sizes in bytes, cost in USD.
    """

    worker: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    storing: float = 0.0  # part of wall: reading from and writing to the store
    fetching: float = 0.0  # part of storing: reading
    starting: float = 0.0  # before wall: the start of a cold worker, if its engine tells
    peak_memory: int = 0
    memory: int = 0  # that the worker was given; 0 if there is no limit, or it is not known
    bytes_in: int = 0
    bytes_out: int = 0
    cold: bool = False
    cost: float = 0.0


class Answer(NamedTuple):
    """What a worker made of a task: values of partitions, up to ``stopped``."""

    items: tuple[Item, ...]
    stopped: int  # the first partition that was not tried: task.hi if all were
    failure: Failure | None = None
    stats: Stats = Stats()


def encode(value: Any, pickler: Any = pickle) -> list[Buffer]:
    """The frame of a value, as buffers to be written one after the other.

    Large buffers (arrays) are not copied: they are views of the value's own memory.
    """
    pickled: list[pickle.PickleBuffer] = []
    body = pickler.dumps(value, protocol=5, buffer_callback=pickled.append)
    raw = [buffer.raw() for buffer in pickled]
    head = _HEAD.pack(_MAGIC, len(raw), len(body))
    lengths = struct.pack(f"<{len(raw)}Q", *(view.nbytes for view in raw))
    frame: list[Buffer] = [head + lengths, body]
    at = len(head) + len(lengths) + len(body)
    for view in raw:
        padding = -at % _ALIGN
        frame += [bytes(padding), view]
        at += padding + view.nbytes
    return frame


def decode(frame: Buffer) -> Any:
    """The value of a frame that this job wrote. Arrays share the frame's memory if it is writable.

    Raises:
        IntegrityError: these bytes are no whole frame.
    """
    view = memoryview(frame).cast("B")
    body, *buffers = spans(view)
    if buffers and view.readonly:  # reducers may change arrays in place
        view = memoryview(bytearray(view))
    return pickle.loads(view[slice(*body)], buffers=[view[a:b] for a, b in buffers])


def spans(frame: Buffer) -> list[tuple[int, int]]:
    """Where the pickle of a frame begins and ends, and where each of its buffers does.

    Raises:
        IntegrityError: these bytes are no whole frame.
    """
    view = memoryview(frame)
    try:
        magic, count, length = _HEAD.unpack_from(view)
        lengths = struct.unpack_from(f"<{count}Q", view, _HEAD.size) if magic == _MAGIC else ()
    except struct.error:
        raise IntegrityError("a value arrived torn: it ends within its header") from None
    at = _HEAD.size + 8 * count
    found = [(at, at + length)]
    for nbytes in lengths:
        at = found[-1][1] + -found[-1][1] % _ALIGN
        found.append((at, at + nbytes))
    if magic != _MAGIC or len(view) != found[-1][1]:
        raise IntegrityError(
            f"a value arrived torn or foreign: {len(view)} bytes with header {magic!r}; "
            f"if driver and workers differ in their lambdamr, make them the same"
        )
    return found


def frame_size(frame: Sequence[Buffer]) -> int:
    """The length of a frame in bytes."""
    return sum(memoryview(part).nbytes for part in frame)
