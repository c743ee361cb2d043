"""The bucket, as the driver sees it: sealed objects under the prefix of one job."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from lambdamr.errors import IntegrityError
from lambdamr.executors.aws_session import translated
from lambdamr.retry import Broken, TaskFailed
from lambdamr.runtimes.s3 import FUNCTIONS
from lambdamr.runtimes.seal import digest, seal, unseal
from lambdamr.wire import Buffer, Item, Ref, encode, frame_size, spans

_FRESH = datetime.timedelta(hours=12)  # younger functions will not expire while a job runs
_PART = 64 << 10  # bytes of a part of functions that is an object of its own
_BATCH = 1000  # keys that S3 deletes in one request


class JobStore:
    """Puts and gets values, and deletes all of them at the end.

    Args:
        connect: makes the client of S3, once.
        bucket: the stack's.
        prefix: of this job, with a slash at the end.
        key: what seals its objects.

    Attributes:
        puts, gets: requests, as S3 bills them: puts are PUT and LIST, gets all others.
        used: whether anything can lie under the prefix.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], bucket: str, prefix: str, key: bytes
    ) -> None:
        self._connect = connect
        self._bucket = bucket
        self._prefix = prefix
        self._key = key
        self._waiting: dict[str, list[Buffer]] = {}  # frames that no task has needed yet
        self._uploads: dict[str, asyncio.Task[str]] = {}
        self._numbers = 0
        self.puts = self.gets = 0
        self.used = False

    def keep(self, frame: list[Buffer]) -> Ref:
        """A ref to a frame, which is uploaded when a task first needs it."""
        self._numbers += 1
        key = f"{self._prefix}put-{self._numbers}"
        self._waiting[key] = frame
        return Ref(frame_size(frame), key=key)

    async def upload(self, ref: Ref) -> None:
        """See to it that workers can read this."""
        assert ref.key is not None
        if ref.key in self._waiting and ref.key not in self._uploads:
            frame = self._waiting[ref.key]
            self._uploads[ref.key] = asyncio.create_task(self.put(ref.key, frame))
        if upload := self._uploads.get(ref.key):
            await self._finished(ref.key, upload)

    async def upload_functions(self, ref: Ref) -> Ref:
        """See to it that workers can read these; once for a content, whichever job brought it."""
        name = ref.key or "inline"
        if name not in self._uploads:
            functions = self._put_functions(self.local(ref) or b"")
            self._uploads[name] = asyncio.create_task(functions)
        return Ref(ref.size, key=await self._finished(name, self._uploads[name]))

    async def _finished(self, name: str, upload: asyncio.Task[str]) -> str:
        """Wait for an upload, which others wait for as well; one that failed is forgotten."""
        try:
            return await asyncio.shield(upload)
        except TaskFailed:
            if self._uploads.get(name) is upload:
                del self._uploads[name]
            raise

    async def _put_functions(self, frame: bytes) -> str:
        """A list of the parts: large arrays by keys, as other functions may have them, too."""
        _, *buffers = spans(frame)
        edges = [0, *itertools.chain.from_iterable(buffers), len(frame)]
        parts = [frame[start:end] for start, end in itertools.pairwise(edges)]
        listed = [parts[0], *await asyncio.gather(*map(self._listed, parts[1:]))]
        return await self._put_content(encode(listed))

    async def _listed(self, part: bytes) -> bytes | str:
        return part if len(part) < _PART else await self._put_content([part])

    async def _put_content(self, frame: list[Buffer]) -> str:
        """What is named by its content; the key."""
        key = FUNCTIONS + digest(frame)
        self.gets += 1
        with contextlib.suppress(TaskFailed), translated(f"looking for {self._at(key)}"):
            head = await (await self._connect()).head_object(Bucket=self._bucket, Key=key)
            if datetime.datetime.now(datetime.UTC) - head["LastModified"] < _FRESH:
                return key
        return await self._put(key, b"".join(frame))

    async def put(self, key: str, frame: list[Buffer]) -> str:
        """Keep a frame under a key of this job."""
        self.used = True
        return await self._put(key, b"".join(seal(self._key, key, frame)))

    async def _put(self, key: str, body: bytes) -> str:
        self.puts += 1
        with translated(f"writing {self._at(key)}"):
            await (await self._connect()).put_object(Bucket=self._bucket, Key=key, Body=body)
        return key

    async def get(self, key: str) -> Buffer:
        """The frame under a key.

        Raises:
            Broken: it is not what this job wrote.
        """
        if key in self._waiting:
            return b"".join(self._waiting[key])
        self.gets += 1
        with translated(f"reading {self._at(key)}"):
            answer = await (await self._connect()).get_object(Bucket=self._bucket, Key=key)
            sealed = await answer["Body"].read()
        try:
            return unseal(self._key, key, sealed)
        except IntegrityError as error:
            raise Broken(f"{error} (in the bucket {self._bucket})") from error

    async def stored(self, number: int) -> list[Item]:
        """The values that the task of this number has stored, by their keys."""
        items = []
        for key in await self._list(f"{self._prefix}{number}/"):
            span = key.rpartition("/")[2].split("-")
            if len(span) == 3 and all(part.isdecimal() for part in span):
                lo, hi, size = map(int, span)
                items.append(Item(lo, hi, Ref(size, key=key)))
        return sorted(items, key=lambda item: item.lo)

    def forget(self, refs: Iterable[Ref]) -> None:
        """Drop frames that nobody needs. Objects stay until the end: deleting them all is free."""
        for ref in refs:
            if ref.key is not None:
                self._waiting.pop(ref.key, None)
                self._uploads.pop(ref.key, None)

    def local(self, ref: Ref) -> bytes | None:
        """The frame of a ref, if it is in this process."""
        if ref.key is None:
            return ref.data
        frame = self._waiting.get(ref.key)
        return None if frame is None else b"".join(frame)

    async def clear(self) -> None:
        """Delete all that lies under the prefix of the job."""
        uploads = [upload for upload in self._uploads.values() if not upload.done()]
        for upload in uploads:
            upload.cancel()
        await asyncio.gather(*self._uploads.values(), return_exceptions=True)
        self._waiting.clear()
        if self.used:
            await self._delete(await self._list(self._prefix))

    async def _list(self, prefix: str) -> list[str]:
        keys: list[str] = []
        with translated(f"listing {self._at(prefix)}"):
            pages = (await self._connect()).get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                self.puts += 1
                keys += [one["Key"] for one in page.get("Contents", ())]
        return keys

    async def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            objects = [{"Key": key} for key in keys[start : start + _BATCH]]
            with translated(f"deleting objects of {self._at(self._prefix)}"):
                await (await self._connect()).delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )

    def _at(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"
