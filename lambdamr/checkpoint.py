"""Finished values on disk, so that a job whose driver died goes on where it stopped.

The file is a header, which says of which job it is, and then one record a value, appended when the
value was finished. Each record carries a keyed digest: a torn or changed record, and all after it,
is as if it were not there. The key is the user's own, in a file that only the user can read.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lambdamr.errors import CheckpointError
from lambdamr.wire import Buffer, Item, Ref

_MAGIC = b"lambdamr checkpoint 1\n"
_RECORD = struct.Struct("<QQQ")  # lo, hi, bytes of the frame
_DIGEST = 32  # bytes
_SALT = 16  # bytes; so that no record fits into the checkpoint of another job

_ADVICE = "Pass another path, or delete the file to start anew."


class Checkpoint:
    """The checkpoint of one job, open for reading and appending.

    Args:
        path: the file; made if it is not there, with its folders.
        identity: what makes the job this job; JSON-able.

    Raises:
        CheckpointError: it is of another job, is no checkpoint, was written with another key,
            or is in use.
    """

    def __init__(self, path: str | os.PathLike[str], identity: dict[str, object]) -> None:
        self._path = Path(path)
        self._key = _key()
        self._records: list[tuple[int, int, int, int]] = []  # lo, hi, offset, size
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(  # noqa: SIM115  # closed by close()
                os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b"
            )
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {self._path} cannot be used: {error.strerror}"
            ) from error
        try:
            self._lock()
            self._read(json.dumps(identity, sort_keys=True).encode())
        except BaseException:
            self._file.close()
            raise

    def finished(self) -> Iterator[tuple[Item, bytes]]:
        """The largest finished values, in ascending order, with their frames."""
        end = 0
        for lo, hi, offset, size in sorted(self._records, key=lambda r: (r[0], -r[1])):
            if lo < end:  # was folded into a larger one
                continue
            self._file.seek(offset)
            yield Item(lo, hi, Ref(size)), self._file.read(size)
            end = hi

    def append(self, lo: int, hi: int, frame: Buffer) -> None:
        """Remember the value of the partitions ``lo <= i < hi``."""
        body = memoryview(frame).cast("B")
        head = _RECORD.pack(lo, hi, len(body))
        self._file.seek(0, os.SEEK_END)
        self._file.write(head)
        self._file.write(body)
        self._file.write(self._seal(head, body))
        self._file.flush()  # to the system: that is enough for a driver that is killed

    def close(self) -> None:
        """Close the file; it stays, and answers the same call again."""
        self._file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(
                f"checkpoint {self._path} is in use by another driver; wait until it has ended, "
                f"or pass another path"
            ) from None

    def _read(self, identity: bytes) -> None:
        """Check the header, index the whole records, and cut off what is torn."""
        magic = self._file.read(len(_MAGIC))
        self._salt = self._file.read(_SALT)
        length = self._file.read(4)
        written = self._file.read(int.from_bytes(length, "little"))
        digest = self._file.read(_DIGEST)
        if not _MAGIC.startswith(magic):
            raise CheckpointError(f"{self._path} is no checkpoint of lambdamr; pass another path")
        if len(digest) < _DIGEST:  # new, or its driver died while it wrote the header
            self._begin(identity)
        elif not hmac.compare_digest(digest, self._seal(magic + length, written)):
            raise CheckpointError(
                f"checkpoint {self._path} cannot be authenticated: it was changed, or written by "
                f"another user or on another machine (LAMBDAMR_CHECKPOINT_KEY). {_ADVICE}"
            )
        elif written != identity:
            ours, theirs = json.loads(identity), json.loads(written)
            what = ", ".join(name for name in ours if ours[name] != theirs.get(name))
            raise CheckpointError(
                f"checkpoint {self._path} is of another job: it differs in {what}. {_ADVICE}"
            )
        else:
            self._index()

    def _begin(self, identity: bytes) -> None:
        self._salt = secrets.token_bytes(_SALT)
        length = len(identity).to_bytes(4, "little")
        seal = self._seal(_MAGIC + length, identity)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(_MAGIC + self._salt + length + identity + seal)
        self._file.flush()

    def _index(self) -> None:
        end, total = self._file.tell(), os.fstat(self._file.fileno()).st_size
        while len(head := self._file.read(_RECORD.size)) == _RECORD.size:
            lo, hi, size = _RECORD.unpack(head)
            if size > total:
                break
            frame = self._file.read(size)
            if not hmac.compare_digest(self._file.read(_DIGEST), self._seal(head, frame)):
                break
            self._records.append((lo, hi, end + _RECORD.size, size))
            end = self._file.tell()
        self._file.seek(end)
        self._file.truncate()

    def _seal(self, head: bytes, body: Buffer) -> bytes:
        digest = hmac.new(self._key, self._salt, hashlib.sha256)
        digest.update(head)
        digest.update(body)
        return digest.digest()


def _key() -> bytes:
    """The user's secret: from the environment, or from a file that only the user can read."""
    given = os.environ.get("LAMBDAMR_CHECKPOINT_KEY")
    if given:
        return given.encode()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "lambdamr" / "checkpoint.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # whole or not at all, and the first of several wins
            draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
            draft.touch(mode=0o600)
            draft.write_bytes(secrets.token_bytes(32))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"the key of checkpoints cannot be kept in {path}: {error.strerror}; "
            f"set LAMBDAMR_CHECKPOINT_KEY to a secret of your own"
        ) from error
