"""Authenticates what passes through places that others can write to, and compresses it.

A sealed frame is the frame, perhaps compressed, and a trailer: one byte that names the codec, and
a MAC (BLAKE2b, keyed, 32 bytes: RFC 7693) of the name under which it travels, the codec, and the
bytes. The key is the job's, lives in the memory of its driver and workers, and travels in the
payloads of the job alone. The trailer is at the end so that arrays stay aligned in memory.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Sequence

from lambdamr.errors import IntegrityError
from lambdamr.wire import Buffer, frame_size

_RAW, _ZLIB = b"\0", b"\1"
_MAC = 32  # bytes
TRAILER = _MAC + 1
"""Bytes that sealing adds to a frame."""

_LEAST = 4 << 10  # bytes; smaller frames are not worth it
_SAMPLE = 16 << 10  # bytes from the middle of a part
_WORTH = 0.7  # compressed size, relative; zlib's fastest level runs at about the speed of S3
_LEVEL = 1


def new_key() -> bytes:
    """A key for one job."""
    return secrets.token_bytes(_MAC)


def digest(frame: Sequence[Buffer]) -> str:
    """What names a frame by its content."""
    state = hashlib.blake2b(digest_size=_MAC)
    for part in frame:
        state.update(part)
    return state.hexdigest()


def seal(key: bytes, name: str, frame: Sequence[Buffer]) -> list[Buffer]:
    """The sealed frame, in pieces; it opens under this name only."""
    codec, parts = _RAW, list(frame)
    if _compresses(parts):
        compressor = zlib.compressobj(_LEVEL)
        codec, parts = _ZLIB, [*map(compressor.compress, parts), compressor.flush()]
    return [*parts, codec + _mac(key, name, codec, parts)]


def unseal(key: bytes, name: str, sealed: Buffer) -> memoryview:
    """The frame; a view of ``sealed`` if it is not compressed.

    Raises:
        IntegrityError: this job has not written these bytes under this name.
    """
    view = memoryview(sealed).cast("B")
    body, codec, mac = view[:-TRAILER], bytes(view[-TRAILER:-_MAC]), view[-_MAC:]
    if len(view) < TRAILER or not hmac.compare_digest(_mac(key, name, codec, [body]), mac):
        raise IntegrityError(
            f"{name} is not what this job wrote ({len(view)} bytes): it was cut or changed, or "
            f"somebody else wrote it. Find out who can write there; then run the job again"
        )
    return memoryview(bytearray(zlib.decompress(body))) if codec == _ZLIB else body


def _mac(key: bytes, name: str, codec: bytes, parts: Sequence[Buffer]) -> bytes:
    state = hashlib.blake2b(name.encode() + b"\0" + codec, key=key, digest_size=_MAC)
    for part in parts:
        state.update(part)
    return state.digest()


def _compresses(frame: Sequence[Buffer]) -> bool:
    """Whether samples of the larger parts say that compressing pays."""
    if frame_size(frame) < _LEAST:
        return False
    sampled = compressed = 0
    for part in frame:
        view = memoryview(part).cast("B")
        middle = max(0, (len(view) - _SAMPLE) // 2)
        if len(view) >= _LEAST // 4 and sampled < 8 * _SAMPLE:
            sample = view[middle : middle + _SAMPLE]
            sampled += len(sample)
            compressed += len(zlib.compress(sample, _LEVEL))
    return compressed < _WORTH * sampled
