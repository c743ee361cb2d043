"""The queue on which asynchronous invocations say that they have ended.

All jobs of a stack share it. What a driver receives and is another's comes back after a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from lambdamr import retry
from lambdamr.executors.aws_prices import CHUNK
from lambdamr.executors.aws_session import failed, translated
from lambdamr.runtimes import failures

LIMIT = 1000
"""Seconds after which an invocation is lost: it may take 900, and wait a little before."""

_LONG_POLL = 20  # seconds; the longest that SQS waits (its API reference, in botocore 1.43.117)
_HIDDEN = 30  # seconds in which what was taken is deleted, or comes back
_ANOTHERS = 1  # seconds after which it comes back, at least, if it is for another job
_STALE = 900  # seconds; a driver that lives takes its messages sooner
_PAUSE = 1.0  # seconds after SQS refused to answer
_GIVE_UP = 30  # such refusals one after the other


class Completions:
    """Hands each message to the task that waits for it; polls while one does.

    Args:
        connect: makes the client of SQS, once.
        queue_url: of the stack.
        prefix: of the job.

    Attributes:
        requests: as SQS bills them, those of the workers included.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]], queue_url: str, prefix: str) -> None:
        self._connect = connect
        self._queue_url = queue_url
        self._prefix = prefix
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._settling: asyncio.Future[None] | None = None
        self.requests = 0

    @contextlib.contextmanager
    def expect(self, number: int) -> Iterator[asyncio.Future[dict[str, Any]]]:
        """Within, what comes for this task is not thrown away; gives what to await."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield future
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Stop polling; what was taken is deleted."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        if self._settling is not None:
            await asyncio.gather(self._settling, return_exceptions=True)

    async def _poll(self) -> None:
        refusals = 0
        while self._waiting:
            try:
                await self._receive()
                refusals = 0
            except retry.TaskFailed as error:
                refusals += 1
                if isinstance(error, retry.Broken) or refusals == _GIVE_UP:
                    self._fail(type(error)(str(error)))
                    return
                await asyncio.sleep(_PAUSE)
            except Exception as error:  # noqa: BLE001  # a bug of ours must not become a hang
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    async def _receive(self) -> None:
        """Take what there is, and delete what nobody else waits for."""
        with translated(self._queue_url):
            client = await self._connect()
            answer = await client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=_LONG_POLL,
                VisibilityTimeout=_HIDDEN,
                AttributeNames=["SentTimestamp"],
            )
            self.requests += _billed(*(one["Body"] for one in answer.get("Messages", ())))
            taken: list[dict[str, Any]] = []
            others: list[dict[str, Any]] = []
            for one in answer.get("Messages", ()):
                (taken if self._take(one) else others).append(one)
            # At once: who waits for a message is about to be billed.
            self.requests += bool(taken) + bool(others)
            self._settling = asyncio.ensure_future(self._settle(client, taken, others))
            await asyncio.shield(self._settling)  # the job may end with what was taken

    async def _settle(
        self, client: Any, taken: list[dict[str, Any]], others: list[dict[str, Any]]
    ) -> None:
        """Delete what was taken, and let the others have what is theirs."""
        if taken:
            await client.delete_message_batch(QueueUrl=self._queue_url, Entries=_entries(taken))
        if others:
            entries = _entries(others)
            for entry, message in zip(entries, others, strict=True):
                entry["VisibilityTimeout"] = _hidden_for(message)
            await client.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)

    def _take(self, message: dict[str, Any]) -> bool:
        """Whether a message was for this job, or is for nobody."""
        try:
            body = json.loads(message["Body"])
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return True  # nobody of us writes such things
        sent = body.get("requestPayload", body)  # what failed comes with what it was asked
        if sent.get("lambdamr", sent.get("prefix")) != self._prefix:
            return _age(message) > _STALE
        self.requests += _billed(message["Body"])  # the worker sent it
        future = self._waiting.get(sent.get("number"))
        if future is None or future.done():
            return True
        if sent is body:
            future.set_result(body["reply"])
        else:
            about = body.get("responsePayload") or {}
            kind, said = str(about.get("errorType", "")), str(about.get("errorMessage", ""))
            condition = body.get("requestContext", {}).get("condition", "")
            function = body.get("requestContext", {}).get("functionArn", "the function")
            future.set_exception(failed(failures.of_function(kind, said or condition, function)))
        return True


def _age(message: dict[str, Any]) -> float:
    """Seconds since it was sent."""
    sent: str = message["Attributes"]["SentTimestamp"]  # in ms
    return time.time() - int(sent) / 1000


def _hidden_for(message: dict[str, Any]) -> int:
    """Seconds in which another job's message is for its driver to find.

    One that lives takes it soon. Those of one that does not would keep all others busy: the older,
    the rarer they are seen.
    """
    return max(_ANOTHERS, int(_age(message) / 10))


def _entries(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages, as SQS wants them named in a batch."""
    handles = (message["ReceiptHandle"] for message in messages)
    return [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(handles)]


def _billed(*bodies: str) -> int:
    """Requests that SQS bills for passing on these messages, which are ASCII, at once."""
    return max(1, math.ceil(sum(map(len, bodies)) / CHUNK))
