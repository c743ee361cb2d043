"""`map_reduce`: check the call, plan the job, run it on an executor, load the value."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from lambdamr.call import MISSING, Call
from lambdamr.errors import BrokenExecutorError, PartitionError
from lambdamr.executor import Prepares
from lambdamr.retry import TaskFailed


def map_reduce(mapper: Any, reducer: Any, data: Any, **options: Any) -> Any:
    """Map a function over the partitions of ``data``, and reduce the results to one value.

    The reduction is a tree whose shape depends on the number of partitions and on ``fan_in``
    alone, so the value is the same, to the last bit, on every executor, with any number of
    workers, and whatever failed and was tried again on the way.

    Args:
        mapper: called once for each partition; what it returns must pickle. What it changes
            around it (a list that it closes over, say) another partition may find changed or not.
        reducer: called with two values, neighbours in the order of the partitions; must be
            associative, need not be commutative, and may change and return its first argument.
            If it does, no two values may share what it changes (a mapper that returns the same
            list twice, say).
        data: a sequence that slices (list, tuple, range, bytes, numpy array, pandas or Arrow
            table), which is cut into ``npartitions`` balanced slices; or `Partitions`, whose
            elements are handed over as they are.
        npartitions: how many slices; default the length of the data, at most 1,000. (Never the
            number of workers: the value must not depend on the machine.)
        executor: an executor, or the name of one: "local" (default: processes on this machine),
            "inline" (this process, for debugging), or "lambda" (the stack that `lambdamr deploy`
            made).
        initial: put before the reduction, as in `functools.reduce`; the value for empty data.
        fan_in: children of a node of the reduction, at least 2 (default).
        retry: what is tried again; default ``RetryPolicy()``.
        timeout: seconds that one partition, or one call of the reducer, may take; default no
            limit.
        checkpoint: path of a file, or ``s3://bucket/prefix``, that keeps finished values; the same
            call, run again after its driver died, computes only the rest.
        errors: "raise": the first partition that fails for good ends the job with an exception.
            "return": the job goes on and returns an `Outcome`.
        max_cost: USD. Where the executor has a price, no task is started that would pass it.
        progress: whether to show a bar; default: where somebody looks (a terminal, a notebook).
        observers: callables that receive each event (`lambdamr.events`).

    Returns:
        The value; with ``errors="return"`` an `Outcome`.

    Raises:
        InputError: an argument cannot be used; nothing was sent.
        EmptyDataError: there are no partitions, and no ``initial``.
        PartitionError: a partition failed for good; its subclasses say how.
        BrokenExecutorError, ThrottledError, CostLimitError, CheckpointError: the job cannot go on.
    """
    call = Call(mapper, reducer, data, **options)
    with _engine_starts(call):
        from lambdamr import sync

        return sync.run(_run(call))


async def amap_reduce(mapper: Any, reducer: Any, data: Any, **options: Any) -> Any:
    """The async twin of `map_reduce`; cancelling it stops the workers and cleans up."""
    call = Call(mapper, reducer, data, **options)
    with _engine_starts(call):
        return await _run(call)


map_reduce.__signature__ = inspect.signature(Call)  # type: ignore[attr-defined]
amap_reduce.__signature__ = inspect.signature(Call)  # type: ignore[attr-defined]


@contextmanager
def _engine_starts(call: Call) -> Iterator[None]:
    """Let the engine start while what the job itself needs is imported: asyncio, cloudpickle."""
    engine = call.engine
    if call.chunk.npartitions == 0 or not isinstance(engine, Prepares):
        yield
        return
    engine.prepare()
    try:
        yield
    finally:
        if engine is not call.executor:  # it was made for this call, by its name
            engine.close()


async def _run(call: Call) -> Any:
    from lambdamr.driver import Driver
    from lambdamr.travel.functions import encode_functions, encode_initial
    from lambdamr.wire import decode

    chunk, initial = call.chunk, call.initial
    if chunk.npartitions == 0:
        return _outcome(call, (initial,)) if call.errors == "return" else initial
    functions = encode_functions(call.mapper, call.reducer, chunk, initial)
    first = None if initial is MISSING else encode_initial(initial)

    async with AsyncExitStack() as stack:
        kept = None
        if call.checkpoint is not None:
            from lambdamr.checkpoints.place import open_checkpoint

            kept = await stack.enter_async_context(open_checkpoint(call))
        audience = importlib.import_module("lambdamr.observers.audience").audience
        told = [*call.observers, *stack.enter_context(audience(call.progress))]
        stack.enter_context(_a_broken_pool_ends_the_job())
        pool = await stack.enter_async_context(call.engine.open())
        driver = Driver(
            call,
            pool,
            functions=await pool.put(functions),
            initial=None if first is None else await pool.put(first),
            observers=told,
            checkpoint=kept,
        )
        frame = await driver.run()
        if frame is None and first is not None:
            frame = b"".join(first)
        if call.errors == "return":
            values = () if frame is None else (decode(frame),)
            return _outcome(call, values, driver.failures)
        assert frame is not None  # or the driver would have raised
        return decode(frame)


def _outcome(call: Call, values: tuple[Any, ...], failures: Sequence[PartitionError] = ()) -> Any:
    from lambdamr.outcome import Outcome  # takes as long as a warm job, and few ask for it

    return Outcome(call.chunk, values, tuple(failures))


@contextmanager
def _a_broken_pool_ends_the_job() -> Iterator[None]:
    try:
        yield
    except TaskFailed as error:  # while it was opened, or asked for something else than a task
        raise BrokenExecutorError(str(error)) from error
