"""The contract of checkpoints: finished values, kept for a driver that comes after this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lambdamr.wire import Buffer, Item


class Checkpoint(Protocol):
    """The checkpoint of one job, open for reading and appending."""

    def finished(self) -> AsyncIterator[tuple[Item, bytes]]:
        """The largest finished values, in ascending order, with their frames."""

    async def append(self, lo: int, hi: int, frame: Buffer) -> None:
        """Remember the value of the partitions ``lo <= i < hi``.

        Raises:
            CheckpointError: it cannot be kept.
        """


@runtime_checkable
class OpensCheckpoints(Protocol):
    """An executor that knows of another place than files: with whose rights it is reached."""

    def open_checkpoint(
        self, uri: str, identity: dict[str, object]
    ) -> AbstractAsyncContextManager[Checkpoint]:
        """The checkpoint of one job.

        Raises:
            CheckpointError: it cannot be read, is of another job, or of another user.
        """


def largest(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those that were not folded into larger ones, in ascending order."""
    end = 0
    for lo, hi in sorted(spans, key=lambda span: (span[0], -span[1])):
        if lo >= end:
            end = hi
            yield lo, hi
