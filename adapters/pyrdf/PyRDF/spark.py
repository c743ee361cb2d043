"""On a Spark cluster: each task is a Spark job of one task.

Values travel through the driver, since Spark has no
place where a task could leave one for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from lambdamr.errors import BrokenExecutorError
from lambdamr.retry import Broken, Lost
from lambdamr.wire import Answer, Buffer, Ref, Task, decode, encode
from PyRDF.errors import InputError


def context(settings: Mapping[str, Any]) -> Any:
    """The Spark context that is active, or a new one with these settings.

    Raises:
        InputError: there is no pyspark, or no Java.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first of PATH
    try:
        from pyspark import SparkConf, SparkContext
    except ImportError as error:
        raise InputError("use('spark') needs Spark: pip install pyspark, and a Java") from error
    conf = SparkConf()
    if conf.get("spark.master") is None:
        conf.setMaster("local[*]").setAppName("PyRDF")
    for key, value in settings.items():
        conf.set(key, str(value))
    try:
        return SparkContext.getOrCreate(conf)
    except Exception as error:  # py4j's, and those of its launcher
        raise InputError(f"Spark cannot be started (is there a Java?): {error}") from error


class SparkExecutor:
    """Runs tasks on the cluster of a Spark context.

    Args:
        sparkcontext: a ``pyspark.SparkContext`` that is running.
    """

    def __init__(self, sparkcontext: Any) -> None:
        self._context = sparkcontext

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[SparkPool]:
        """A pool on the cluster."""
        try:
            capacity = int(self._context.defaultParallelism)
        except Exception as error:  # it is stopped
            raise BrokenExecutorError(f"the Spark context does not answer: {error}") from error
        yield SparkPool(self._context, max(1, capacity))


class SparkPool:
    """What one job has on the cluster."""

    latency = 0.05

    def __init__(self, sparkcontext: Any, capacity: int) -> None:
        self.capacity = capacity
        self._context = sparkcontext

    async def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame: inline."""
        data = b"".join(frame)
        return Ref(len(data), data=data)

    async def get(self, ref: Ref) -> Buffer:
        """The frame of a ref."""
        assert ref.data is not None
        return ref.data

    def discard(self, refs: Iterable[Ref]) -> None:
        """Nothing is kept."""

    async def run(self, task: Task) -> Answer:
        """A Spark job of one task; cancelling it cancels the Spark job."""
        group = f"lambdamr-{task.job}-{task.id}"
        message = b"".join(encode(task))
        try:
            answered = await asyncio.to_thread(self._run, group, message)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self._context.cancelJobGroup(group)
            raise
        answer: Answer = decode(answered)
        return answer

    async def recover(self, task: Task) -> Answer | None:
        """Spark keeps nothing of a task that was lost."""
        return None

    def _run(self, group: str, message: bytes) -> bytes:
        try:
            self._context.setJobGroup(group, "lambdamr", interruptOnCancel=True)
            evaluated = self._context.parallelize([message], 1).map(_evaluate)
            answers: list[bytes] = evaluated.collect()
        except Exception as error:
            if getattr(self._context, "_jsc", None) is None:
                raise Broken("the Spark context was stopped") from error
            text = str(error).strip().partition("\n")[0]
            if "ModuleNotFoundError" in str(error):
                raise Broken(f"the Spark workers lack a module: {error}") from error
            raise Lost(f"Spark lost the task: {text:.300}") from error
        return answers[0]


# -- in the workers ------------------------------------------------------------------------------


_workers: list[Any] = []


def _evaluate(message: bytes) -> bytes:
    from lambdamr.worker import Worker

    if not _workers:
        _workers.append(Worker(None, f"spark-{os.getpid()}"))
    return b"".join(encode(_workers[0].evaluate(decode(message))))
