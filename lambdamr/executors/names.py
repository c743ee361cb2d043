"""Which executor is meant: an object, or one that works without settings, by its name."""

from __future__ import annotations

import importlib

from lambdamr.errors import InputError, InputTypeError
from lambdamr.executor import Executor

NAMED: dict[str, tuple[str, str, dict[str, object]]] = {
    "inline": ("lambdamr.executors.inline", "InlineExecutor", {}),
    "lambda": ("lambdamr.executors.aws_lambda", "LambdaExecutor", {}),
    "local": ("lambdamr.executors.local", "LocalExecutor", {"stay_warm": False}),
}
"""Module, class, arguments."""


def resolve(executor: Executor | str | None) -> Executor:
    """The executor that is meant.

    Raises:
        InputError: there is none of this name, or it needs settings.
    """
    if executor is None:
        executor = "local"
    if isinstance(executor, str):
        known = ", ".join(repr(name) for name in sorted(NAMED))
        if executor == "dask":
            raise InputError("executor='dask' needs a client: pass lambdamr.DaskExecutor(client)")
        if executor not in NAMED:
            raise InputError(f"there is no executor named {executor!r}; known are {known}")
        module, name, arguments = NAMED[executor]
        made: Executor = getattr(importlib.import_module(module), name)(**arguments)
        return made
    if isinstance(executor, type):
        raise InputTypeError(
            f"executor is the class {executor.__name__}, not an object of it; "
            f"write executor={executor.__name__}()"
        )
    if not isinstance(executor, Executor):
        raise InputTypeError(
            f"executor must be a name or have open() (see lambdamr.executor.Executor), "
            f"not {type(executor).__name__}"
        )
    return executor
