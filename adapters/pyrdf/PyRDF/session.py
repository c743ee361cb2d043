"""The functions of PyRDF: those of 2021, and those of ROOT's distributed RDataFrame today."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lambdamr.executor import Executor
from PyRDF import backends, dataframe, job, live
from PyRDF.dataframe import ResultProxy
from PyRDF.engine import Engine, engine_of
from PyRDF.errors import InputError
from PyRDF.registry import REGISTRY, collect
from PyRDF.resources import Resource, apply_here, declare

_state: dict[str, Engine] = {}


def use(name: str, conf: Mapping[str, Any] | None = None) -> None:
    """Choose where dataframes run from now on.

    Args:
        name: "local", "AWS", "dask" or "spark", in any case.
        conf: ``npartitions`` (a number, also as a string), ``report`` (the file, or files, of a
            report of each job, see `lambdamr.Report`), arguments of `lambdamr.map_reduce`
            (retry, timeout, checkpoint, max_cost, progress, observers), and settings of the
            executor, the Dask client or the Spark configuration.

    Raises:
        InputError: the name or a key is not known; the message lists those that are.
    """
    _state["engine"] = backends.engine(name, conf)


def current_backend() -> Engine:
    """Where dataframes run: what `use` said last, else processes on this machine."""
    if "engine" not in _state:
        use("local")
    return _state["engine"]


def RDataFrame(  # as in ROOT
    *arguments: Any, executor: Any = None, npartitions: object = None
) -> dataframe.RDataFrame:
    """A distributed dataframe.

    Args:
        arguments: those of ROOT.RDataFrame.
        executor: an executor of lambdamr, a Dask client or a Spark context; default: see `use`.
        npartitions: ranges to cut the dataset into; default: what `use` said, else by its size.
    """
    engine = current_backend() if executor is None else engine_of(executor)
    _divert_results()
    return dataframe.RDataFrame(*arguments, engine=engine, npartitions=npartitions)


def FromSpec(jsonfile: str, *, executor: Any = None, npartitions: object = None) -> Any:
    """A distributed dataframe of a dataset that a JSON file specifies."""
    import ROOT

    try:
        spec = ROOT.Internal.RDF.RetrieveSpecFromJson(str(jsonfile))
    except Exception as error:  # C++ raises anything
        raise InputError(f"the specification {jsonfile!s} cannot be read: {error}") from error
    return RDataFrame(spec, executor=executor, npartitions=npartitions)


def include_headers(paths: str | Iterable[str]) -> None:
    """Declare C++ headers here and on the workers; of a folder all that is in it."""
    _add_here(collect(paths, "header"))


def include_shared_libraries(paths: str | Iterable[str]) -> None:
    """Load shared libraries here and on the workers, with the ``.pcm`` files beside them."""
    _add_here(collect(paths, "library"))


def send_generic_files(paths: str | Iterable[str]) -> None:
    """Send files to the workers, where their paths relative to this folder work as they do here.

    Graphs that run from now on read what is in the files now; call it again after a change.
    """
    found = collect(paths, "file")
    REGISTRY.check(found)
    REGISTRY.add(found.values())


def DistributeCppCode(code: str) -> None:
    """Declare C++ here and on the workers."""
    _apply(lambda: declare(code, "the code of DistributeCppCode", mentions=REGISTRY.mentions))
    REGISTRY.add_code(code)


def initialize(function: Callable[..., object], *arguments: Any, **keywords: Any) -> None:
    """Call a function here, and on each worker before it builds a graph."""
    call = functools.partial(function, *arguments, **keywords)
    call()
    REGISTRY.begin_with(call)


def RunGraphs(results: Iterable[ResultProxy]) -> int:
    """Compute results of several dataframes, at the same time where there is room; how many ran."""
    return job.run_graphs(results)


def VariationsFor(result: ResultProxy) -> ResultProxy:
    """The values of a result under all variations; see `PyRDF.results.Variations`."""
    return dataframe.variations_for(result)


def LiveVisualize(drawables: Any, callback: Callable[[Any], object] | None = None) -> None:
    """Draw results while they grow: a list of them, or a dict of results and callbacks."""
    live.visualize(drawables, callback)


def create_logger(level: str = "WARNING", log_path: str | None = None) -> logging.Logger:
    """A logger for this package and lambdamr, to the terminal and, if given, to a file."""
    if level.upper() not in logging.getLevelNamesMapping():
        raise InputError(f"there is no log level {level!r}; use DEBUG, INFO, WARNING or ERROR")
    logger = logging.getLogger("PyRDF")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_path:
        handlers.append(logging.FileHandler(log_path))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("PyRDF", "lambdamr"):
        each = logging.getLogger(name)
        each.setLevel(level.upper())
        for old in each.handlers:
            old.close()
        each.handlers[:] = handlers
    return logger


def enable() -> None:
    """Let ROOT itself take executors of lambdamr, as ``executor=``. Once is enough.

    That is ROOT.RDataFrame and ROOT.RDF.Experimental.FromSpec.
    """
    import ROOT._distrdf

    def is_ours(*_: Any, executor: Any = None, **__: Any) -> bool:
        return isinstance(executor, (str, Executor))

    # Where ROOT 6.40 sends all that have an ``executor=``.
    _divert(ROOT._distrdf, "RDataFrame", RDataFrame, is_ours)
    _divert(ROOT.RDF.Experimental, "FromSpec", FromSpec, is_ours)
    _divert_results()


def _divert_results() -> None:
    """Have ROOT's own functions take our results, as those of its own backends."""
    import ROOT

    def is_ours(result: Any) -> bool:
        return isinstance(result, ResultProxy)

    _divert(ROOT.RDF.Experimental, "VariationsFor", VariationsFor, is_ours)
    _divert(ROOT.RDF, "RunGraphs", RunGraphs, lambda results: any(map(is_ours, results)))


def _divert(owner: Any, name: str, ours: Callable[..., Any], wanted: Callable[..., bool]) -> None:
    """Have calls of a function of ROOT go to ours where they are for us."""
    original = getattr(owner, name)
    if getattr(original, "pyrdf", False):
        return

    @functools.wraps(original, updated=())
    def either(*arguments: Any, **keywords: Any) -> Any:
        return (ours if wanted(*arguments, **keywords) else original)(*arguments, **keywords)

    either.pyrdf = True  # type: ignore[attr-defined]
    setattr(owner, name, either)


def _add_here(found: Mapping[Path, Resource]) -> None:
    REGISTRY.check(found)
    _apply(lambda: apply_here(found, REGISTRY.mentions))
    REGISTRY.add(found.values())


def _apply(action: Callable[[], object]) -> None:
    try:
        action()
    except RuntimeError as error:
        raise InputError(str(error)) from error
