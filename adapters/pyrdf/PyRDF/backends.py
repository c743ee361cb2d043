"""The backends of `use`: their names, the keys they know, and the executors they make."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import lambdamr
from lambdamr import LocalExecutor
from PyRDF.engine import Engine, count
from PyRDF.errors import InputError
from PyRDF.warm import warm_up

_JOB = ("retry", "timeout", "checkpoint", "max_cost", "progress", "observers")
_LOCAL = ("workers", "memory", "max_tasks_per_child")


def local(workers: int | None = None, **settings: Any) -> LocalExecutor:
    """An executor of processes on this machine that have ROOT ready; they start now, meanwhile.

    Args:
        workers: how many; default the CPUs that this process may use.
        settings: others of `lambdamr.LocalExecutor`.
    """
    executor = LocalExecutor(workers, warm_up=warm_up, **settings)
    executor.prepare()
    return executor


@functools.cache
def _local(settings: tuple[tuple[str, Any], ...]) -> LocalExecutor:
    """One for each settings, so that workers stay warm when a notebook calls `use` again."""
    return local(**dict(settings))


def _make_local(conf: dict[str, Any]) -> Any:
    given = {key: conf.pop(key) for key in _LOCAL if key in conf}
    if isinstance(given.get("memory"), list):
        given["memory"] = tuple(given["memory"])
    if "workers" in given:
        given["workers"] = count(given["workers"], "workers")
    return _local(tuple(sorted(given.items())))


def _make_aws(conf: dict[str, Any]) -> Any:
    given = {key: conf.pop(key) for key in _aws_keys() if key in conf}
    secrets = given.get("secrets")
    for name, reference in secrets.items() if isinstance(secrets, Mapping) else ():
        if name in _FILES and not str(reference).startswith("file:"):
            raise InputError(
                f"{name} is the path of a file: say secrets={{{name!r}: 'file:...'}}, so that the "
                f"functions get one"
            )
    if "warm" in given:
        given["warm"] = count(given["warm"], "warm")
    executor = _aws_executor()(**given)
    executor.prepare()
    return executor


_FILES = ("BEARER_TOKEN_FILE", "KRB5CCNAME", "X509_USER_CERT", "X509_USER_KEY", "X509_USER_PROXY")
"""Variables in which XRootD looks for the path of a credential."""


def _aws_executor() -> Any:
    try:
        return lambdamr.LambdaExecutor
    except (AttributeError, ImportError) as error:
        raise InputError(f"use('AWS') needs lambdamr with its AWS part: {error}") from error


def _aws_keys() -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(_aws_executor()).parameters)


def _make_dask(conf: dict[str, Any]) -> Any:
    client = conf.pop("client", None) or conf.pop("daskclient", None)
    patience = {"patience": conf.pop("patience")} if "patience" in conf else {}
    given = {key: conf.pop(key) for key in _DASK if key in conf}
    if client is None:
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError("use('dask') needs Dask: pip install 'lambdamr[dask]'") from error
        if not given.get("address"):
            given.setdefault("threads_per_worker", 1)  # ROOT works better in processes
            given.setdefault("processes", True)
        make: Any = Client
        client = make(**given)
    elif given:
        raise InputError(f"client is given, so {', '.join(given)} cannot be")
    return lambdamr.DaskExecutor(client, **patience)


_DASK = (
    "address",
    "n_workers",
    "threads_per_worker",
    "processes",
    "memory_limit",
    "security",
    "timeout",
    "scheduler_file",
    "dashboard_address",
)


def _make_spark(conf: dict[str, Any]) -> Any:
    from PyRDF.spark import SparkExecutor, context

    settings = {key: conf.pop(key) for key in list(conf) if key.startswith("spark.")}
    return SparkExecutor(conf.pop("sparkcontext", None) or context(settings))


_BACKENDS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], Callable[[], tuple[str, ...]]]] = {
    "local": ("local", _make_local, lambda: _LOCAL),
    "aws": ("AWS", _make_aws, _aws_keys),
    "dask": ("dask", _make_dask, lambda: ("client", "patience", *_DASK)),
    "spark": ("spark", _make_spark, lambda: ("sparkcontext", "spark.*")),
}


def engine(name: str, conf: Mapping[str, Any] | None = None) -> Engine:
    """The engine of a backend.

    Args:
        name: "local", "AWS", "dask" or "spark", in any case.
        conf: ``npartitions``, ``report`` (a file, or several: see `lambdamr.Report`), arguments of
            `lambdamr.map_reduce` (retry, timeout, ...), and those of the executor.

    Raises:
        InputError: there is none of this name, or ``conf`` has keys that it does not know.
    """
    backend = _BACKENDS.get(str(name).lower())
    if backend is None:
        known = ", ".join(repr(shown) for shown, _, _ in _BACKENDS.values())
        raise InputError(f"there is no backend {name!r:.60}; known are {known}")
    if conf is not None and not isinstance(conf, Mapping):
        raise InputError(f"the configuration must be a dict, not {conf!r:.60}")
    shown, make, keys = backend
    left = dict(conf) if conf else {}
    npartitions = count(left.pop("npartitions", None))
    options = {key: left.pop(key) for key in _JOB if key in left and key not in keys()}
    if "report" in left:
        report = left.pop("report")
        files = [report] if isinstance(report, (str, os.PathLike)) else report
        options["observers"] = (*options.get("observers", ()), lambdamr.Report(*files))
    spark = [key for key in left if shown == "spark" and key.startswith("spark.")]
    if unknown := set(left) - set(keys()) - set(spark):
        known = ", ".join(sorted({"npartitions", "report", *_JOB, *keys()}))
        raise InputError(
            f"the configuration of {shown!r} has no {', '.join(map(repr, sorted(unknown)))}; "
            f"known are {known}"
        )
    return Engine(shown, make(left), npartitions, options)
