"""ROOT's RDataFrame on lambdamr: on processes of this machine, AWS Lambda, Dask and Spark.

    import PyRDF
    PyRDF.use("AWS", {"npartitions": "32"})       # or "local", "dask", "spark"
    df = PyRDF.RDataFrame("Events", files)        # then as with ROOT.RDataFrame

Needs ROOT 6.40. Not related to the package of this name on PyPI.
"""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

if importlib.util.find_spec("ROOT") is None:
    raise ImportError(
        "PyRDF needs ROOT 6.40 or newer: pip install 'root>=0.1a12', "
        "or activate the environment that has it (conda, CVMFS, thisroot.sh)",
        name="ROOT",
    )

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads of numpy: see isolation

if TYPE_CHECKING:
    from PyRDF.backends import local as local
    from PyRDF.errors import (
        IncompleteError as IncompleteError,
        InputError as InputError,
        PyRDFError as PyRDFError,
        RangeCrashedError as RangeCrashedError,
        RangeError as RangeError,
        UnsupportedError as UnsupportedError,
    )
    from PyRDF.session import (
        DistributeCppCode as DistributeCppCode,
        FromSpec as FromSpec,
        LiveVisualize as LiveVisualize,
        RDataFrame as RDataFrame,
        RunGraphs as RunGraphs,
        VariationsFor as VariationsFor,
        create_logger as create_logger,
        current_backend as current_backend,
        enable as enable,
        include_headers as include_headers,
        include_shared_libraries as include_shared_libraries,
        initialize as initialize,
        send_generic_files as send_generic_files,
        use as use,
    )
    from PyRDF.warm import warm_up as warm_up

_HOME = {
    **dict.fromkeys(["local"], "backends"),
    **dict.fromkeys(
        [
            "IncompleteError",
            "InputError",
            "PyRDFError",
            "RangeCrashedError",
            "RangeError",
            "UnsupportedError",
        ],
        "errors",
    ),
    **dict.fromkeys(
        [
            "DistributeCppCode",
            "FromSpec",
            "LiveVisualize",
            "RDataFrame",
            "RunGraphs",
            "VariationsFor",
            "create_logger",
            "current_backend",
            "enable",
            "include_headers",
            "include_shared_libraries",
            "initialize",
            "send_generic_files",
            "use",
        ],
        "session",
    ),
    "warm_up": "warm",
}
_SAME = {
    "DistributeHeaders": "include_headers",
    "DistributeSharedLibs": "include_shared_libraries",
    "DistributeFiles": "send_generic_files",
}
"""ROOT's names of today for functions of 2021."""

__all__ = [*_HOME, *_SAME]


def __getattr__(name: str) -> object:
    known = _SAME.get(name, name)
    if known not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[known]}"), known)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
