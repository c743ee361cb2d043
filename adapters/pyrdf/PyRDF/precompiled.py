"""Templates of RDataFrame that are compiled once, not whenever a worker starts, and what uses them.

python -m PyRDF.precompiled, when an image is built, or once on this machine, makes the library,
beside this module. It needs a C++ compiler; the worker does not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HEADER = Path(__file__).with_name("precompiled.h")
_CODE = Path(__file__).with_name("native.cpp")
_LINKED = ("Core", "RIO", "MathCore", "Hist", "Tree", "TreePlayer", "ROOTDataFrame", "ROOTNTuple")
_LOW, _HIGH = 0, 2  # levels of the interpreter's optimiser
_lowered = False


def build(compiler: str = "c++") -> None:
    """Make the library.

    Raises:
        subprocess.CalledProcessError: the compiler cannot; it has said why.
    """
    include, libraries = _root()
    # No contraction: the same bits as from the interpreter, on processors that could fuse.
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-s", "-ffp-contract=off"]
    options += [f"-I{include}", f"-L{libraries}"]
    # By a relative path: the two may be moved together.
    found = "$ORIGIN/" + os.path.relpath(libraries, HEADER.parent)
    linked = [f"-Wl,-rpath,{found}", *(f"-l{name}" for name in _LINKED)]
    made = library().with_suffix(f".{os.getpid()}")
    try:
        subprocess.run([compiler, *options, str(_CODE), "-o", str(made), *linked], check=True)
        made.replace(library())
    finally:
        made.unlink(missing_ok=True)
    for other in HEADER.parent.glob("libPyRDFPrecompiled*.so"):
        if other != library():
            other.unlink()


def _root() -> tuple[Path, Path]:
    """The headers and the libraries of ROOT, without importing it."""
    import importlib.util

    found = importlib.util.find_spec("ROOT")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("there is no ROOT to compile for")
    package = Path(found.origin).parent
    for prefix in (package, *package.parents[:2]):  # pip's ROOT; others are <prefix>/lib/ROOT
        if (prefix / "include/RVersion.h").exists():
            return prefix / "include", prefix / "lib"
    raise ModuleNotFoundError(f"there are no headers of ROOT near {package}")


@functools.cache
def library() -> Path:
    """Where the library is, if it is: one that was made of other sources has another name."""
    texts = map(Path.read_bytes, (_CODE, HEADER, HEADER.with_name("helpers.h")))
    digest = hashlib.blake2b(b"\0".join(texts), digest_size=8).hexdigest()
    return HEADER.with_name(f"libPyRDFPrecompiled-{digest}.so")


def available() -> bool:
    """Whether there is a library."""
    return library().exists()


@functools.cache
def load() -> bool:
    """Make the interpreter use the library; False if there is none."""
    import ROOT

    if not available():
        return False
    if ROOT.gSystem.Load(str(library())) < 0:
        raise RuntimeError(f"{library()} was made for another ROOT: python -m PyRDF.precompiled")
    if not ROOT.gInterpreter.Declare(f'#include "{HEADER}"'):
        raise RuntimeError(f"ROOT {ROOT.__version__} is not the one {HEADER} is for (6.40)")
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
