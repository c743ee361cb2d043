"""ROOT's interpreter and its settings: by `PyRDF.native` where that has started, else by Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyRDF import native, precompiled
from PyRDF.compiler import overheard


def declare(code: str) -> None:
    """Declare C++ that runs for each event.

    Raises:
        CompilationError: it does not compile; says what the compiler said.
        RuntimeError: the same, and the compiler did not say why.
    """
    with overheard(), precompiled.optimised():
        if not (native.declare(code) if native.started() else _root().gInterpreter.Declare(code)):
            raise RuntimeError("what the compiler said is above, or in the log")


def process(code: str) -> None:
    """Run C++."""
    if native.started():
        native.process(code)
    else:
        _root().gInterpreter.ProcessLine(code)


def add_include_path(folder: Path) -> None:
    """Where headers are found, too."""
    if native.started():
        native.add_include_path(str(folder))
    else:
        _root().gInterpreter.AddIncludePath(f"-I{folder}")


def add_library_path(folder: Path) -> None:
    """Where libraries are found, too."""
    if native.started():
        native.add_library_path(str(folder))
    else:
        _root().gSystem.AddDynamicPath(str(folder))


def load(library: Path, *, quiet: bool = False) -> bool:
    """Load a library with its dictionary; False if that fails, and ROOT says why unless quiet."""
    if native.started():
        return native.load(str(library), quiet)
    root = _root()
    level = root.gErrorIgnoreLevel
    if quiet:
        root.gErrorIgnoreLevel = root.kFatal
    try:
        return int(root.gSystem.Load(str(library))) >= 0
    finally:
        root.gErrorIgnoreLevel = level


def set_default(name: str, value: int) -> None:
    """A setting of ROOT's gEnv, unless the user has set it."""
    if native.started():
        native.set_default(name, value)
    elif not (settings := _root().gEnv).Defined(name):
        settings.SetValue(name, value)


def use_one_thread() -> None:
    """No implicit multithreading, which takes entries in another order each time."""
    if native.started():
        native.use_one_thread()
    elif (root := _root()).IsImplicitMTEnabled():
        root.DisableImplicitMT()


def _root() -> Any:
    import ROOT

    return ROOT
