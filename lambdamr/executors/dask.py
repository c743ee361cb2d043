"""On a Dask cluster that exists: partial results stay on its workers.

A pool has a Dask client of its own, in the job's event loop: it works whatever loop or thread the
user's client lives in, touches none of its futures, and when it goes, however it goes, the
scheduler forgets all that the job kept.

A large value is a Dask future, and Dask knows how it was made: if the worker that keeps it dies,
Dask makes it again. `_evaluate` makes the values of a task, `_answer` tells the driver of them, and
each `_item` is one of them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import ctypes
import functools
import queue
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from lambdamr import __version__
from lambdamr.errors import BrokenExecutorError, InputTypeError
from lambdamr.retry import Broken, Lost, OutOfMemory, TaskFailed
from lambdamr.wire import Answer, Buffer, Ref, Task, decode, encode
from lambdamr.worker import Worker

try:
    from distributed import Client, Future, KilledWorker, WorkerPlugin, get_worker
except ImportError as error:
    raise ImportError(
        "DaskExecutor needs Dask: pip install 'lambdamr[dask]'", name=error.name
    ) from error

if TYPE_CHECKING:
    Kept: TypeAlias = Future[Any]

INLINE = 32 << 10
"""Bytes; larger values stay on the workers."""

_PIECE = 4 << 20  # bytes; Dask warns of messages to its scheduler that are larger than 10 MB
_ECHO = 0.05  # seconds after which the scheduler is asked again whether it hears us
_OURS = (__version__, sys.version_info[:2])
_ADVICE = "Install the same lambdamr and Python where the driver, the scheduler and the workers run"


class DaskExecutor:
    """Runs tasks on the workers of a Dask cluster.

    The scheduler keeps the data and the functions that it hands out until the job ends, so that it
    can make lost values again: of much data, hand out the names of the files.

    Args:
        client: a `distributed.Client` that is connected, synchronous or not, in any event loop or
            thread. It says where the cluster is and how to talk to it; nothing is run on it.
        patience: seconds that the cluster may be without any worker before the job ends with
            `BrokenExecutorError`; default 60.

    Raises:
        InputTypeError: this is no client.
    """

    def __init__(self, client: Client, *, patience: float = 60.0) -> None:
        if not isinstance(client, Client):
            raise InputTypeError(
                f"client must be a distributed.Client, not {type(client).__name__}; of a cluster "
                f"or an address make one: DaskExecutor(distributed.Client(cluster_or_address))"
            )
        if isinstance(patience, bool) or not isinstance(patience, (int, float)):
            raise InputTypeError(f"patience must be a number of seconds, not {patience!r:.60}")
        self._client = client
        self._patience = patience

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[DaskPool]:
        """A pool on the cluster that the client is connected to."""
        given = self._client
        if given.status != "running" or given.scheduler is None:
            raise BrokenExecutorError(
                f"the Dask client is {given.status}, not connected; make another one "
                f"(an asynchronous one is connected once it was awaited)"
            )
        client = Client(
            given.scheduler.address,
            asynchronous=True,
            set_as_default=False,
            security=given.security,
            direct_to_workers=given.direct_to_workers,
            name="lambdamr",
        )
        try:
            try:
                await client
                await self._check(client)
            except (OSError, ImportError) as error:
                raise BrokenExecutorError(
                    f"the Dask scheduler does not answer: {error}. If it lives in an event loop "
                    f"of this thread, which map_reduce(...) stops, await amap_reduce(...) there"
                ) from error
            pool = DaskPool(client, self._patience)
            async with pool.listening():
                yield pool
        finally:
            await client.close()

    async def _check(self, client: Client) -> None:
        """Are the workers of a Python to which functions can be sent?"""
        with contextlib.suppress(TimeoutError):  # a worker that is too busy to tell may be
            async with asyncio.timeout(self._patience):
                source = "__import__('sys').version_info[:2]"
                pythons = await client.run(eval, source, on_error="ignore")
                for address, python in pythons.items():
                    if python != _OURS[1]:
                        raise BrokenExecutorError(
                            f"the Dask worker {address} runs Python {python}, the driver "
                            f"{_OURS[1]}: functions cannot be sent. {_ADVICE}"
                        )


class DaskPool:
    """What one job has on the cluster."""

    latency = 0.01

    def __init__(self, client: Client, patience: float) -> None:
        self.capacity = 1
        self._client = client
        self._patience = patience
        self._name = secrets.token_hex(8)
        self._puts = 0
        self._values: dict[str, list[Kept]] = {}
        self._running: dict[Any, Kept] = {}  # tasks, by their keys in Dask
        self._killed: dict[Any, str] = {}  # the worker that died while it ran the task
        self._awaited: dict[object, Kept] = {}
        self._broken = ""
        self._counting = asyncio.Lock()  # or a late answer undoes what a newer one said
        self._alarm: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear of workers that come and go."""
        self._client.subscribe_topic("all", self._hear)
        try:
            await self._heard()
            await self._count_threads()
            yield
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            self._client.unsubscribe_topic("all")
            for _ in range(2):  # what was released is told to the scheduler
                await asyncio.sleep(0)

    async def _heard(self) -> None:
        """Wait until the scheduler knows that we listen; or who comes meanwhile is never counted.

        Nobody tells; but it hears of topics in order, so when a later one works, all do.
        """
        topic, known = f"lambdamr-{self._name}", asyncio.Event()
        self._client.subscribe_topic(topic, lambda _: known.set())
        try:
            while not known.is_set():
                await self._client.log_event(topic, "")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(known.wait(), _ECHO)
        finally:
            self._client.unsubscribe_topic(topic)

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame: inline, or with the scheduler, which sends it to workers that need it."""
        data = b"".join(frame)
        if len(data) <= INLINE:
            return Ref(len(data), data=data)
        self._puts += 1
        key = f"lambdamr_put-{self._name}-{self._puts}"
        pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
        self._values[key] = [self._submit(bytes, f"{key}-{i}", p) for i, p in enumerate(pieces)]
        return Ref(len(data), key=key)

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref, from the worker that keeps it."""
        if ref.data is not None:
            return ref.data
        return b"".join([await self._result(kept) for kept in self._kept(ref)])

    def discard(self, refs: Iterable[Ref]) -> None:
        """Dask may forget these, but for what it takes to make other values again."""
        for ref in refs:
            for kept in self._values.pop(ref.key or "", ()):
                kept.release()

    async def run(self, task: Task) -> Answer:
        """Have Dask evaluate a task on the worker that it finds best."""
        refs = [task.functions, task.chunk, task.initial, *(item.ref for item in task.items)]
        inputs = {ref.key: self._kept(ref) for ref in refs if ref and ref.key}
        key = f"lambdamr_{'merge' if task.items else 'map'}-{self._name}-{task.id}"
        made = self._submit(_remote("_evaluate"), key, key, _OURS, b"".join(encode(task)), inputs)
        self._running[key] = made
        try:
            kind = await self._end(made)
            del self._running[key]  # from now on Dask may do it again, to recover its values
            if kind is Answer:
                return await self._result(made)
            answer: Answer = await self._result(
                self._submit(_remote("_answer"), f"{key}-answer", made)
            )
            for item in answer.items:
                if item.ref and (name := item.ref.key):
                    kept = self._submit(_remote("_item"), name, name, made, item.lo, item.hi)
                    self._values[name] = [kept]
            return answer
        finally:
            self._running.pop(key, None)
            made.release()  # which cancels it, if it is not done

    async def recover(self, task: Task) -> Answer | None:
        """What Dask can recover, it does by itself."""
        return None

    # -- Dask ------------------------------------------------------------------------------------

    def _kept(self, ref: Ref) -> list[Kept]:
        if ref.key not in self._values:
            raise Lost(f"the value {ref.key} was discarded")
        return self._values[ref.key]

    def _submit(self, function: Callable[..., Any], key: str, *arguments: Any) -> Kept:
        if self._broken:
            raise Broken(self._broken)
        priority = 0 if function is _remote("_evaluate") else 1  # others wait for the others
        try:
            return self._client.submit(function, *arguments, key=key, priority=priority)
        except RuntimeError as error:  # it is closed
            raise Broken(f"Dask takes no tasks: {error}") from error

    async def _end(self, future: Kept) -> type | None:
        """Wait for it; what it is (None: Dask does not know)."""
        waiter = object()
        self._awaited[waiter] = future
        try:
            error = await future.exception()
        finally:
            del self._awaited[waiter]
        if future.status != "finished":
            raise self._failure(future, error)
        return future.type

    async def _result(self, future: Kept) -> Any:
        await self._end(future)
        # Shielded, since Dask gathers for all who ask at a time, and cancels for all of them.
        try:
            return await asyncio.shield(asyncio.ensure_future(self._client.gather(future)))
        except Exception as error:  # whatever it is, the core has a class for it
            raise self._failure(future, error) from error

    def _failure(self, future: Kept, error: BaseException | None) -> TaskFailed:
        """What went wrong, in the words of the core."""
        if future.key in self._killed:
            return Lost(f"the Dask worker {self._killed.pop(future.key)} died")
        if self._broken or self._client.status != "running":
            return Broken(self._broken or "the connection to the Dask scheduler broke")
        if isinstance(error, TaskFailed):
            return error
        if isinstance(error, MemoryError):
            return OutOfMemory("the Dask worker has no memory left")
        if error is None or isinstance(
            error, (KilledWorker, OSError, concurrent.futures.CancelledError)
        ):
            return Lost(f"Dask gave it up: {error or 'it was cancelled'}")
        return Broken(f"Dask cannot run tasks of lambdamr: {error!r}. {_ADVICE}")

    async def _hear(self, event: tuple[float, Any]) -> None:
        message = event[1] if isinstance(event[1], dict) else {}
        if message.get("action") not in ("add-worker", "remove-worker"):
            return
        if not message.get("expected", True):  # Dask would try again; that is the core's to decide
            for key in message["processing-tasks"]:
                if key in self._running:
                    self._killed[key] = message["worker"]
                    await self._client.cancel([self._running[key]])
        await self._count_threads()

    async def _count_threads(self) -> None:
        async with self._counting:
            try:
                threads = sum((await self._client.nthreads()).values())
            except OSError:  # the scheduler is gone, and with it all that we wait for
                return
            self.capacity = max(1, threads)
        if threads and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        elif not threads and self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        self._broken = (
            f"the Dask cluster has had no worker for {self._patience:g} s. Start some "
            f"(cluster.scale(2)), or wait longer: DaskExecutor(client, patience=...)"
        )
        for future in self._awaited.values():
            future.release()


# -- in the workers ------------------------------------------------------------------------------


@functools.cache
def _remote(name: str) -> Callable[..., Any]:
    """A function of this module, as one that travels by value.

    A function or an argument that refers to lambdamr would break the connection of a worker that
    has no lambdamr, and with it all that the worker has to do for others.
    """

    async def call(*arguments: Any) -> Any:
        import importlib

        module = importlib.import_module("lambdamr.executors.dask")
        return await getattr(module, name)(*arguments)

    return call


_Inputs: TypeAlias = dict[str, list[bytes]]
_Frames: TypeAlias = dict[str, bytes]


@dataclass(frozen=True, eq=False)
class _Made:
    """The large values of a task, and what it takes to make them again."""

    task: Task
    inputs: _Inputs
    answer: Answer
    frames: _Frames

    def __sizeof__(self) -> int:
        return sum(map(len, self.frames.values()))


async def _evaluate(
    key: str, theirs: tuple[Any, ...], message: bytes, inputs: _Inputs
) -> Answer | _Made:
    if theirs != _OURS:
        raise Broken(
            f"a Dask worker has lambdamr and Python {_OURS}, the driver has {theirs}. {_ADVICE}"
        )
    task: Task = decode(message)
    answer, frames = await (await _seats()).evaluate(key, task, inputs)
    return _Made(task, inputs, answer, frames) if frames else answer


async def _answer(made: Answer | _Made) -> Answer:
    return made.answer if isinstance(made, _Made) else made


async def _item(name: str, made: _Made, lo: int, hi: int) -> bytes:
    """One value. A task that was done again may have stopped elsewhere, and not have made it."""
    frames = made.frames
    if name not in frames:
        task = made.task._replace(lo=lo, hi=hi, budget=None)
        _, frames = await (await _seats()).evaluate(name, task, made.inputs)
    if name not in frames:
        raise Lost(f"partitions {lo} to {hi - 1} are lost: the second time, they failed")
    return frames[name]


async def _seats() -> _Seats:
    worker = get_worker()
    if _Seats.name not in worker.plugins:
        await worker.plugin_add(_Seats())
    seats = worker.plugins[_Seats.name]
    assert isinstance(seats, _Seats)
    return seats


class _Seats(WorkerPlugin):
    """The threads in which a Dask worker evaluates tasks.

    Not those of Dask, which has no means to leave one behind whose task was cancelled.
    """

    name = "lambdamr"

    def __init__(self) -> None:
        self._idle: list[_Seat] = []
        self._busy: dict[str, _Seat] = {}

    async def evaluate(self, key: str, task: Task, inputs: _Inputs) -> tuple[Answer, _Frames]:
        worker = get_worker()
        if worker.state.tasks[key].state == "cancelled":  # before it is listed here
            raise Lost("it was cancelled")
        seat = self._busy[key] = self._idle.pop() if self._idle else _Seat(worker.address)
        try:
            done = await seat.evaluate(task, inputs)
        except BaseException:
            seat.leave()
            raise
        else:
            if key in self._busy:  # not left in the meantime
                self._idle.append(seat)
            return done
        finally:
            self._busy.pop(key, None)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Dask calls this. What it releases while it is evaluated was cancelled."""
        if finish == "released" and (seat := self._busy.pop(key, None)):
            seat.leave()


class _Left(BaseException):
    """Raised in a thread for which nobody waits any more."""


class _Seat(threading.Thread):
    """A thread that evaluates one task after the other, and the store of its worker."""

    inline = INLINE

    def __init__(self, address: str) -> None:
        super().__init__(name="lambdamr", daemon=True)
        # An inproc worker lives in the process of the driver, which has all modules.
        self._worker = Worker(self, address, imports=not address.startswith("inproc:"))
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._left = False
        self._inputs: _Inputs = {}
        self._frames: _Frames = {}
        self.start()

    def evaluate(self, task: Task, inputs: _Inputs) -> asyncio.Future[tuple[Answer, _Frames]]:
        self._done: concurrent.futures.Future[tuple[Answer, _Frames]] = concurrent.futures.Future()
        context = contextvars.copy_context()  # in which distributed.get_worker() works
        self._orders.put(functools.partial(context.run, self._evaluate, task, inputs))
        return asyncio.wrap_future(self._done)

    def leave(self) -> None:
        """Wait for it no longer, and end it as soon as it runs Python code."""
        if self._left:
            return
        self._left = True
        self._done.cancel()
        ident = ctypes.c_ulong(self.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Left))
        self._orders.put(None)

    def run(self) -> None:
        with contextlib.suppress(_Left):
            while order := self._orders.get():
                order()

    def _evaluate(self, task: Task, inputs: _Inputs) -> None:
        self._inputs = inputs
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits for it
            try:
                answer = self._worker.evaluate(task)
                frames, self._frames, self._inputs = self._frames, {}, {}
                self._done.set_result((answer, frames))
            except BaseException as error:  # noqa: BLE001  # SystemExit would end the Dask worker
                self._done.set_exception(Lost(f"the worker raised {error!r}"))
        self._worker.forget()

    def read(self, key: str) -> Buffer:
        """A copy of a frame, since whoever decodes it may write to it."""
        return bytearray().join(self._inputs[key])

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        key = f"lambdamr_item-{task.job}-{task.id}-{lo}-{hi}"
        self._frames[key] = b"".join(frame)
        return key
