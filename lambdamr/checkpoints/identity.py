"""Of which job a checkpoint is, and of which user."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lambdamr.call import Call
from lambdamr.checkpoints.fingerprint import fingerprint
from lambdamr.errors import CheckpointError

_SECRET = 32  # bytes


def identity_of(call: Call) -> dict[str, object]:
    """What makes the job this job.

    Raises:
        UnpicklableError: the functions or the data could not be sent.
    """
    return {
        "mapper": fingerprint(call.mapper),
        "reducer": fingerprint(call.reducer),
        "data": fingerprint(call.chunk.data),
        "length": call.chunk.length,
        "npartitions": call.chunk.npartitions,
        "fan_in": call.fan_in,
        "python": ".".join(map(str, sys.version_info[:2])),
    }


def as_bytes(identity: dict[str, object]) -> bytes:
    """As it is written into checkpoints."""
    return json.dumps(identity, sort_keys=True, default=int).encode()


def differences(identity: bytes, written: bytes) -> str:
    """In what two jobs differ."""
    ours, theirs = json.loads(identity), json.loads(written)
    return "it differs in " + ", ".join(name for name in ours if ours[name] != theirs.get(name))


def key() -> bytes:
    """The user's secret: from the environment, or from a file that only the user can read.

    Raises:
        CheckpointError: it cannot be kept.
    """
    given = os.environ.get("LAMBDAMR_CHECKPOINT_KEY")
    return hashlib.sha256(os.fsencode(given) if given else _kept_secret()).digest()


def _kept_secret() -> bytes:
    path = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state", "lambdamr/checkpoint.key")
    advice = "Set LAMBDAMR_CHECKPOINT_KEY to a secret of your own"
    with explained(f"the key of checkpoints cannot be kept in {path}", advice):
        path = path.expanduser()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=path.parent) as draft:  # for the user's eyes only
                draft.write(secrets.token_bytes(_SECRET))
                draft.flush()
                with contextlib.suppress(FileExistsError):  # whole or not at all; the first wins
                    os.link(draft.name, path)
        secret = path.read_bytes()
        if len(secret) < _SECRET:
            raise ValueError("it was emptied; delete it")
        return secret


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Errors of the system become ours."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{what}: {error}. {advice}") from error
