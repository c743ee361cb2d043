"""What a job with errors="return" came to."""

import os
import re

import pytest

import lambdamr
from lambdamr import (
    LambdamrError,
    MapperError,
    Outcome,
    Partitions,
    ReducerError,
    ResultError,
    map_reduce,
)


def picky(partition):
    if 3 in partition or 7 in partition:
        raise ValueError(f"no {partition}")
    return list(partition)


def add(a, b):
    return a + b


def run(mapper, reducer, data, **options):
    options = {"executor": "inline", "errors": "return", **options}
    return map_reduce(mapper, reducer, data, **options)


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_it_says_what_is_in_the_value_and_what_is_not(executor):
    outcome = run(picky, add, range(10), executor=executor)
    assert outcome.value == [0, 1, 2, 4, 5, 6, 8, 9]
    assert outcome.failed == (3, 7)
    assert outcome.succeeded == (0, 1, 2, 4, 5, 6, 8, 9)
    assert [(type(error), error.lo, error.hi) for error in outcome.failures] == [
        (MapperError, 3, 4),
        (MapperError, 7, 8),
    ]
    assert re.fullmatch(r"<Outcome: 8 of 10 partitions in the value>", repr(outcome))


def test_what_failed_can_be_submitted_again():
    outcome = run(picky, add, range(10), npartitions=5)
    assert outcome.failed == (1, 3)
    again = run(list, add, outcome.remaining)
    assert again.value == [2, 3, 6, 7]
    assert again.failures == ()


def test_elements_of_partitions_are_submitted_again_as_they_were():
    outcome = run(picky, add, Partitions([[1], [3], (7, 7)]))
    assert list(outcome.remaining) == [[3], (7, 7)]


def test_all_that_succeeds_is_the_value_and_nothing_remains():
    outcome = run(list, add, range(4))
    assert (outcome.value, outcome.failed, list(outcome.remaining)) == ([0, 1, 2, 3], (), [])


def test_no_value_is_an_error_that_has_the_reason_as_its_cause():
    outcome = run(picky, add, [3, 7])
    with pytest.raises(LambdamrError, match="no partition succeeded; failures says why") as caught:
        _ = outcome.value
    assert caught.value.__cause__ is outcome.failures[0]
    assert outcome.succeeded == ()


def test_initial_stands_before_what_succeeded():
    assert run(picky, add, range(5), initial=["first"]).value == ["first", 0, 1, 2, 4]


def test_initial_is_the_value_if_nothing_succeeded():
    outcome = run(picky, add, [3, 7], initial=["first"])
    assert outcome.value == ["first"]
    assert outcome.failed == (0, 1)


def test_empty_data_has_initial_as_its_value():
    outcome = run(picky, add, [], initial=5)
    assert isinstance(outcome, Outcome)
    assert (outcome.value, outcome.failed, outcome.succeeded) == (5, (), ())


def test_a_reduction_that_fails_takes_its_partitions_along():
    def reducer(a, b):
        if 5 in b:
            raise ArithmeticError("five")
        return a + b

    outcome = run(list, reducer, range(8), npartitions=8)
    (error,) = outcome.failures
    assert isinstance(error, ReducerError)
    assert (error.lo, error.hi) == (4, 6)
    assert "partitions 4 to 5 of 8 failed after 1 attempt in the reducer" in str(error)
    assert outcome.failed == (4, 5)
    assert outcome.value == [0, 1, 2, 3, 6, 7]
    assert list(outcome.remaining) == [range(4, 5), range(5, 6)]


def test_a_value_that_cannot_be_sent_back_is_a_failure_of_its_partition():
    def mapper(partition):
        return (x for x in partition) if partition[0] == 2 else list(partition)

    def reducer(a, b):
        return list(a) + list(b)

    outcome = run(mapper, reducer, range(4), npartitions=4, fan_in=4, executor="local")
    if outcome.failures:  # unless it was folded where it was made
        assert all(isinstance(error, ResultError) for error in outcome.failures)
        assert "Return plain data" in str(outcome.failures[0])
    assert sorted({*outcome.value, *outcome.failed}) == [0, 1, 2, 3]


def test_a_lost_worker_is_a_failure_with_advice():
    def mapper(partition):
        if partition[0] == 1:
            os._exit(3)
        return 1

    outcome = run(
        mapper,
        add,
        range(3),
        executor="local",
        retry=lambdamr.RetryPolicy(attempts=2, base_delay=0.01),
    )
    (error,) = outcome.failures
    assert type(error) is lambdamr.WorkerLostError
    assert "failed after 2 attempts: the worker exited with status 3" in str(error)
    assert "executor='inline' under a debugger" in str(error)
    assert outcome.value == 2


def test_an_outcome_is_frozen():
    outcome = run(list, add, range(2))
    with pytest.raises(AttributeError):
        outcome.failures = ()
