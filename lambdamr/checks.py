"""Is an argument what it should be? Each answer says what to do instead."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
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


def count(name: str, value: object) -> int | None:
    """The value, if it is None or a whole number of at least 1.

    Raises:
        InputError: it is neither.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"{name} must be a whole number, not {value!r:.60}")
    if value < 1:
        raise InputError(f"{name} must be at least 1, not {value}")
    return value
