"""Templates of RDataFrame that are compiled once, not whenever a worker starts.

python -m PyRDF.precompiled, when an image is built, or once on this machine, makes the library,
beside this module. It needs a C++ compiler; the worker does not.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_HEADER = Path(__file__).with_name("precompiled.h")
_LIBRARY = Path(__file__).with_name("libPyRDFPrecompiled.so")
_LOW, _HIGH = 0, 2  # levels of the interpreter's optimiser
_lowered = False


def build(compiler: str = "c++") -> None:
    """Make the library.

    Raises:
        subprocess.CalledProcessError: the compiler cannot; it has said why.
    """
    import importlib.util

    found = importlib.util.find_spec("ROOT")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("there is no ROOT to compile for")
    include = Path(found.origin).parent / "include"
    # No contraction: the same bits as from the interpreter, on processors that could fuse.
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-DPYRDF_DEFINE"]
    command = [compiler, *options, f"-I{include}", "-x", "c++", str(_HEADER), "-o", str(_LIBRARY)]
    subprocess.run([*command, "-s"], check=True)


def available() -> bool:
    """Whether there is a library."""
    return _LIBRARY.exists()


def load() -> bool:
    """Make the interpreter use the library; False if there is none."""
    import ROOT

    if not available():
        return False
    if ROOT.gSystem.Load(str(_LIBRARY)) < 0:
        raise RuntimeError(f"{_LIBRARY} was made for another ROOT: python -m PyRDF.precompiled")
    if not ROOT.gInterpreter.Declare(f'#include "{_HEADER}"'):
        raise RuntimeError(f"ROOT {ROOT.__version__} is not the one {_HEADER} is for (6.40)")
    return True


def lower() -> None:
    """From now on compile quickly what Python calls; what runs for each event is `optimised`."""
    global _lowered
    _lowered = True
    _level(_LOW)


@contextlib.contextmanager
def optimised() -> Iterator[None]:
    """What is compiled in here runs for each event."""
    if not _lowered:
        yield
        return
    _level(_HIGH)
    try:
        yield
    finally:
        _level(_LOW)


def _level(level: int) -> None:
    import ROOT

    ROOT.gInterpreter.ProcessLine(f".O {level}")


if __name__ == "__main__":
    build(*sys.argv[1:])
