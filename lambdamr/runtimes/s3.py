"""The store of a worker on Lambda: sealed objects in the bucket of the stack.

botocore is imported, and a client made, when the first object is read or written: it takes a few
tenths of a second, which most jobs need not pay.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lambdamr.errors import IntegrityError
from lambdamr.runtimes.envelope import INLINE
from lambdamr.runtimes.seal import digest, seal, unseal
from lambdamr.wire import Buffer, Task, decode, frame_size

if TYPE_CHECKING:
    from botocore.client import BaseClient

JOBS = "jobs/"
"""Each job has a folder below it, named by its id."""

FUNCTIONS = "functions/"
"""Objects under it are named by the digest of their content, and live longer than a job: the parts
of functions that are large, and lists of all parts, as bytes or by the keys of such objects."""

_ATTEMPTS = (
    3  # of a request, the first included: what a worker could not store, it computed in vain
)
_PIECE = 1 << 20
_KEPT = 64 << 20  # bytes of functions that wait for other jobs that have them, too


class Store:
    """What one task after the other reads and writes; `bind` says for which job.

    Attributes:
        failed: the first error of S3 or of authenticity since `bind`; the worker may have taken
            it for an error of the user's functions.
        puts, gets: requests since `bind`.
    """

    inline = INLINE

    def __init__(self) -> None:
        self._client: BaseClient | None = None
        self._contents: OrderedDict[str, bytearray] = OrderedDict()
        self.bind("", "", b"")

    def bind(self, bucket: str, prefix: str, key: bytes) -> None:
        """From now on for this job."""
        self._bucket, self._prefix, self._key = bucket, prefix, key
        self.failed: Exception | None = None
        self.puts = self.gets = 0

    def read(self, key: str) -> Buffer:
        """The frame under a key: authenticated, and writable."""
        try:
            if key.startswith(FUNCTIONS):
                parts = decode(self._content(key))
                parts = [self._content(part) if isinstance(part, str) else part for part in parts]
                return bytearray().join(parts)
            return unseal(self._key, key, self._get(key))
        except Exception as error:
            self.failed = self.failed or error
            raise

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        """Keep a frame. The key says what it is, so that it is found if the answer gets lost."""
        return self.keep(f"{self._prefix}{task.id}/{lo}-{hi}-{frame_size(frame)}", frame)

    def keep(self, key: str, frame: list[Buffer]) -> str:
        """Keep a frame under this key."""
        try:
            self.puts += 1
            body = b"".join(seal(self._key, key, frame))
            self._s3().put_object(Bucket=self._bucket, Key=key, Body=body)
            return key
        except Exception as error:
            self.failed = self.failed or error
            raise

    def _content(self, key: str) -> bytearray:
        """What is named by its content; what was asked for last is here still."""
        content = self._contents.get(key)
        if content is not None:
            self._contents.move_to_end(key)
            return content
        content = self._get(key)
        if digest([content]) != key.removeprefix(FUNCTIONS):
            raise IntegrityError(f"{key} is not what its name says; delete it, and try again")
        self._contents[key] = content
        while sum(map(len, self._contents.values())) > _KEPT:
            self._contents.popitem(last=False)
        return content

    def _get(self, key: str) -> bytearray:
        self.gets += 1
        response = self._s3().get_object(Bucket=self._bucket, Key=key)
        size, body = response["ContentLength"], response["Body"]
        frame = bytearray(size)
        at, view = 0, memoryview(frame)
        while piece := body.read(_PIECE):
            view[at : at + len(piece)] = piece
            at += len(piece)
        return frame

    def _s3(self) -> Any:
        if self._client is None:
            self._client = client("s3")
        return self._client


def client(service: str) -> Any:
    """A botocore client with the credentials of the function's role."""
    import botocore.config
    import botocore.session

    endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL")
    config = botocore.config.Config(
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        request_checksum_calculation="when_required",  # what is read is authenticated
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else None,
    )
    return botocore.session.get_session().create_client(service, config=config)
