"""Where a checkpoint lies: in a file, or where an executor can reach it."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lambdamr.call import Call
from lambdamr.checkpoint import Checkpoint, OpensCheckpoints
from lambdamr.checkpoints.file import FileCheckpoint
from lambdamr.checkpoints.identity import identity_of


@asynccontextmanager
async def open_checkpoint(call: Call) -> AsyncIterator[Checkpoint]:
    """The checkpoint that a call names: of this job and of no other.

    Raises:
        CheckpointError: it cannot be used.
        UnpicklableError: the functions or the data could not be sent.
    """
    assert call.checkpoint is not None
    place, identity = os.fsdecode(call.checkpoint), identity_of(call)
    if not place.startswith("s3://"):
        with FileCheckpoint(place, identity) as in_file:
            yield in_file
        return
    opener: OpensCheckpoints
    if isinstance(call.engine, OpensCheckpoints):
        opener = call.engine
    else:  # as whom the standard chain says
        opener = importlib.import_module("lambdamr.executors.aws_lambda").LambdaExecutor()
    async with opener.open_checkpoint(place, identity) as on_s3:
        yield on_s3
