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


def reason(error: BaseException) -> str:
    """What an exception says, on one line; of one of C++ without the signatures it came through."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.endswith(("=>", "resolution failed:"))]
    text = "; ".join(dict.fromkeys(said))
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}"
