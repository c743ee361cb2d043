"""What runs in workers to choose, or to see, how they book graphs; imports no ROOT."""

from __future__ import annotations

import sys


def as_ever():
    """A template whose workers have no library: Python books their graphs."""
    from PyRDF import native, warm

    native.available = lambda: False
    warm.warm_up()


def without_python():
    """A template that knows ROOT by the library alone."""
    from PyRDF import warm

    warm.start()


def has_root(_):
    """Whether the worker has ROOT for Python."""
    return "ROOT" in sys.modules
