"""Is an argument what it should be? Each answer says what to do instead."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from numbers import Integral
from typing import Any

from lambdamr.errors import InputError, InputTypeError


def check(
    name: str, value: object, kind: Any, what: str, accepts: Callable[[Any], object] | None = None
) -> None:
    """Whether an argument is of a kind (a class, or several), and accepted.

    Raises:
        InputTypeError: it is of another kind.
        InputError: it is of this kind, but not accepted.
    """
    message = f"{name} must be {what}, not {reprlib.repr(value)}"
    if not isinstance(value, kind) or (isinstance(value, bool) and kind != bool | None):
        raise InputTypeError(message)
    if accepts is not None and not accepts(value):
        raise InputError(message)


def count(name: str, value: Any, least: int = 1) -> int | None:
    """The value, if it is a whole number from ``least`` up, or None.

    Raises:
        InputError: it is neither.
    """
    what = f"a whole number from {least} up"
    check(name, value, Integral | None, what, lambda n: n is None or n >= least)
    return None if value is None else int(value)
