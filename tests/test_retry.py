"""The policy of what is tried again."""

import dataclasses
import math
from typing import Any

import pytest

from lambdamr import InputError, RetryPolicy
from lambdamr.errors import InputTypeError


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 20.0), (10_000, 20.0)]
)
def test_the_longest_wait_doubles_up_to_max_delay(attempts: int, longest: float) -> None:
    assert RetryPolicy(base_delay=0.5, max_delay=20).longest_delay(attempts) == longest


def test_without_a_base_delay_nobody_waits() -> None:
    assert RetryPolicy(base_delay=0).longest_delay(5) == 0


def test_one_exception_class_does_as_a_tuple_of_one() -> None:
    assert RetryPolicy(retry_on=ConnectionError).retry_on == (ConnectionError,)  # type: ignore[arg-type]


def test_a_user_error_is_retried_if_one_of_its_bases_is_named() -> None:
    names = tuple(f"{c.__module__}.{c.__qualname__}" for c in ConnectionResetError.__mro__)
    assert RetryPolicy(retry_on=(OSError,)).retries_user_error(names)
    assert not RetryPolicy(retry_on=(ValueError, TimeoutError)).retries_user_error(names)


def test_by_default_no_user_error_is_retried() -> None:
    assert not RetryPolicy().retries_user_error(("builtins.ConnectionError", "builtins.Exception"))


def test_a_policy_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RetryPolicy().attempts = 5  # type: ignore[misc]


@pytest.mark.parametrize("patience", [0, 0.0, 1, 1e9, math.inf])
def test_any_patience_from_none_to_endless_will_do(patience: float) -> None:
    assert RetryPolicy(patience=patience).patience == patience


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"attempts": 0}, InputError, "attempts must be a whole number from 1 up, not 0"),
        ({"attempts": 2.0}, InputError, "attempts must be a whole number from 1 up, not 2.0"),
        ({"attempts": True}, InputError, "attempts must be a whole number from 1 up, not True"),
        (
            {"base_delay": -1},
            InputError,
            "base_delay must be a number of seconds from 0 up, not -1",
        ),
        (
            {"max_delay": math.nan},
            InputError,
            "max_delay must be a number of seconds from 0 up, not nan",
        ),
        (
            {"patience": "5"},
            InputTypeError,
            "patience must be a number of seconds from 0 up, not '5'",
        ),
        (
            {"patience": None},
            InputTypeError,
            "patience must be a number of seconds from 0 up, not None",
        ),
        (
            {"base_delay": True},
            InputTypeError,
            "base_delay must be a number of seconds from 0 up, not True",
        ),
        (
            {"straggler_factor": 0.5},
            InputError,
            "straggler_factor must be a number from 1 up, or None, not 0.5",
        ),
        ({"retry_on": (ValueError, 3)}, InputTypeError, "a tuple of exception classes, not 3"),
        ({"retry_on": ("ValueError",)}, InputTypeError, "not 'ValueError' in it"),
        ({"retry_on": (int,)}, InputTypeError, "not <class 'int'> in it"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        RetryPolicy(**wrong)
    assert message in str(caught.value)


def test_classes_may_come_as_a_list() -> None:
    policy = RetryPolicy(retry_on=[OSError])  # type: ignore[arg-type]
    assert policy.retries_user_error(("builtins.OSError",))


def test_stragglers_may_be_left_alone() -> None:
    assert RetryPolicy(straggler_factor=None).straggler_factor is None
