"""Map a function over the partitions of a dataset, and reduce the results to one value.

See `map_reduce`. Names are imported when they are first used: a worker needs none of them.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lambdamr.errors import (
        BrokenExecutorError as BrokenExecutorError,
        CheckpointError as CheckpointError,
        CostLimitError as CostLimitError,
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
    from lambdamr.executors.dask import DaskExecutor as DaskExecutor
    from lambdamr.executors.inline import InlineExecutor as InlineExecutor
    from lambdamr.executors.local import LocalExecutor as LocalExecutor
    from lambdamr.mapreduce import amap_reduce as amap_reduce, map_reduce as map_reduce
    from lambdamr.outcome import Outcome as Outcome
    from lambdamr.partition import Partitions as Partitions, split as split
    from lambdamr.retry import RetryPolicy as RetryPolicy

_MODULES = {
    "errors": (
        "BrokenExecutorError CheckpointError CostLimitError EmptyDataError "
        "InputError InputTypeError IntegrityError LambdamrError "
        "MapperError OutOfMemoryError PartitionError PartitionTimeoutError "
        "ReducerError ResultError ThrottledError UnpicklableError "
        "WorkerLostError"
    ),
    "executors.dask": "DaskExecutor",
    "executors.inline": "InlineExecutor",
    "executors.local": "LocalExecutor",
    "mapreduce": "amap_reduce map_reduce",
    "outcome": "Outcome",
    "partition": "Partitions split",
    "retry": "RetryPolicy",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
