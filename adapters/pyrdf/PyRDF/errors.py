"""What goes wrong, by name; all of them are `lambdamr.LambdamrError` too."""

from __future__ import annotations

from lambdamr.errors import LambdamrError


class PyRDFError(LambdamrError):
    """The root of this package's errors."""


class InputError(PyRDFError, ValueError):
    """An argument or a dataset cannot be used; nothing was sent. The message says what to do."""


class UnsupportedError(PyRDFError, AttributeError):
    """A method of RDataFrame that cannot be distributed."""


class RangeError(PyRDFError, RuntimeError):
    """A range of entries failed; the message has its number, its entries and files, and why."""


class RangeCrashedError(RangeError):
    """The C++ code that processed a range died of a signal, such as SIGSEGV."""


class IncompleteError(PyRDFError, RuntimeError):
    """The entries that were processed are not those of the dataset: it changed meanwhile."""
