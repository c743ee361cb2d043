import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from lambdamr.errors import (
    BrokenExecutorError as BrokenExecutorError,
    CheckpointError as CheckpointError,
    CostLimitError as CostLimitError,
    DeployError as DeployError,
    EmptyDataError as EmptyDataError,
    InputError as InputError,
    InputTypeError as InputTypeError,
    IntegrityError as IntegrityError,
    LambdamrError as LambdamrError,
    MapperError as MapperError,
    OutOfMemoryError as OutOfMemoryError,
    PartitionError as PartitionError,
    PartitionTimeoutError as PartitionTimeoutError,
    ReducerError as ReducerError,
    ResultError as ResultError,
    ThrottledError as ThrottledError,
    UnpicklableError as UnpicklableError,
    WorkerLostError as WorkerLostError,
)
from lambdamr.events import Observer
from lambdamr.executor import Executor
from lambdamr.executors.aws_lambda import LambdaExecutor as LambdaExecutor
from lambdamr.executors.dask import DaskExecutor as DaskExecutor
from lambdamr.executors.inline import InlineExecutor as InlineExecutor
from lambdamr.executors.local import LocalExecutor as LocalExecutor
from lambdamr.observers.estimate import Estimate as Estimate, estimate as estimate
from lambdamr.observers.report import Report as Report
from lambdamr.outcome import Outcome as Outcome
from lambdamr.partition import Partitions as Partitions, split as split
from lambdamr.retry import RetryPolicy as RetryPolicy

__version__: str

_R = TypeVar("_R")

class _Options(TypedDict, total=False):
    npartitions: int | None
    executor: Executor | str | None
    initial: Any
    fan_in: int
    retry: RetryPolicy | None
    timeout: float | None
    checkpoint: str | os.PathLike[str] | None
    max_cost: float | None
    progress: bool | None
    observers: Iterable[Observer]

@overload
def map_reduce(
    mapper: Callable[[Any], _R],
    reducer: Callable[[_R, _R], _R],
    data: Any,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[_Options],
) -> _R: ...
@overload
def map_reduce(
    mapper: Callable[[Any], _R],
    reducer: Callable[[_R, _R], _R],
    data: Any,
    *,
    errors: Literal["return"],
    **options: Unpack[_Options],
) -> Outcome[_R]: ...
@overload
async def amap_reduce(
    mapper: Callable[[Any], _R],
    reducer: Callable[[_R, _R], _R],
    data: Any,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[_Options],
) -> _R: ...
@overload
async def amap_reduce(
    mapper: Callable[[Any], _R],
    reducer: Callable[[_R, _R], _R],
    data: Any,
    *,
    errors: Literal["return"],
    **options: Unpack[_Options],
) -> Outcome[_R]: ...
