"""The value of a range: what the mapper gives, and the reducer folds."""

from __future__ import annotations

import pickle
from typing import Any

from PyRDF import codec, results
from PyRDF.operations import Operation


class Partial:
    """The values of all actions over some ranges; pickled C++ until somebody needs it.

    Args:
        actions: pickled, the operations that the values belong to.
        values: one for each; or None with `packed`.
        packed: the pickle of the values, and its buffers.
        processed: entries.
        counts: entries of the files, by index.
    """

    def __init__(
        self,
        actions: bytes,
        values: list[Any] | None,
        packed: tuple[Any, ...] = (),
        processed: int = 0,
        counts: dict[int, int] | None = None,
    ) -> None:
        self.actions = actions
        self._values = values
        self._packed = packed
        self.processed = processed
        self.counts = counts or {}

    @property
    def values(self) -> list[Any]:
        """Unpacked when they are first asked for."""
        if self._values is None:
            pickled, *buffers = self._packed
            self._values = codec.loads(pickled, buffers)
            self._packed = ()
        return self._values

    def __reduce_ex__(self, protocol: Any) -> Any:
        packed = self._packed
        if self._values is not None:
            buffers: list[pickle.PickleBuffer] = []
            packed = (pickle.PickleBuffer(codec.dumps(self._values, buffers)), *buffers)
        return Partial, (self.actions, None, packed, self.processed, self.counts)


def merge(a: Partial, b: Partial) -> Partial:
    """The reducer: the values of the entries of both, ``a`` being those that come first."""
    operations: list[Operation] = codec.loads(a.actions)
    pairs = zip(operations, a.values, b.values, strict=True)
    values = [results.merge(operation, left, right) for operation, left, right in pairs]
    return Partial(a.actions, values, (), a.processed + b.processed, {**a.counts, **b.counts})
