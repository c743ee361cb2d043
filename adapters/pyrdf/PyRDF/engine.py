"""Where graphs run, and how many ranges: what `use` or ``executor=`` says."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lambdamr
from lambdamr.executor import Executor
from PyRDF.errors import InputError
from PyRDF.source import Empty, Source

_BYTES = 32 << 20  # of a local file in a range; about a second's work
_ENTRIES = 1 << 20  # of an empty source
_MOST = 1000
_REMOTE = 4  # ranges of a file whose size is not known
MOUNTS = "/mnt/"
"""Below this AWS Lambda mounts file systems, and nowhere else (Lambda guide, 2026-11)."""


@dataclass(frozen=True)
class Engine:
    """An executor, and the settings of its jobs.

    Attributes:
        name: "local", "AWS", ..., or the class of the executor.
        executor: anything `lambdamr.map_reduce` takes.
        npartitions: ranges of a dataset; None: by its size, see `partitions`.
        options: further arguments of `lambdamr.map_reduce`.
    """

    name: str
    executor: Executor | str
    npartitions: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether workers cannot see the files of this machine."""
        return self.executor == "lambda" or type(self.executor).__name__ == "LambdaExecutor"

    def partitions(self, source: Source, wanted: int | None = None) -> int:
        """How many ranges to cut a dataset into.

        Never by the number of workers, on which no bit of a result may depend.
        """
        if wanted or self.npartitions:
            return wanted or self.npartitions or 1
        if isinstance(source, Empty):
            return min(max(math.ceil(source.entries / _ENTRIES), 8), _MOST)
        ranges = 0.0
        for _, path in source.datasets:
            try:
                ranges += os.stat(path).st_size / _BYTES
            except OSError:
                ranges += _REMOTE
        return min(max(math.ceil(ranges), 8), _MOST)


def count(given: object, name: str = "npartitions") -> int | None:
    """A number, which notebooks of 2021 give as a string.

    Raises:
        InputError: it is none.
    """
    if given is None:
        return None
    try:
        number = int(str(given))
    except ValueError:
        number = 0
    if isinstance(given, bool) or number < 1:
        raise InputError(f"{name} must be a whole number from 1 up, not {given!r:.60}")
    return number


def engine_of(executor: Any) -> Engine:
    """The engine for an executor of lambdamr, a Dask client or a Spark context.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(executor, Engine):
        return executor
    if isinstance(executor, str):
        return Engine(executor, executor)
    if isinstance(executor, Executor) and not isinstance(executor, type):
        return Engine(type(executor).__name__, executor)
    package = type(executor).__module__.partition(".")[0]
    if package == "distributed":
        return Engine("dask", lambdamr.DaskExecutor(executor))
    if package == "pyspark":
        from PyRDF.spark import SparkExecutor

        return Engine("spark", SparkExecutor(getattr(executor, "sparkContext", executor)))
    raise InputError(
        f"executor must be an executor of lambdamr, a Dask client or a Spark context, not "
        f"{type(executor).__name__}; for example executor=PyRDF.local()"
    )
