"""The few lines of C++ that ROOT's Python interface leaves to be written, as Python sees them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

HEADER = Path(__file__).with_name("helpers.h")


@functools.cache
def helpers() -> Any:
    """The namespace of them, compiled when it is first used."""
    import ROOT

    if not ROOT.gInterpreter.Declare(f'#include "{HEADER}"'):
        raise RuntimeError(f"ROOT {ROOT.__version__} is not one that PyRDF knows (6.40)")
    return ROOT.PyRDF
