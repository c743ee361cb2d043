"""A checkpoint in a file of this machine.

It is a magic line, a salt, and records: the first says of which job it is, each other is a value,
appended when it was finished. Each record carries a keyed digest: a torn or changed record, and all
after it, is as if it were not there. The key is the user's own, in a file that only the user can
read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from lambdamr.checkpoint import largest
from lambdamr.checkpoints.identity import as_bytes, differences, explained, key
from lambdamr.errors import CheckpointError
from lambdamr.wire import Buffer, Item, Ref

_MAGIC = b"lambdamr checkpoint 1\n"
_SALT = 16  # bytes; so that no record fits into the checkpoint of another job
_HEAD = struct.Struct("<QQQ")  # lo, hi, bytes of the body
_DIGEST = 32  # bytes

_ADVICE = "Pass another path, or delete the file to start anew."


class FileCheckpoint(contextlib.AbstractContextManager["FileCheckpoint"]):
    """A checkpoint in a file of this machine.

    Args:
        path: the file; made if it is not there, with its folders.
        identity: what makes the job this job; JSON-able.

    Raises:
        CheckpointError: it is of another job, is no checkpoint, was written with another key,
            or is in use.
    """

    def __init__(self, path: str | os.PathLike[str], identity: dict[str, object]) -> None:
        self._path = Path(path)
        self._key = key()
        self._records: list[tuple[int, int, int, int]] = []  # lo, hi, offset, size
        with explained(f"checkpoint {path} cannot be used", "Pass another path"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file: BinaryIO = open(descriptor, "r+b")  # noqa: SIM115  # closed by close()
        try:
            self._lock()
            self._read(as_bytes(identity))
        except BaseException:
            self.close()
            raise

    async def finished(self) -> AsyncIterator[tuple[Item, bytes]]:
        """The largest finished values, in ascending order, with their frames."""
        records = {(lo, hi): (offset, size) for lo, hi, offset, size in self._records}
        for lo, hi in largest(records):
            offset, size = records[lo, hi]
            self._file.seek(offset)
            yield Item(lo, hi, Ref(size)), self._file.read(size)

    async def append(self, lo: int, hi: int, frame: Buffer) -> None:
        """Remember the value of the partitions ``lo <= i < hi``.

        Raises:
            CheckpointError: the disk is full, say.
        """
        with explained(
            f"checkpoint {self._path} cannot be written", "The same call goes on from it"
        ):
            self._file.seek(0, os.SEEK_END)
            self._write(lo, hi, memoryview(frame).cast("B"))

    def close(self) -> None:
        """Close the file; it stays, and answers the same call again."""
        with contextlib.suppress(OSError):  # what could not be written, `append` has complained of
            self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {self._path} {what}")

    def _lock(self) -> None:
        with explained(f"checkpoint {self._path} cannot be locked", "Pass another path"):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._error(
                    "is in use by another driver; wait until it has ended, or pass another path"
                ) from None

    def _read(self, identity: bytes) -> None:
        """Check of which job it is, index the whole records, and cut off what is torn."""
        if not _MAGIC.startswith(self._file.read(len(_MAGIC))):
            raise self._error("is no checkpoint of lambdamr but another file; pass another path")
        self._salt = self._file.read(_SALT)
        written = self._next()
        if written is not None and written != identity:
            raise self._error(f"is of another job: {differences(identity, written)}. {_ADVICE}")
        if written is not None:
            while self._next() is not None:
                pass
            self._file.truncate()
        elif self._size() < len(_MAGIC) + _SALT + _HEAD.size + len(identity) + _DIGEST:
            self._begin(identity)  # it is new, or its driver died while it began
        else:
            raise self._error(
                "cannot be authenticated: it was changed, or written by another user or on "
                f"another machine (LAMBDAMR_CHECKPOINT_KEY). {_ADVICE}"
            )

    def _begin(self, identity: bytes) -> None:
        self._salt = secrets.token_bytes(_SALT)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(_MAGIC + self._salt)
        self._write(0, 0, identity)

    def _next(self) -> bytes | None:
        """The body of the record that begins here; None, and stay here, if it is not whole."""
        begin = self._file.tell()
        head = self._file.read(_HEAD.size)
        if len(head) == _HEAD.size:
            lo, hi, size = _HEAD.unpack(head)
            body = self._file.read(min(size, self._size()))
            if secrets.compare_digest(self._file.read(_DIGEST), self._seal(head, body)):
                if hi:
                    self._records.append((lo, hi, begin + _HEAD.size, size))
                return body
        self._file.seek(begin)
        return None

    def _write(self, lo: int, hi: int, body: Buffer) -> None:
        head = _HEAD.pack(lo, hi, len(body))
        for part in (head, body, self._seal(head, body)):
            self._file.write(part)
        self._file.flush()  # to the system: that is enough for a driver that is killed

    def _seal(self, head: bytes, body: Buffer) -> bytes:
        seal = hashlib.blake2b(head, key=self._key, salt=self._salt, digest_size=_DIGEST)
        seal.update(body)
        return seal.digest()

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size
