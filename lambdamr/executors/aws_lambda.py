"""AWS Lambda: each task is an invocation; large values pass from worker to worker through S3."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal

from lambdamr import retry
from lambdamr.errors import BrokenExecutorError, InputError, InputTypeError, IntegrityError
from lambdamr.executors import aws_prices
from lambdamr.executors.aws_merge import Merger
from lambdamr.executors.aws_session import Account, Session, Stack, failed, translated
from lambdamr.executors.aws_store import JobStore
from lambdamr.runtimes import envelope, failures
from lambdamr.runtimes.seal import new_key, seal, unseal
from lambdamr.runtimes.secret import FILE, SERVICES
from lambdamr.wire import Answer, Buffer, Ref, Stats, Task, frame_size

_log = logging.getLogger(__name__)

Invocation = Literal["auto", "request", "event"]

PUT_INLINE = 1 << 20
"""Bytes; what the driver puts and is not larger travels in the payload. It crosses the driver's
connection in any case: base64 makes it a third longer, S3 costs two requests of some 30 ms."""

FUNCTIONS_INLINE = 32 << 10
"""Bytes; larger functions go to S3, once for a content: every payload would carry them."""

RAMP = 1000
"""Invocations at once that a function may add every 10 s (Lambda quotas, 2026-01)."""

RAMP_SECONDS = 10

GRACE = 3
"""Seconds that a job which ends waits for invocations whose answers nobody needs any more, if
values of the job were large: what they store later stays until it expires."""

MOST = 4000
"""Invocations at once, unless ``concurrency`` says more: what one process can feed."""


class LambdaExecutor:
    """Runs tasks on the functions of a deployed stack (``lambdamr deploy``).

    Args:
        stack: name of the CloudFormation stack, which says the functions and the bucket.
        region, profile, endpoint_url: default: what the standard chain says (environment,
            ``~/.aws``); credentials come from there as well, and never travel.
        concurrency: most invocations at once; default: what the account lets through, which the
            core finds out.
        invocation: "request": wait for each answer on its connection; "event": the functions run
            on their own, and report to the stack's queue; "auto" (default): "request" until tasks
            turn out to take minutes.
        functions: names or ARNs, one for each rung of the memory ladder, smallest first; with
            ``bucket`` and ``queue_url`` instead of ``stack``.
        secrets: what a mapper needs beyond the function's role: environment variables and where
            their values lie, ``{"TOKEN": "secretsmanager:<id>", "X509_USER_PROXY":
            "file:ssm:<name>"}``. The workers fetch them for the time of a task; ``file:`` sets the
            variable to the path of a file.
        prices: USD; default: the table of `lambdamr.executors.aws_prices` for the region.

    Raises:
        InputError: an argument cannot be used.
    """

    def __init__(
        self,
        stack: str = "lambdamr",
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        concurrency: int | None = None,
        invocation: Invocation = "auto",
        functions: Sequence[str] | None = None,
        bucket: str | None = None,
        queue_url: str | None = None,
        secrets: Mapping[str, str] | None = None,
        prices: aws_prices.Prices | None = None,
    ) -> None:
        _strings(stack=stack)
        for name, value in {
            "region": region,
            "profile": profile,
            "endpoint_url": endpoint_url,
            "bucket": bucket,
            "queue_url": queue_url,
        }.items():
            if value is not None:
                _strings(**{name: value})
        if invocation not in ("auto", "request", "event"):
            raise InputError(f"invocation must be auto, request or event, not {invocation!r:.60}")
        if (functions is None) != (bucket is None):
            raise InputError("functions and bucket go together: give both, or stack")
        self._account = Account(region, profile, endpoint_url)
        self._stack_name = stack
        self._concurrency = _concurrency(concurrency)
        self._invocation: Invocation = invocation
        self._secrets = _secrets(secrets or {})
        self._prices = prices
        self._stack: Stack | None = None
        if functions is not None and bucket is not None:
            self._stack = Stack(_functions(functions), bucket, queue_url)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[LambdaPool]:
        """A pool on the stack, which is looked up."""
        try:
            session = Session(self._account, self._concurrency or MOST)
            stack = self._stack or await session.stack(self._stack_name)
        except retry.TaskFailed as error:
            raise BrokenExecutorError(str(error)) from error
        async with session.client("lambda") as client, session.lazy_client("s3") as s3:
            key, prefix = new_key(), f"jobs/{secrets.token_hex(8)}/"
            store = JobStore(s3, stack.bucket, prefix, key)
            pool = LambdaPool(
                client,
                stack,
                store,
                envelope_of_job={
                    "protocol": envelope.PROTOCOL,
                    "versions": _versions(),
                    "prefix": prefix,
                    "key": envelope.to_text(key),
                    **({"secrets": dict(self._secrets)} if self._secrets else {}),
                },
                key=key,
                concurrency=self._concurrency,
                prices=self._prices or aws_prices.prices(session.region),
            )
            try:
                yield pool
            except retry.Broken as error:
                raise BrokenExecutorError(str(error)) from error
            finally:
                await _finish(pool.close())

    def __repr__(self) -> str:
        if self._stack is not None:
            return f"LambdaExecutor(functions={list(self._stack.functions)})"
        return f"LambdaExecutor({self._stack_name!r})"


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
        prices: aws_prices.Prices,
    ) -> None:
        self._client = client
        self._stack = stack
        self._store = store
        self._envelope = envelope_of_job
        self._key = key
        self._concurrency = concurrency
        self._prices = prices
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
        function = self._stack.functions[min(task.rung, len(self._stack.functions) - 1)]
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
        if not asked.cancelled():
            asked.exception()  # nobody wants to know

    async def close(self) -> None:
        """Delete the job's objects, once those who may still write some have ended, or soon."""
        if self._abandoned and self._store.used:
            await asyncio.wait(self._abandoned, timeout=GRACE)
        if abandoned := list(self._abandoned):
            self._store.used = True
            for asked in abandoned:
                asked.cancel()
            await asyncio.wait(abandoned)
        await self._store.clear()

    async def recover(self, task: Task) -> Answer | None:
        """What the worker had stored before its answer got lost; the rest has to be done again."""
        elapsed = self._lost.pop(task.id, 0.0)
        items = await self._store.stored(task.id)
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

    async def _payload(self, task: Task, most: int) -> bytes:
        frame = seal(self._key, "task", [pickle.dumps(task, protocol=5)])
        if frame_size(frame) <= most:
            body = {"task": envelope.to_text(b"".join(frame))}
        else:
            key = f"{self._envelope['prefix']}{task.id}/task"
            body = {"task_key": await self._store.put(key, [pickle.dumps(task, protocol=5)])}
        return json.dumps(self._envelope | body).encode()

    async def _reply(self, function: str, task: Task) -> dict[str, Any]:
        try:
            return await self._invoke(function, await self._payload(task, envelope.BODY))
        except retry.Broken as error:
            if "RequestTooLargeException" not in str(error):
                raise
        return await self._invoke(function, await self._payload(task, 0))  # it takes less, then

    async def _invoke(self, function: str, payload: bytes) -> dict[str, Any]:
        """What the function replies."""
        with translated(function):
            response = await self._client.invoke(FunctionName=function, Payload=payload)
            said = await response["Payload"].read()
        try:
            reply = json.loads(said)
        except ValueError as error:
            raise retry.Lost(f"{function}: the answer is cut after {said[-60:]!r}") from error
        if "FunctionError" in response:
            about = reply if isinstance(reply, dict) else {}
            kind, message = about.get("errorType"), about.get("errorMessage")
            raise failed(failures.of_function(str(kind or ""), str(message or ""), function))
        if not isinstance(reply, dict) or "protocol" not in reply:
            raise retry.Broken(
                f"{function} is no function of lambdamr: it answered {said[:60]!r}. Run "
                f"`lambdamr deploy`, or name another function"
            )
        return reply

    # -- receiving -------------------------------------------------------------------------------

    async def _answer(self, function: str, task: Task, reply: dict[str, Any]) -> Answer:
        if meter := reply.get("meter"):
            self._meters[function] = meter
            self._unbilled += self._prices.of(meter)
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
        if "answer" not in reply or any(item.ref and item.ref.key for item in answer.items):
            self._store.used = True
        stats = answer.stats
        if meter:
            stats = stats._replace(memory=int(meter["memory"]) << 20, starting=meter["init"])
        return answer._replace(stats=self._billed(stats))

    def _billed(self, stats: Stats) -> Stats:
        """These, with what is on no bill yet: lost invocations, and requests of the driver."""
        puts, gets = self._store.puts - self._puts, self._store.gets - self._gets
        self._puts, self._gets = self._store.puts, self._store.gets
        cost = self._unbilled + puts * self._prices.put + gets * self._prices.get
        self._unbilled = 0.0
        return stats._replace(cost=cost)

    def _charge(self, function: str, seconds: float) -> None:
        """For an invocation that gave no answer: as if it had taken all of the time."""
        meter = self._meters.get(function, _UNKNOWN)
        self._unbilled += self._prices.of(meter | {"seconds": seconds, "init": 0.0})


_UNKNOWN: envelope.Meter = {
    "seconds": 0.0,
    "init": 0.0,
    "memory": 1769,  # MiB: one vCPU
    "arch": "x86_64",
    "puts": 0,
    "gets": 0,
}


async def _finish(cleaning: Coroutine[Any, Any, None]) -> None:
    """Wait until it is done, even if Ctrl-C comes again and again."""
    task = asyncio.ensure_future(cleaning)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except retry.TaskFailed:
            break
    if (error := task.exception()) is not None:
        _log.warning(
            "objects of this job may be left: %s. They expire; `lambdamr clean` removes them", error
        )
    if cancelled:
        raise asyncio.CancelledError


def _versions() -> dict[str, str]:
    root = envelope.root_version(imported_only=True)
    return envelope.versions() | ({} if root is None else {"root": root})


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


def _strings(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise InputTypeError(f"{name} must be a string, not {value!r:.60}")


def _concurrency(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"concurrency must be a whole number, not {value!r:.60}")
    if value < 1:
        raise InputError(f"concurrency must be at least 1, not {value}")
    return value


def _functions(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise InputTypeError(f"functions must be names of functions, not {value!r:.60}")
    if not all(isinstance(name, str) and name for name in names):
        raise InputTypeError(f"functions must be names of functions, not {value!r:.60}")
    return tuple(names)


def _secrets(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InputTypeError(f"secrets must be a mapping of names to references, not {value!r:.60}")
    for name, reference in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(f"secrets: {name!r:.60} cannot be the name of a variable")
        service, _, rest = str(reference).removeprefix(FILE).partition(":")
        if not isinstance(reference, str) or service not in SERVICES or not rest:
            raise InputError(  # it may be the secret itself: do not show it
                f"secrets[{name!r}] must say where the secret lies: 'secretsmanager:<id>' or "
                f"'ssm:<name>', perhaps with 'file:' before it; never the secret itself"
            )
    return dict(value)
