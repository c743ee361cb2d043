"""What random schedules compute: values that show how they were made, and what they must be."""

from __future__ import annotations

import functools
import math
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal


class Refused(Exception):
    """What mappers and reducers raise."""


class RefusedAgain(Refused, ConnectionError):
    """The same, but of a kind that policies try again; in vain."""


class Block:
    """Bytes that travel out of band, as arrays do, and are folded in place."""

    def __init__(self, data: Any) -> None:
        self.data = bytearray(data)  # a view of them, in a cycle, may crash the collector of 3.11

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # it changes


Kind = Literal["shape", "floats", "list", "block"]


@dataclass(frozen=True, slots=True)
class Mapper:
    """The value of a partition; ``refused`` ones raise, ``stuck`` ones cannot be sent."""

    kind: Kind
    refused: frozenset[int] = frozenset()
    stuck: frozenset[int] = frozenset()
    exception: type[Refused] = Refused

    def __call__(self, partition: Any) -> Any:
        """The value."""
        number = partition if isinstance(partition, int) else partition[0] // len(partition)
        if number in self.refused:
            raise self.exception(number)
        if number in self.stuck:
            return [threading.Lock()]
        match self.kind:
            case "shape":
                return str(number)
            case "floats":
                large = (-1.0) ** (number // 2) * 2.0 ** (50 - number * 3 % 5)  # most cancel out
                return large + math.sin(number + 1) * 2.0 ** (number * 5 % 11)
            case "list":
                return [number]
            case "block":
                return Block(bytearray(range(number % 200, number % 200 + 32)))


@dataclass(frozen=True, slots=True)
class Reducer:
    """Folds two values, most kinds in place; no kind is commutative, most are not associative."""

    kind: Kind
    refused: frozenset[int] = frozenset()  # partitions, as the first of the second operand
    exception: type[Refused] = Refused

    def __call__(self, left: Any, right: Any) -> Any:
        """One value of two."""
        match self.kind:
            case "shape":
                return f"({left} {right})"
            case "floats":
                return left + right
            case "list":
                if right[0] in self.refused:
                    raise self.exception(right[0])
                left.extend(right)
                return left
            case "block":
                for i, byte in enumerate(right.data):
                    left.data[i] = (left.data[i] * 31 + byte) % 256
                return left


MISSING: Final = object()
"""Of a partition that failed."""


def reference(
    values: list[Any], fan_in: int, reducer: Callable[[Any, Any], Any]
) -> tuple[list[Any], list[tuple[int, int]]]:
    """The value of the tree, as a list of one or none, and the ranges that the reducer refused.

    Written for clarity, level by level, and with nothing of lambdamr. Missing values are MISSING.
    """
    refused: list[tuple[int, int]] = []

    def fold(left: tuple[int, int, Any], right: tuple[int, int, Any]) -> tuple[int, int, Any]:
        lo, hi = left[0], right[1]
        if left[2] is MISSING or right[2] is MISSING:
            return lo, hi, right[2] if left[2] is MISSING else left[2]
        try:
            return lo, hi, reducer(left[2], right[2])
        except Refused:
            refused.append((lo, hi))
            return lo, hi, MISSING

    level = [(i, i + 1, value) for i, value in enumerate(values)]
    while len(level) > 1:
        level = [
            functools.reduce(fold, level[i : i + fan_in]) for i in range(0, len(level), fan_in)
        ]
    return [value for _, _, value in level if value is not MISSING], refused
