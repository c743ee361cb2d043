"""What driver and function send each other: JSON around a sealed or pickled task or answer.

The fields ``protocol`` and ``versions`` keep their meaning for ever, so that any driver and any
function can tell each other that they do not fit.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import cloudpickle

import lambdamr

PROTOCOL = 3

INLINE = 64 << 10
"""Bytes; larger values of workers go to S3. A value that travels inline crosses the driver's own
connection to AWS, which all workers share: a thousand of this size take it 1 to 7 s at 100 Mbit/s,
and 0.2 to 0.4 ms of CPU each (benchmarks/README.md). S3 costs 0.0000054 USD a value."""

BODY = 4 << 20
"""Bytes; a task or an answer that is larger than this goes to S3. Lambda takes and answers 6 MB
(API reference of Invoke, 2026-11; AWS's interface emulator refuses an answer of 6.3 MB), of which
base64 leaves 4.5 MB."""

EVENT_BODY = 700 << 10
"""Bytes; the same for what an asynchronous invocation takes: 1 MB (API reference of Invoke,
2026-11), of which base64 leaves 750 KB."""

MESSAGE_BODY = 180 << 10
"""Bytes; the same for its answer, which a queue made before 2025 takes as well: 256 KiB (SQS takes
1 MiB since then; AWS Compute blog, 2026-01-29). Larger ones would cost more than S3, too: each
64 KiB is billed twice, for sending and receiving, 0.0000008 USD; a PUT and a GET are 0.0000054."""


class Meter(TypedDict):
    """What an invocation used, for its price."""

    seconds: float
    init: float  # seconds of the cold start before; 0 for a warm one
    memory: int  # MiB that the function has
    arch: Literal["x86_64", "arm64"]
    puts: int  # S3 requests
    gets: int


def versions() -> dict[str, str]:
    """What driver and worker must have in common."""
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "cloudpickle": cloudpickle.__version__,
        "lambdamr": lambdamr.__version__,
    }


ask_root: Callable[[], str] | None = None
"""Says the version of a ROOT that runs here, though Python has not imported it, which takes 1 s."""


def root_version(imported_only: bool) -> str | None:
    """The version of ROOT; None without ROOT, or if it is not imported and need not be."""
    if "ROOT" not in sys.modules and ask_root is not None:
        return ask_root()
    if imported_only and "ROOT" not in sys.modules:
        return None
    try:
        import ROOT
    except ImportError:
        return None
    version = getattr(ROOT, "__version__", None)
    return None if version is None else str(version)


def to_text(data: Any) -> str:
    """Bytes, as they travel in JSON."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: str) -> bytes:
    """The bytes."""
    return base64.b64decode(text, validate=True)
