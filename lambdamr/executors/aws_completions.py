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
_HIDDEN = 1  # seconds for which what is another's is hidden from that one
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
        self._deletion: asyncio.Future[None] | None = None
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
        if self._deletion is not None:
            await asyncio.gather(self._deletion, return_exceptions=True)

    async def _poll(self) -> None:
        refusals = 0
        while self._waiting:
            try:
                await self._receive()
                refusals = 0
            except retry.TaskFailed as error:
                refusals += 1
                if isinstance(error, retry.Broken) or refusals == _GIVE_UP:
                    for future in self._waiting.values():
                        if not future.done():
                            future.set_exception(type(error)(str(error)))
                    return
                await asyncio.sleep(_PAUSE)

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
            taken = [one for one in answer.get("Messages", ()) if self._take(one)]
            if taken:
                self.requests += 1  # at once: who waits for a message is about to be billed
                self._deletion = asyncio.ensure_future(self._delete(client, taken))
                await asyncio.shield(self._deletion)  # the job may end with what was taken

    async def _delete(self, client: Any, taken: list[dict[str, Any]]) -> None:
        await client.delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(i), "ReceiptHandle": one["ReceiptHandle"]} for i, one in enumerate(taken)
            ],
        )

    def _take(self, message: dict[str, Any]) -> bool:
        """Whether a message was for this job, or is for nobody."""
        try:
            body = json.loads(message["Body"])
        except ValueError:
            return True  # nobody of us writes such things
        sent = body.get("requestPayload", body)  # what failed comes with what it was asked
        if sent.get("lambdamr", sent.get("prefix")) != self._prefix:
            age = time.time() - int(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
            return age > _STALE
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


def _billed(*bodies: str) -> int:
    """Requests that SQS bills for passing on these messages, which are ASCII, at once."""
    return max(1, math.ceil(sum(map(len, bodies)) / CHUNK))
