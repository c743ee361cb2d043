"""Map a function over the partitions of a dataset, and reduce the results to one value.

See `map_reduce`. Names are imported when they are first used: a worker needs none of them. Their
types are in ``__init__.pyi``.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "errors": (
        "BrokenExecutorError CheckpointError CostLimitError DeployError EmptyDataError "
        "InputError InputTypeError IntegrityError LambdamrError "
        "MapperError OutOfMemoryError PartitionError PartitionTimeoutError "
        "ReducerError ResultError ThrottledError UnpicklableError "
        "WorkerLostError"
    ),
    "executors.aws_lambda": "LambdaExecutor",
    "executors.dask": "DaskExecutor",
    "executors.inline": "InlineExecutor",
    "executors.local": "LocalExecutor",
    "mapreduce": "amap_reduce map_reduce",
    "observers.estimate": "Estimate estimate",
    "observers.report": "Report",
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
