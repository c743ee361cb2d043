"""AWS Lambda: each task is an invocation; large values pass from worker to worker through S3."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from secrets import token_hex as random_hex
from typing import Any, Literal

from lambdamr import checks, retry
from lambdamr.errors import BrokenExecutorError, InputError, InputTypeError
from lambdamr.executors import aws_prices
from lambdamr.executors.aws_checkpoint import S3Checkpoint, open_checkpoint
from lambdamr.executors.aws_completions import Completions
from lambdamr.executors.aws_pool import MOST, LambdaPool
from lambdamr.executors.aws_session import STACK, Account, Session, Stack
from lambdamr.executors.aws_store import JobStore
from lambdamr.executors.aws_warm import STAY, Preparation, Warm, WarmUp, Woken
from lambdamr.executors.descriptors import allow_connections
from lambdamr.runtimes import envelope
from lambdamr.runtimes.s3 import JOBS
from lambdamr.runtimes.seal import new_key
from lambdamr.runtimes.secret import FILE, SERVICES

_log = logging.getLogger(__name__)

Invocation = Literal["auto", "request", "event"]


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
        warm: environments of the first function that are started before a job needs them, or kept:
            its first tasks wait until they are awake, which the driver uses to upload what it has
            to. Not again within four minutes; `prepare` starts them earlier. Default: none.
        prices: USD; default: the table of `lambdamr.executors.aws_prices` for the region.

    Raises:
        InputError: an argument cannot be used.
    """

    def __init__(
        self,
        stack: str = STACK,
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
        warm: int | None = None,
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
        if endpoint_url is not None and not endpoint_url.startswith(("http://", "https://")):
            raise InputError(f"endpoint_url must begin with http:// or https://: {endpoint_url!r}")
        if prices is not None and not isinstance(prices, aws_prices.Prices):
            raise InputTypeError(
                f"prices must be lambdamr.executors.aws_prices.Prices(...), not {prices!r:.60}"
            )
        if (functions is None) != (bucket is None):
            raise InputError("functions and bucket go together: give both, or stack")
        if functions is None and queue_url is not None:
            raise InputError("queue_url goes with functions and bucket: a stack has its own")
        if functions is not None and stack != STACK:
            raise InputError(f"functions and bucket take the place of stack={stack!r}: give either")
        self._account = Account(region, profile, endpoint_url)
        self._stack_name = stack
        self._concurrency = checks.count("concurrency", concurrency)
        self._invocation: Invocation = invocation
        self._secrets = _secrets(secrets or {})
        self._warm = _warm(warm, self._concurrency)
        self._preparation: Preparation | None = None
        self._woken = -math.inf  # when the last warm-up began
        self._prices = prices
        self._stack: Stack | None = None
        if functions is not None and bucket is not None:
            self._stack = Stack(_functions(functions), bucket, queue_url)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[LambdaPool]:
        """A pool on the stack, which is looked up."""
        session, stack = await self._find()
        if stack.queue_url is None and self._invocation == "event":
            raise BrokenExecutorError(
                "invocation='event' needs the queue of the stack: run `lambdamr deploy`, or give "
                "queue_url"
            )
        allow_connections(self._concurrency or MOST)
        price_list = self._prices or aws_prices.prices(session.region)
        async with (
            session.client("lambda") as client,
            session.lazy_client("s3") as s3,
            session.lazy_client("sqs") as sqs,
        ):
            key, prefix = new_key(), f"{JOBS}{random_hex(8)}/"
            store = JobStore(s3, stack.bucket, prefix, key)
            completions = None
            if stack.queue_url is not None and self._invocation != "request":
                completions = Completions(sqs, stack.queue_url, prefix)
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
                completions=completions,
                asynchronous=self._invocation == "event",
                prices=price_list,
                warm=self._warmth(client, stack, price_list),
            )
            done = False
            try:
                yield pool
                done = True
            except retry.Broken as error:
                raise BrokenExecutorError(str(error)) from error
            finally:
                await _finish(functools.partial(pool.close, done))

    def prepare(self) -> None:
        """Wake ``warm`` environments now, while the caller does other things.

        Returns at once. The first tasks of the next job wait for what is not awake by then; its
        cost is that of the warm-up, too. Without ``warm``, nothing happens.
        """
        if self._warm is not None and not self._is_warm():
            self._woken = time.monotonic()
            self._preparation = Preparation(self.wake)

    async def wake(self) -> Woken:
        """Wake ``warm`` environments, and wait until they are.

        Returns:
            How many are awake; why there are fewer, if Lambda refused or a start failed.

        Raises:
            BrokenExecutorError: there is no such stack.
            InputError: the executor is without ``warm``.
        """
        if self._warm is None:
            raise InputError("how many are to be awake? LambdaExecutor(..., warm=50)")
        self._woken = time.monotonic()
        session, stack = await self._find()
        allow_connections(self._warm)
        prices = self._prices or aws_prices.prices(session.region)
        try:
            async with session.client("lambda") as client:
                return await WarmUp(client, stack.functions[0], self._warm, prices).finish()
        except retry.TaskFailed as error:
            raise BrokenExecutorError(str(error)) from error

    async def _find(self) -> tuple[Session, Stack]:
        try:
            session = Session(self._account)
            return session, self._stack or await session.stack(self._stack_name)
        except retry.TaskFailed as error:
            raise BrokenExecutorError(str(error)) from error

    def _is_warm(self) -> bool:
        return time.monotonic() - self._woken < STAY

    def _warmth(self, client: Any, stack: Stack, prices: aws_prices.Prices) -> Warm | None:
        """What the tasks of a job that starts now wait for."""
        if self._warm is None:
            return None
        if self._is_warm():
            return self._preparation
        self._woken, self._preparation = time.monotonic(), None
        return WarmUp(client, stack.functions[0], self._warm, prices)

    def open_checkpoint(
        self, uri: str, identity: dict[str, object]
    ) -> contextlib.AbstractAsyncContextManager[S3Checkpoint]:
        """A checkpoint under ``s3://bucket/prefix``, reached as whom the executor runs."""
        return open_checkpoint(uri, identity, self._account)

    def __repr__(self) -> str:
        if self._stack is not None:
            return f"LambdaExecutor(functions={list(self._stack.functions)})"
        return f"LambdaExecutor({self._stack_name!r})"


async def _finish(clean: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Clean up, even if Ctrl-C comes again: asyncio then cancels every task, this one too."""
    cancelled, task = False, asyncio.ensure_future(clean())
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
            if task.cancelled():
                task = asyncio.ensure_future(clean())
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


def _strings(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise InputTypeError(f"{name} must be a string, not {value!r:.60}")


def _functions(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise InputTypeError(f"functions must be names of functions, not {value!r:.60}")
    if not all(isinstance(name, str) and name for name in names):
        raise InputTypeError(f"functions must be names of functions, not {value!r:.60}")
    return tuple(names)


def _warm(number: object, concurrency: int | None) -> int | None:
    warm = checks.count("warm", number)
    if warm is not None and warm > (concurrency or MOST):
        most = f"concurrency={concurrency}" if concurrency else f"{MOST:,}, the most"
        raise InputError(f"warm={warm} is more than the {most} that are at work at once")
    return warm


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
