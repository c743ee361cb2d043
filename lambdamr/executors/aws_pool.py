"""The deployed functions at work for one job: each task is an invocation."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Iterable
from typing import Any

from lambdamr import retry
from lambdamr.errors import IntegrityError
from lambdamr.executors.aws_completions import LIMIT as COMPLETIONS_LIMIT, Completions
from lambdamr.executors.aws_invoke import invoke
from lambdamr.executors.aws_merge import Merger
from lambdamr.executors.aws_prices import UNKNOWN, Prices
from lambdamr.executors.aws_session import Stack, failed, translated
from lambdamr.executors.aws_store import JobStore
from lambdamr.executors.aws_warm import Warm
from lambdamr.runtimes import envelope, failures
from lambdamr.runtimes.seal import seal, unseal
from lambdamr.wire import Answer, Buffer, Ref, Stats, Task, frame_size

PUT_INLINE = 1 << 20
"""Bytes; what the driver puts and is not larger travels in the payload. It crosses the driver's
connection in any case: base64 makes it a third longer, and sealing takes 10 ms at this size
(benchmarks/README.md); S3 costs two requests, one after the other, and 0.0000054 USD."""

FUNCTIONS_INLINE = 32 << 10
"""Bytes; larger functions go to S3, once for a content: every payload would carry them."""

RAMP = 1000
"""Invocations at once that a function may add every 10 s (Lambda guide, scaling; 2026-11)."""

RAMP_SECONDS = 10

GRACE = 3
"""Seconds that a job which ends waits for invocations whose answers nobody needs any more, if
values of the job were large: what they store later stays until it expires."""

SHORT_GRACE = 0.5
"""Seconds; the same if no value was large so far."""

LONG = 60
"""Seconds; "auto" invokes asynchronously once a task took longer: idle connections may die."""

MOST = 4000
"""Invocations at once, unless ``concurrency`` says more: what one process can feed."""


class LambdaPool:
    """The functions at work for one job."""

    latency = 0.1

    def __init__(
        self,
        client: Any,
        stack: Stack,
        store: JobStore,
        *,
        envelope_of_job: dict[str, Any],
        key: bytes,
        concurrency: int | None,
        completions: Completions | None,
        asynchronous: bool,
        prices: Prices,
        warm: Warm | None = None,
    ) -> None:
        self._client = client
        self._stack = stack
        self._store = store
        self._envelope = envelope_of_job
        self._key = key
        self._concurrency = concurrency
        self._prices = prices
        self._warm = warm
        self._completions = completions
        self._asynchronous = asynchronous
        self._merger = Merger(store.local)
        self._started = time.monotonic()
        self._unbilled = 0.0  # USD that are in no answer yet
        self._puts = self._gets = 0  # of the store, that are
        self._meters: dict[str, envelope.Meter] = {}  # the last one of each function
        self._abandoned: set[asyncio.Task[dict[str, Any]]] = set()
        self._lost: dict[int, float] = {}  # seconds after which tasks were lost

    @property
    def capacity(self) -> int:
        """``concurrency``, or what a function may be asked for by now."""
        if self._concurrency is not None:
            return self._concurrency
        steps = int((time.monotonic() - self._started) / RAMP_SECONDS)
        return min(MOST, RAMP * (1 + steps))

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame: inline, or to be uploaded by the first task that needs it."""
        size = frame_size(frame)
        if size <= PUT_INLINE:
            return Ref(size, data=b"".join(frame))
        return self._store.keep(frame)

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref."""
        if ref.key is not None:
            return await self._store.get(ref.key)
        assert ref.data is not None
        return ref.data

    def discard(self, refs: Iterable[Ref]) -> None:
        """Objects stay until the job ends; then all of them are deleted."""
        self._store.forget(refs)

    async def run(self, task: Task) -> Answer:
        """Invoke a function; or fold here, if that is less work than asking."""
        if task.chunk is None and (answer := await self._merger.run(task)) is not None:
            return answer
        task = await self._uploaded(task)
        rung = min(task.rung, len(self._stack.functions) - 1)
        function = self._stack.functions[rung]
        if self._warm is not None and rung == 0:
            await self._warm.turn()
        started = time.monotonic()
        asked = asyncio.create_task(self._reply(function, task))
        try:
            reply = await asyncio.shield(asked)
        except asyncio.CancelledError:  # it goes on there all the same
            self._abandoned.add(asked)
            asked.add_done_callback(self._end_abandoned)
            self._charge(function, time.monotonic() - started)
            raise
        except (retry.Lost, retry.OutOfMemory, retry.TimedOut):  # it may have stored values
            self._lost[task.id] = elapsed = time.monotonic() - started
            self._store.used = True
            self._charge(function, elapsed)
            raise
        return await self._answer(function, task, reply)

    def _end_abandoned(self, asked: asyncio.Task[dict[str, Any]]) -> None:
        self._abandoned.discard(asked)
        if asked.cancelled() or asked.exception() is not None:
            self._store.used = True  # perhaps
        elif meter := asked.result().get("meter"):
            self._store.used |= meter["puts"] > 0

    async def close(self, done: bool) -> None:
        """Delete the job's objects, once those who may still write some have ended, or soon.

        Args:
            done: the job has its value. If none of its tasks stored anything, no copy of one will.
        """
        if self._warm is not None:
            await self._warm.close()
        clean = done and not self._store.used
        if self._abandoned and not clean:
            await asyncio.wait(self._abandoned, timeout=GRACE if self._store.used else SHORT_GRACE)
        if abandoned := list(self._abandoned):
            for asked in abandoned:
                asked.cancel()
            await asyncio.wait(abandoned)
        if self._completions is not None:
            await self._completions.close()
        self._store.used &= not clean
        await self._store.clear()

    async def recover(self, task: Task) -> Answer | None:
        """What the worker had stored before its answer got lost; the rest has to be done again."""
        elapsed = self._lost.pop(task.id, 0.0)
        try:
            items = await self._store.stored(task.id)
        except retry.TaskFailed:  # why it was lost says more
            return None
        whole = len(items) == 1 and (items[0].lo, items[0].hi) == (task.lo, task.hi)
        if not items or (task.items and not whole):
            return None
        return Answer(tuple(items), items[-1].hi, stats=self._billed(Stats(wall=elapsed)))

    # -- sending ---------------------------------------------------------------------------------

    async def _uploaded(self, task: Task) -> Task:
        """The task, with all that it refers to where workers can read it."""
        if task.functions.size > FUNCTIONS_INLINE:
            functions = await self._store.upload_functions(task.functions)
            task = task._replace(functions=functions)
        refs = [task.chunk, task.initial, *(item.ref for item in task.items)]
        for ref in refs:
            if ref is not None and ref.key is not None:
                await self._store.upload(ref)
        return task

    async def _payload(self, task: Task, most: int, **more: object) -> bytes:
        pickled = pickle.dumps(task, protocol=5)
        sealed = b"".join(seal(self._key, "task", [pickled]))
        if len(sealed) <= most:
            body = {"task": envelope.to_text(sealed)}
        else:
            key = f"{self._envelope['prefix']}{task.id}/task"
            body = {"task_key": await self._store.put(key, [pickled])}
        return json.dumps(self._envelope | body | more).encode()

    async def _reply(self, function: str, task: Task) -> dict[str, Any]:
        if self._asynchronous and self._completions is not None:
            return await self._report(function, task, self._completions)
        try:
            return await invoke(self._client, function, await self._payload(task, envelope.BODY))
        except retry.Broken as error:
            if "RequestTooLargeException" not in str(error):
                raise
        payload = await self._payload(task, 0)  # it takes less, then
        return await invoke(self._client, function, payload)

    async def _report(self, function: str, task: Task, completions: Completions) -> dict[str, Any]:
        """What the function reports to the queue, when it has run on its own."""
        payload = await self._payload(task, envelope.EVENT_BODY, reply="queue", number=task.id)
        self._unbilled += self._prices.of_event(len(payload))
        with completions.expect(task.id) as report:
            with translated(function):
                await self._client.invoke(
                    FunctionName=function, Payload=payload, InvocationType="Event"
                )
            try:
                async with asyncio.timeout(COMPLETIONS_LIMIT):
                    reply: dict[str, Any] = await report
            except TimeoutError:
                raise retry.Lost(
                    f"{function}: no word of it on the queue for {COMPLETIONS_LIMIT} s"
                ) from None
        return reply

    # -- receiving -------------------------------------------------------------------------------

    async def _answer(self, function: str, task: Task, reply: dict[str, Any]) -> Answer:
        if meter := reply.get("meter"):
            self._meters[function] = meter
            self._unbilled += self._prices.of(meter)
            self._store.used |= meter["puts"] > 0
        if "mismatch" in reply:
            raise retry.Broken(_misfit(function, self._envelope["versions"], reply["mismatch"]))
        if "failed" in reply:
            raise failed(failures.Verdict(reply["failed"], str(reply["message"])))
        if "answer" in reply:
            try:
                sealed = envelope.from_text(reply["answer"])
                frame: Buffer = unseal(self._key, f"answer/{task.id}", sealed)
            except (IntegrityError, ValueError) as error:
                raise retry.Broken(f"{function}: {error}") from error
        else:
            frame = await self._store.get(f"{self._envelope['prefix']}{task.id}/answer")
        answer: Answer = pickle.loads(frame)
        self._asynchronous |= answer.stats.wall > LONG and self._completions is not None
        stats = answer.stats
        if meter:
            stats = stats._replace(memory=int(meter["memory"]) << 20, starting=meter["init"])
        return answer._replace(stats=self._billed(stats))

    def _billed(self, stats: Stats) -> Stats:
        """These, with what is on no bill yet: lost ones, warm-ups, and requests of the driver."""
        puts, gets = self._store.puts - self._puts, self._store.gets - self._gets
        self._puts, self._gets = self._store.puts, self._store.gets
        cost = self._unbilled + puts * self._prices.put + gets * self._prices.get
        if self._completions is not None:
            cost += self._completions.requests * self._prices.message
            self._completions.requests = 0
        if self._warm is not None:
            cost += self._warm.owed()
        self._unbilled = 0.0
        return stats._replace(cost=cost)

    def _charge(self, function: str, seconds: float) -> None:
        """For an invocation that gave no answer: as if it had taken all of the time."""
        meter = self._meters.get(function, UNKNOWN)
        self._unbilled += self._prices.of(meter | {"seconds": seconds, "init": 0.0})


def _misfit(function: str, here: dict[str, str], there: dict[str, str]) -> str:
    differing = sorted(name for name in here if here[name] != there.get(name, here[name]))
    list_of = {
        place: ", ".join(f"{name} {have.get(name, 'unknown')}" for name in differing)
        for place, have in (("here", here), ("there", there))
    }
    return (
        f"{function} does not fit this client: it has {list_of['there'] or 'another protocol'}, "
        f"and here is {list_of['here'] or 'this one'}. Run `lambdamr deploy` from this "
        f"environment, which makes them the same"
    )
