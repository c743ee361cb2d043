"""What a job with ``errors="return"`` came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lambdamr.errors import LambdamrError, PartitionError
from lambdamr.partition import Chunk, Partitions

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """A value, which partitions are in it, and which are not and why.

    Attributes:
        failures: an error for each failure, ascending by partition: of one partition, or of the
            reduction of several, none of which is in the value then.
    """

    _chunk: Chunk
    _values: tuple[R, ...]  # one, or none
    failures: tuple[PartitionError, ...] = ()

    def __post_init__(self) -> None:
        in_order = sorted(self.failures, key=lambda error: error.lo)
        object.__setattr__(self, "failures", tuple(in_order))

    @property
    def value(self) -> R:
        """The reduction of all partitions that succeeded (``initial`` before them, if given).

        Raises:
            LambdamrError: no partition succeeded, and there was no ``initial``.
        """
        if not self._values:
            raise LambdamrError(
                "there is no value: no partition succeeded; failures says why"
            ) from self.failures[0]
        return self._values[0]

    @property
    def failed(self) -> tuple[int, ...]:
        """The partitions that are not in the value, ascending."""
        return tuple(sorted({i for error in self.failures for i in range(error.lo, error.hi)}))

    @property
    def succeeded(self) -> tuple[int, ...]:
        """The partitions that are in the value, ascending."""
        failed = set(self.failed)
        return tuple(i for i in range(self._chunk.npartitions) if i not in failed)

    @property
    def remaining(self) -> Partitions[Any]:
        """The data of the partitions that failed, to be submitted again."""
        return Partitions(self._chunk[i] for i in self.failed)

    def __repr__(self) -> str:
        number = self._chunk.npartitions
        return f"<Outcome: {number - len(self.failed)} of {number} partitions in the value>"
