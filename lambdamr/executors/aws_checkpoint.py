"""A checkpoint on S3: an object for each finished value, under a prefix that the user chooses.

``job`` says of which job it is; ``<lo>-<hi>`` is the value of the partitions ``lo <= i < hi``. All
are sealed with the user's own key (see `lambdamr.checkpoints.identity`), the values for this job
alone. Two drivers of the same job may share a checkpoint: they write the same bits under the same
names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from lambdamr.checkpoint import largest
from lambdamr.checkpoints.identity import as_bytes, differences, key
from lambdamr.errors import CheckpointError, IntegrityError
from lambdamr.executors.aws_session import Account, Session, translated
from lambdamr.retry import TaskFailed
from lambdamr.runtimes.seal import seal, unseal
from lambdamr.wire import Buffer, Item, Ref

_ATTEMPTS = 5  # of a request, botocore's own: the core does not try these again
_ADVICE = "Pass another s3://bucket/prefix, or delete the objects under it to start anew"


@contextlib.asynccontextmanager
async def open_checkpoint(
    uri: str, identity: dict[str, object], account: Account
) -> AsyncIterator[S3Checkpoint]:
    """The checkpoint of one job.

    Args:
        uri: ``s3://bucket/prefix``.
        identity: what makes the job this job; JSON-able.
        account: where it is, and as whom.

    Raises:
        CheckpointError: it cannot be read, is of another job, or of another user.
    """
    try:
        session = Session(account)
        async with session.client("s3", attempts=_ATTEMPTS) as client:
            checkpoint = S3Checkpoint(client, uri, identity)
            await checkpoint.begin()
            yield checkpoint
    except TaskFailed as error:
        raise CheckpointError(f"checkpoint {uri}: {error}. {_ADVICE}") from error


class S3Checkpoint:
    """See `open_checkpoint`."""

    def __init__(self, client: Any, uri: str, identity: dict[str, object]) -> None:
        parts = urlsplit(uri)
        self._client = client
        self._uri = uri
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") + "/"
        self._identity = as_bytes(identity)
        self._user_key = key()
        self._key = hashlib.blake2b(self._identity, key=self._user_key, digest_size=32).digest()

    async def begin(self) -> None:
        """Check of which job it is, or say so if it is new.

        Raises:
            CheckpointError: it is of another job, or cannot be authenticated.
        """
        sealed = await self._get("job")
        if sealed is None:
            await self._put("job", seal(self._user_key, "job", [self._identity]))
            return
        try:
            written = bytes(unseal(self._user_key, "job", sealed))
        except IntegrityError:
            raise CheckpointError(
                f"checkpoint {self._uri} cannot be authenticated: it was changed, or written by "
                f"another user or on another machine (LAMBDAMR_CHECKPOINT_KEY). {_ADVICE}"
            ) from None
        if written != self._identity:
            what = differences(self._identity, written)
            raise CheckpointError(f"checkpoint {self._uri} is of another job: {what}. {_ADVICE}")

    async def finished(self) -> AsyncIterator[tuple[Item, bytes]]:
        """The largest finished values, in ascending order, with their frames."""
        spans = [span async for span in self._spans()]
        for lo, hi in largest(spans):
            name = f"{lo}-{hi}"
            sealed = await self._get(name)
            with contextlib.suppress(IntegrityError):  # then it is computed again
                if sealed is not None:
                    frame = bytes(unseal(self._key, name, sealed))
                    yield Item(lo, hi, Ref(len(frame))), frame

    async def append(self, lo: int, hi: int, frame: Buffer) -> None:
        """Remember the value of the partitions ``lo <= i < hi``.

        Raises:
            CheckpointError: it cannot be written.
        """
        name = f"{lo}-{hi}"
        try:
            await self._put(name, seal(self._key, name, [frame]))
        except TaskFailed as error:
            raise CheckpointError(
                f"checkpoint {self._uri} cannot be written: {error}. The same call goes on from it"
            ) from error

    async def _spans(self) -> AsyncIterator[tuple[int, int]]:
        pages = self._client.get_paginator("list_objects_v2")
        with translated(f"listing {self._uri}"):
            async for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for one in page.get("Contents", ()):
                    lo, _, hi = one["Key"].removeprefix(self._prefix).partition("-")
                    if lo.isdecimal() and hi.isdecimal():
                        yield int(lo), int(hi)

    async def _get(self, name: str) -> bytes | None:
        with translated(f"reading {self._uri}"):
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            except self._client.exceptions.NoSuchKey:
                return None
            body: bytes = await answer["Body"].read()
            return body

    async def _put(self, name: str, sealed: list[Buffer]) -> None:
        with translated(f"writing {self._uri}"):
            await self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + name, Body=b"".join(sealed)
            )
